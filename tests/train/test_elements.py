"""Losses and metrics along the wrong dimension: means over the batch, pairs of rows by broadcasting, and classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import flowconf
from flowconf.language import registry

TEXT = """
model:
  inputs: {words: [B, 5, 8]}
  flow:
    scores: MODULE
    cost: {fork: 'Flatten >> Linear(_, 1)'}
data: {name: sentences, batch_size: 4}
loss: {label: {fn: LOSS, input: INPUT, target: TARGET}}
trainer: {epochs: 1, devices: cpu}
"""
SHAPES = {
    "words": ((5, 8), torch.float32),
    "tags": ((5,), torch.int64, 5),
    "kind": ((), torch.int64, 5),
    "price": ((), torch.float32),
    "column": ((1,), torch.float32),
}
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": lambda cost, price: (cost - price) ** 2,
    "of_columns": lambda cost, price: ((cost - price) ** 2).mean(0),
    "of_one": lambda cost, price: ((cost - price) ** 2).mean().reshape(1),
    "whole": lambda cost, price: ((cost - price) ** 2).mean(),
    "neighbours": lambda cost, price: (cost[1:] - cost[:-1]).squeeze(1) ** 2,
    "without_gradient": lambda cost, price: ((cost - price) ** 2).detach(),
    "pairs": lambda cost, price: (cost @ cost.T) ** 2,
    "is_same": lambda cost, price: cost == price,
    "whole_is_same": lambda cost, price: (cost == price).all(),
}


@pytest.fixture
def check(tmp_path, monkeypatch):
    @flowconf.provides(*SHAPES, shapes=lambda **args: SHAPES)
    def sentences() -> flowconf.Splits:
        return flowconf.Splits(
            flowconf.Resident(
                {name: torch.zeros(8, *shape, dtype=dtype) for name, (shape, dtype, *_) in SHAPES.items()}
            )
        )

    monkeypatch.setitem(registry.datasets.registered, "sentences", sentences)
    for name, loss in LOSSES.items():
        monkeypatch.setitem(registry.losses.registered, name, loss)

    def checked(loss: str, given: str, target: str, module: str = "Linear(8, 5)") -> list[tuple[str, str, str | None]]:
        text = TEXT.replace("LOSS", loss).replace("INPUT", given).replace("TARGET", target).replace("MODULE", module)
        (tmp_path / "config.yaml").write_text(text)
        found = flowconf.check(tmp_path / "config.yaml")
        return [(one.code, one.severity, one.help) for one in found if one.code in ("FC0414", "FC0406")]

    return checked


ROWS = "return one value for each row, `[B, ...]`, or one number for all of them, `[]`"


@pytest.mark.parametrize(
    ("loss", "target", "expected"),
    [
        ("squared", "column", []),
        ("squared", "price", [("FC0414", "warning", "end `cost` with `>> Reshape()`")]),
        ("of_columns", "column", [("FC0414", "error", ROWS)]),
        ("of_one", "column", [("FC0414", "error", ROWS)]),
        ("whole", "column", []),
        ("neighbours", "column", []),
        ("pairs", "column", []),
        ("pairs", "price", []),
        ("is_same", "column", [("FC0406", "error", "return floating-point values")]),
        ("whole_is_same", "column", [("FC0406", "error", "return floating-point values")]),
        ("mse", "price", [("FC0406", "error", "end `cost` with `>> Reshape()`")]),
    ],
)
def test_what_a_loss_returns(check, loss, target, expected):
    assert check(loss, "cost", target) == expected


@pytest.mark.parametrize(
    ("loss", "code"), [("squared", None), ("of_columns", "FC0414"), ("without_gradient", "FC0403")]
)
def test_what_a_loss_of_undeclared_data_returns(check, tmp_path, monkeypatch, loss, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(registry.datasets.registered["sentences"], "shapes")
    assert check(loss, "cost", "column") == []
    if code is None:
        flowconf.train("config.yaml", ["trainer.steps=1"])
        return
    with pytest.raises(flowconf.ConfigError) as refused:
        flowconf.train("config.yaml")
    assert [one.code for one in refused.value.diagnostics] == [code]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("module", "args", "expected"),
    [
        ("Linear(8, 5)", "", ["write `args: {dim: 2}`, or `args: {dim: 1}` if that dimension has the classes"]),
        ("Linear(8, 5)", ", args: {dim: 1}", []),
        ("Linear(8, 5)", ", args: {dim: -1}", []),
        ("Linear(8, 5) >> Transpose(1, 2)", "", []),
        ("Conv1d(5, 5, 4)", "", []),
    ],
)
def test_the_dimension_of_classes_where_two_fit(check, module, args, expected):
    assert [advice for _, _, advice in check("cross_entropy", "scores", f"tags{args}", module)] == expected


def test_predictions_without_a_last_size_of_one(check):
    assert check("l1", "cost", "column", "Identity") == []
    found = check("l1", "row", "column", "Identity\n    row: {fork: 'Mean(2) >> Mean(1)', from: words}")
    assert found == [("FC0406", "error", "end `row` with `>> Reshape(1)`")]


def test_class_numbers_that_are_one_hot(check):
    (found,) = check("cross_entropy", "logits", "tags", "Identity\n    logits: {fork: 'Flatten >> Linear(40, 5)'}")
    assert found[2] == "make `tags` floating point in the data set, or store the numbers of its classes"


def test_a_metric_that_takes_scores_of_classes_one_by_one(check, tmp_path):
    classes = "Identity\n    logits: {fork: 'Flatten >> Linear(40, 5)'}"
    metrics = "}\nmetrics: {right: {fn: accuracy, input: logits, target: OTHER"
    for other, expected in (("tags", ["write `target: kind`"]), ("kind", [])):
        found = check("cross_entropy", "logits", f"kind}}{metrics.replace('OTHER', other)}", classes)
        assert [advice for _, _, advice in found] == expected
