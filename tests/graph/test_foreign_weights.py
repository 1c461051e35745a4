"""Weights as other tools write them: shards with an index, dicts in dicts, prefixes, averages, and other heads."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import flowconf
from flowconf.cli.main import main

GRAPH = """\
inputs: {x: [B, 4]}
flow:
  body:
    graph: {inputs: {x: [B, 4]}, flow: {first: 'Linear(4, 4)', norm: LayerNorm(4), head: 'Linear(4, 2)'}}
    checkpoint: FROM
"""


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    return {
        "first.weight": torch.randn(4, 4),
        "first.bias": torch.randn(4),
        "norm.weight": torch.randn(4),
        "norm.bias": torch.randn(4),
        "head.weight": torch.randn(2, 4),
        "head.bias": torch.randn(2),
    }


def write(source: str) -> str:
    Path("graph.yaml").write_text(GRAPH.replace("FROM", source))
    return "graph.yaml"


def loaded(source: str) -> dict[str, torch.Tensor]:
    """The weights that the graph has, which `check` finds nothing wrong with."""
    assert [found for found in flowconf.check(write(source)) if found.severity == "error"] == []
    return flowconf.build("graph.yaml").module_at("body").state_dict()


def reported(source: str) -> tuple[str, str, str]:
    (found,) = [one for one in flowconf.check(write(source)) if one.severity == "error"]
    assert found.place.line == 5
    return found.code, found.message, found.help or ""


def same(found, weights):
    return all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def shard(weights, ending="safetensors", stem="model"):
    """Weights in two files with an index."""
    names = sorted(weights)
    files = {f"{stem}-0000{number}-of-00002.{ending}": names[number - 1 :: 2] for number in (1, 2)}
    for file, own in files.items():
        (save_file if ending == "safetensors" else torch.save)({name: weights[name] for name in own}, file)
    index = {"metadata": {}, "weight_map": {name: file for file, own in files.items() for name in own}}
    Path(f"{stem}.{ending}.index.json").write_text(json.dumps(index))
    return index


@pytest.mark.parametrize(("ending", "stem"), [("safetensors", "model"), ("bin", "pytorch_model")])
def test_shards_with_an_index(ending, stem, weights, tmp_path):
    shard(weights, ending, stem)
    assert same(loaded(f"{stem}.{ending}.index.json"), weights)
    assert same(loaded(str(tmp_path)), weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("weight_map"), "it has no `weight_map`"),
        (lambda index: index["weight_map"].update({"head.bias": "../other.safetensors"}), "is not in a file beside it"),
        (lambda index: index["weight_map"].update({"head.bias": "other.safetensors"}), "is not beside it"),
        (lambda index: index["weight_map"].update({"x": next(iter(index["weight_map"].values()))}), "its index says"),
    ],
)
def test_an_index_that_is_wrong(change, message, weights):
    index = shard(weights)
    change(index)
    Path("model.safetensors.index.json").write_text(json.dumps(index))
    code, said, _ = reported("model.safetensors.index.json")
    assert code == "FC0301"
    assert message in said


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "[" * 5000])
def test_an_index_that_is_none(text, weights):
    Path("model.safetensors.index.json").write_text(text)
    assert reported("model.safetensors.index.json")[0] == "FC0301"


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.ckpt"])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3, "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(1)}}}]},
        lambda w: {"model_state_dict": w, "optimizer_state_dict": {"momentum": torch.ones(3)}, "loss": 0.5},
        lambda w: {"model": w, "args": {"lr": 1}, "scaler": {"scale": torch.ones(1)}},
        lambda w: {"net": {"state_dict": w}},
    ],
)
def test_a_dict_in_a_dict(name, wrapped, weights):
    torch.save(wrapped(weights), name)
    assert same(loaded(name), weights)


def test_a_file_of_the_hub_in_a_folder(weights):
    Path("folder").mkdir()
    torch.save(weights, "folder/pytorch_model.bin")
    assert same(loaded("folder"), weights)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, "folder/model.safetensors")
    assert not same(loaded("folder"), weights)


@pytest.mark.parametrize("prefix", ["module", "model", "_orig_mod", "_orig_mod.module", "model.encoder"])
def test_a_prefix_is_found_and_proposed(prefix, weights):
    torch.save({"state_dict": {f"{prefix}.{name}": tensor for name, tensor in weights.items()}}, "w.ckpt")
    code, _, advice = reported("w.ckpt")
    assert code == "FC0302"
    assert advice == f"add `at: {prefix}` (6 of 6 would match)"
    assert same(loaded(f"{{path: w.ckpt, at: {prefix}}}"), weights)


def test_averages_are_another_set(weights, capsys):
    averages = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({"state_dict": weights, "state_dict_ema": averages}, "w.pth")
    assert same(loaded("w.pth"), weights)
    assert same(loaded("{path: w.pth, at: state_dict_ema}"), averages)
    report = flowconf.build("graph.yaml", weights=False).load("w.pth", at="body")
    assert report.others == {"state_dict_ema": 6}
    assert "state_dict_ema: 6 in the file, another set, which `at: state_dict_ema` loads" in str(report)
    assert main(["weights", "w.pth"]) == 0
    assert "state_dict_ema" in capsys.readouterr().out


def test_several_sets_without_a_usual_name(weights):
    torch.save({"student": weights, "teacher": weights}, "w.pt")
    code, message, advice = reported("w.pt")
    assert code == "FC0301"
    assert "several sets of tensors: `student`, `teacher`" in message
    assert advice == "choose one, as in `at: student`"
    assert same(loaded("{path: w.pt, at: teacher}"), weights)


def test_another_head_is_accounted_for(weights):
    other = {**weights, "head.weight": torch.ones(7, 4), "head.bias": torch.ones(7)}
    save_file(other, "w.safetensors")
    code, message, advice = reported("w.safetensors")
    assert code == "FC0305"
    assert "`body.head.weight` has shape [2, 4], but [7, 4]" in message
    assert advice == "write `mismatched: ignore` to keep the values that they have here"
    found = loaded("{path: w.safetensors, mismatched: ignore}")
    assert same(found, {name: tensor for name, tensor in weights.items() if not name.startswith("head")})
    report = flowconf.build("graph.yaml", weights=False).load("w.safetensors", at="body", mismatched="ignore")
    assert report.mismatched == [("head.weight", (2, 4), (7, 4)), ("head.bias", (2,), (7,))]
    assert len(report.loaded) == 4


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("mark"),)


@pytest.mark.parametrize("name", ["w.bin", "w.ckpt", "w.pt", "model.bin.index.json"])
@pytest.mark.parametrize("harm", [Harmful(), argparse.Namespace(lr=1)])
def test_no_pickle_is_opened(name, harm, weights):
    file = name
    if name.endswith(".json"):
        file = "shard.bin"
        Path(name).write_text(json.dumps({"weight_map": {"first.weight": file}}))
    Path(file).write_bytes(pickle.dumps({"state_dict": weights, "hyper_parameters": harm}))
    code, message, _ = reported(name)
    assert code == "FC0301"
    assert "cannot be read as weights" in message
    with pytest.raises(flowconf.ConfigError):
        flowconf.build("graph.yaml")
    torch.save({"state_dict": weights, "hyper_parameters": harm}, file)
    assert reported(name)[0] == "FC0301"
    assert not Path("mark").exists()
