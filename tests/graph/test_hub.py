"""Weights of the hub, from a server on loopback that speaks its protocol, and its keys where there is no client."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import flowconf
from flowconf.cli.main import main

GRAPH = "inputs: {x: [B, 4]}\nflow:\n  a:\n    through: Linear(4, 2)\n    checkpoint: FROM\n"


def write(source: str) -> str:
    Path("graph.yaml").write_text(GRAPH.replace("FROM", source))
    return "graph.yaml"


@pytest.fixture
def weights():
    return {"weight": torch.randn(2, 4), "bias": torch.randn(2)}


@pytest.fixture
def model(hub, weights, tmp_path, monkeypatch):
    """A hub with `org/model`."""
    monkeypatch.chdir(tmp_path)
    (hub.folder / "org" / "model").mkdir(parents=True)
    save_file(weights, hub.folder / "org" / "model" / "model.safetensors")
    return hub


def reported() -> tuple[str, int, str]:
    with pytest.raises(flowconf.ConfigError) as raised:
        flowconf.build("graph.yaml")
    (found,) = raised.value.diagnostics
    return found.code, found.place.column, found.message


def same(graph, weights):
    return all(torch.equal(tensor, weights[name]) for name, tensor in graph.module_at("a").state_dict().items())


def test_weights_are_downloaded_once(model, weights, capsys):
    write("{hub: org/model}")
    assert main(["check", "graph.yaml"]) == 0
    assert "checked when they are downloaded: the weights of `org/model`" in "".join(capsys.readouterr())
    assert model.asked == []
    assert same(flowconf.build("graph.yaml"), weights)
    gets = [one for one in model.asked if one.startswith("GET")]
    assert same(flowconf.build("graph.yaml"), weights)
    assert [one for one in model.asked if one.startswith("GET")] == gets
    assert main(["check", "graph.yaml"]) == 0
    assert "downloaded" not in "".join(capsys.readouterr())
    assert main(["summary", "graph.yaml"]) == 0
    assert "hub org/model" in capsys.readouterr().out


def test_a_commit_and_a_digest_ask_no_one_again(model, weights):
    file = model.folder / "org" / "model" / "model.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    write(f"{{hub: org/model, revision: {model.commit}, file: model.safetensors, sha256: {digest}}}")
    assert same(flowconf.build("graph.yaml"), weights)
    model.asked.clear()
    assert same(flowconf.build("graph.yaml"), weights)
    assert model.asked == []
    write(f"{{hub: org/model, sha256: {'0' * 64}}}")
    assert reported()[0] == "FC0306"


def test_shards_and_pickles(model, weights):
    folder = model.folder / "org" / "model"
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert same(flowconf.build(write("{hub: org/model}")), weights)
    for number, (name, tensor) in enumerate(weights.items()):
        save_file({name: tensor + 1}, folder / f"part-{number}.safetensors")
    names = {name: f"part-{number}.safetensors" for number, name in enumerate(weights)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    found = flowconf.build(write("{hub: org/model, file: model.safetensors.index.json}")).module_at("a")
    assert torch.equal(found.weight, weights["weight"] + 1)


@pytest.mark.parametrize(
    ("source", "column", "message"),
    [
        ("{hub: org/other}", 23, "the hub has no public `org/other`"),
        ("{hub: org/model, revision: v9}", 44, "`org/model` has no revision `v9`"),
        ("{hub: org/model, file: best.safetensors}", 40, "`org/model` has no file `best.safetensors`"),
    ],
)
def test_what_the_hub_does_not_have(source, column, message, model):
    write(source)
    assert reported() == ("FC0301", column, message)


def test_a_hub_that_is_not_reached(model, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    write("{hub: org/model}")
    code, _, message = reported()
    assert code == "FC0301"
    assert "cannot be" in message


def test_weights_that_do_not_fit_are_reported_at_their_place(model):
    save_file(
        {"weight": torch.zeros(3, 4), "bias": torch.zeros(2)}, model.folder / "org" / "model" / "model.safetensors"
    )
    write("{hub: org/model}")
    assert reported()[:2] == ("FC0305", 23)
    (found,) = flowconf.check("graph.yaml")
    assert (found.code, found.place.column) == ("FC0305", 23)


@pytest.mark.parametrize(
    ("source", "code", "column"),
    [
        ("{hub: org/model, path: x.pt}", "FC0122", 34),
        ("{hub: https://elsewhere/model}", "FC0123", 23),
        ("{hub: ../model}", "FC0123", 23),
        ("{hub: org/model, file: ../x.pt}", "FC0123", 40),
        ("{hub: org/model, file: /x.pt}", "FC0123", 40),
        ("{path: x.pt, revision: main}", "FC0125", 30),
        ("{path: x.pt, file: y.pt}", "FC0125", 30),
        ("{hub: org/model, where: {a: 1}}", "FC0125", 34),
    ],
)
def test_keys_of_the_hub_are_checked(source, code, column, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = flowconf.check(write(source))
    assert [(one.code, one.place.line, one.place.column) for one in found] == [(code, 5, column)]


def test_without_the_client_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(flowconf.FlowconfError, match="requires huggingface_hub"):
        flowconf.build(write("{hub: org/model}"))
