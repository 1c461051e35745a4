"""`init_from`: a graph that changed starts from an earlier run with everything that still fits."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

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


def test_another_shape_is_left_as_it_starts_and_told(folder, first):
    run, earlier = first
    words = ["model.flow.logits='Linear(16, 5)'", "data.classes=5", f"init_from={run}"]
    again = folder.train(*words, text=CONFIG).folder
    weights = load_file(again / "checkpoints" / "last.safetensors")
    assert weights["logits.weight"].shape == (5, 16)
    assert weights["stem.weight"].equal(earlier["stem.weight"])
    assert "  logits.weight: [5, 16] here, [4, 16] in the file" in (again / "weights.txt").read_text(encoding="utf-8")


def test_nothing_that_fits_is_an_error(folder, first):
    run, _ = first
    other = CONFIG.replace("stem:", "trunk:").replace("residual:", "branch:").replace("logits:", "head:")
    other = other.replace("input: logits", "input: head")
    with pytest.raises(flowconf.ConfigError, match=r"nothing in .* matches the graph: 0 of 6 tensors") as problem:
        folder.train(f"init_from={run}", text=other)
    assert problem.value.diagnostics[0].place.word == f"init_from={run}"


@pytest.mark.parametrize("command", ["train", "check"])
def test_a_run_that_does_not_exist_is_told_before_anything_runs(folder, command, capsys):
    file = folder.write(CONFIG + "init_from: runs/nowhere\n")
    assert main([command, file]) == 2
    told = "".join(capsys.readouterr())
    assert "the checkpoint `runs/nowhere` does not exist" in told
    assert "tiny.yaml:17:12" in told
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
