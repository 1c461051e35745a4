"""`init_from`: a graph that changed starts from an earlier run with everything that still fits."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file, save_file

import flowconf
from flowconf.cli.main import main

CONFIG = """
defaults:
  - _self_
  - pivot: null

model:
  inputs: {image: [B, 8]}
  flow:
    stem: Linear(8, 16)
    residual: {also: "Linear(16, 16)"}
    logits: Linear(16, 4)
data: {name: synthetic, shape: [8], classes: 4, rows: 64, batch_size: 32}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
optimizer: {name: sgd, lr: 0.0}
trainer: {steps: 1, devices: cpu}
"""
PIVOT = """\
# @package _global_
model:
  flow:
    residual: null
    extra: {through: "LayerNorm(16)", before: logits}
"""


@pytest.fixture
def first(folder):
    """A run of the unchanged config: its folder and its weights."""
    folder.write(PIVOT, "pivot/no_residual.yaml")
    run = folder.train(text=CONFIG).folder
    return run, load_file(run / "checkpoints" / "best.safetensors")


def test_a_pivoted_graph_takes_what_fits_and_lists_the_rest(folder, first):
    run, earlier = first
    again = folder.train("pivot=no_residual", f"init_from={run}", "seed=1", text=CONFIG).folder
    weights = load_file(again / "checkpoints" / "last.safetensors")
    taken = [name for name in weights if name.startswith(("stem.", "logits."))]
    assert len(taken) == 4
    assert all(weights[name].equal(earlier[name]) for name in taken)
    account = (again / "weights.txt").read_text(encoding="utf-8").splitlines()
    assert account[0].endswith("best.safetensors: 4 tensors loaded")
    assert account[1:] == [
        "  stem: 2 loaded",
        "  logits: 2 loaded",
        "  extra: 2 missing in the file",
        "  residual: 2 in the file, not used",
    ]


def test_another_shape_is_left_as_it_starts_and_reported(folder, first):
    run, earlier = first
    words = ["model.flow.logits='Linear(16, 5)'", "data.classes=5", f"init_from={run}"]
    again = folder.train(*words, text=CONFIG).folder
    weights = load_file(again / "checkpoints" / "last.safetensors")
    assert weights["logits.weight"].shape == (5, 16)
    assert weights["stem.weight"].equal(earlier["stem.weight"])
    assert "  logits.weight: [5, 16] here, [4, 16] in the file" in (again / "weights.txt").read_text(encoding="utf-8")


def test_it_takes_what_a_checkpoint_takes(folder, first):
    _, earlier = first
    renamed = {f"old.{name.replace('stem', 'start')}": tensor for name, tensor in earlier.items()}
    save_file(renamed, folder.path / "renamed.safetensors")
    source = "{path: renamed.safetensors, at: old, rename: {start: stem}, missing: error}"
    again = folder.train(text=f"{CONFIG}init_from: {source}\n").folder
    weights = load_file(again / "checkpoints" / "last.safetensors")
    assert all(weights[name].equal(earlier[name]) for name in earlier)
    assert f"path: {folder.path / 'renamed.safetensors'}" in (again / "config.yaml").read_text()


def test_weights_of_the_hub(folder, first, hub):
    _, earlier = first
    (hub.folder / "org" / "model").mkdir(parents=True)
    save_file(earlier, hub.folder / "org" / "model" / "model.safetensors")
    file = folder.write(CONFIG + "init_from: {hub: org/model}\n")
    assert main(["check", file]) == 0
    assert hub.asked == []
    again = flowconf.train(file)
    weights = load_file(again.folder / "checkpoints" / "last.safetensors")
    assert all(weights[name].equal(earlier[name]) for name in earlier)


@pytest.mark.parametrize(
    ("source", "code", "marked", "words"),
    [
        ("{path: old.safetensors, hub: org/model}", "FC0122", "hub", "requires one of `path`, `config` and `hub`"),
        ("{at: stem}", "FC0122", "init_from", "add `path`, `config` or `hub`"),
        ("{path: old.safetensors, revision: main}", "FC0125", "revision", "remove it, or write `hub`"),
        ("{path: old.safetensors, missing: error}", "FC0303", "old.safetensors", "1 tensor of the graph is not in"),
        ("{path: old.safetensors, mismatchd: error}", "FC0121", "mismatchd", "write `mismatched`"),
        ("org/model", "FC0301", "org/model", "a model of the hub is `{hub: org/model}`"),
    ],
)
def test_its_mistakes_are_those_of_a_checkpoint(folder, first, source, code, marked, words, capsys):
    _, earlier = first
    save_file({name: one for name, one in earlier.items() if name != "stem.bias"}, "old.safetensors")
    file = folder.write(CONFIG + f"init_from: {source}\n")
    before = sorted(folder.path.rglob("*"))
    assert main(["train", file]) == 2
    reported = " ".join(capsys.readouterr().err.split())
    assert f"error[{code}]" in reported
    assert words in reported
    assert f"tiny.yaml:17:{f'init_from: {source}'.index(marked) + 1} " in reported
    assert sorted(folder.path.rglob("*")) == before


def test_nothing_that_fits_is_an_error(folder, first):
    run, _ = first
    other = CONFIG.replace("stem:", "trunk:").replace("residual:", "branch:").replace("logits:", "head:")
    other = other.replace("input: logits", "input: head")
    with pytest.raises(flowconf.ConfigError, match=r"nothing in .* matches the graph: 0 of 6 tensors") as problem:
        folder.train(f"init_from={run}", text=other)
    assert problem.value.diagnostics[0].place.word == f"init_from={run}"


@pytest.mark.parametrize("command", ["train", "check"])
def test_a_run_that_does_not_exist_is_reported_before_anything_runs(folder, command, capsys):
    file = folder.write(CONFIG + "init_from: runs/nowhere\n")
    assert main([command, file]) == 2
    reported = "".join(capsys.readouterr())
    assert "the checkpoint `runs/nowhere` does not exist" in reported
    assert "tiny.yaml:17:12" in reported
    assert not (folder.path / "runs").exists()


def test_a_graph_loads_what_still_fits(tmp_path):
    old = flowconf.build({"flow": {"a": "Linear(4, 4)", "b": "Linear(4, 3)", "c": "Linear(3, 3)"}})
    old.save(tmp_path / "old.safetensors")
    new = flowconf.build({"flow": {"a": "Linear(4, 4)", "b": "Linear(4, 5)", "d": "Linear(5, 5)"}})
    report = new.load(tmp_path / "old.safetensors", missing="ignore", mismatched="ignore")
    assert report.loaded == ["a.weight", "a.bias"]
    assert report.missing == ["d.weight", "d.bias"]
    assert report.unused == ["c.bias", "c.weight"]
    assert [name for name, _, _ in report.mismatched] == ["b.weight", "b.bias"]
    assert new.a.weight.equal(old.a.weight)
