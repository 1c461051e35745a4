"""`heads.*` as the input of a loss or metric: all branches, copies or outputs, in their order."""

from __future__ import annotations

import pytest
import torch

import flowconf
from flowconf.language import registry

GRAPH = """
model:
  inputs: {image: [B, 64]}
  flow:
    stem: Linear(64, 8)
    block: {also: "Linear(8, 8)", repeat: 3}
    heads:
      split: {left: "Linear(8, 10)", right: "Linear(8, 10)", third: "Linear(8, 10)"}
      merge: mean
    experts: {from: block, gate: {a: "Linear(8, 4)", b: "Linear(8, 4)"}, router: "SoftmaxRouter(8, 2)"}
    chosen: {from: block, switch: {a: "Linear(8, 4)", b: "Linear(8, 4)"}, router: "ArgmaxSelector(8, 2)"}
    inner:
      graph:
        flow: {one: "Linear(8, 4)", two: "Linear(4, 4)"}
        outputs: {first: one, second: two}
      from: block
data: {name: digits}
loss: {label: {fn: cross_entropy, input: heads, target: label}, spread: {fn: spread, input: %s}}
trainer: {epochs: 1, devices: cpu}
"""


def spread(*values: torch.Tensor) -> torch.Tensor:
    return torch.stack(values).var(0).mean(-1)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(registry.losses.registered, "spread", spread)


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "config.yaml"
        file.write_text(GRAPH % text)
        return file

    return write


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("heads.*", ["heads.left", "heads.right", "heads.third"]),
        ("experts.*", ["experts.a", "experts.b"]),
        ("block.*", ["block.0", "block.1", "block.2"]),
        ("inner.*", ["inner.first", "inner.second"]),
    ],
)
def test_it_is_the_list_of_all(text, listed, written):
    file = written(text)
    assert [d for d in flowconf.check(file) if d.severity == "error"] == []
    assert flowconf.load(file).training.loss["spread"].input == listed


@pytest.mark.parametrize(
    ("text", "message", "advice"),
    [
        ("stem.*", "`stem` has no branches, copies or outputs", "write `stem`"),
        ("chosen.*", "`chosen` has no branches, copies or outputs", "write `chosen`"),
        ("image.*", "`image` has no branches, copies or outputs", "write `image`"),
        ("haeds.*", "unknown name `haeds`", "write `heads`"),
    ],
)
def test_what_has_none_is_reported_once(text, message, advice, written):
    (found,) = [d for d in flowconf.check(written(text)) if d.severity == "error"]
    assert (found.code, found.message, found.help) == ("FC0402", message, advice)
    assert (found.place.line, found.path) == (18, "loss.spread.input")


def test_a_run_computes_it_of_all(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [
        flowconf.train(written(text), ["trainer.steps=2"])
        for text in ("heads.*", "[heads.left, heads.right, heads.third]")
    ]
    assert runs[0].metrics == runs[1].metrics
    assert "test/loss/spread" in runs[0].metrics
    assert runs[0].evaluate("test") == runs[1].evaluate("test")


def test_the_number_of_values_is_checked(written):
    file = written("heads.*")
    (found,) = [d for d in flowconf.check(file, ["loss.spread.fn=mse"]) if d.severity == "error"]
    assert (found.code, found.place.line) == ("FC0133", 18)
    assert "got 3 values" in found.message
