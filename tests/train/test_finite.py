"""Values of the data that are not finite are named with their row, where a loss is not finite because of them."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

import flowconf
from flowconf.api import load
from flowconf.language import registry
from flowconf.report import ConfigError, RunError
from flowconf.train.data.splits import Splits
from tests.train.conftest import train
from tests.train.teams import together

CONFIG = """
model:
  inputs: {x: [B, 4]}
  flow: {out: "Linear(4, 2)"}
data: {name: arrays, train: rows.npz, batch_size: 8}
loss: {fit: {fn: mse, input: out, target: y}}
trainer: {epochs: 2, devices: cpu, log_every: 3}
"""


def arrays(rows=64, **wrong):
    """Fields `x`, `y` and `known`, with NaN at some elements of fields, by (row, element)."""
    numbers = numpy.random.default_rng(0)
    found = {"x": numbers.normal(size=(rows, 4)), "y": numbers.normal(size=(rows, 2)), "known": numpy.ones((rows, 2))}
    for field, (at, value) in wrong.items():
        found[field][at] = value
    return {name: array.astype("float32") for name, array in found.items()}


def refused(call):
    with pytest.raises((ConfigError, RunError)) as caught:
        call()
    return [reported for reported in caught.value.diagnostics if reported.severity == "error"]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("commands", ["check", "train"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"y": ((17, 1), NAN)}, "`y[1]` is NaN in row 17 of `rows.npz`"),
        ({"x": ((63, 3), INF)}, "`x[3]` is infinite in row 63 of `rows.npz`"),
        ({"x": ((2,), NAN)}, "`x[0]` is NaN in row 2 of `rows.npz`"),
    ],
)
def test_a_value_of_a_file_is_named_before_the_first_step(folder, wrong, said, commands):
    numpy.savez("rows.npz", **arrays(**wrong))
    file = folder.write(CONFIG)
    for words in ([], ["++data.validation=0.5"], ["++data.validation=0.1", "++data.test=0.6"]):
        (reported,) = (
            flowconf.check(file, words) if commands == "check" else refused(lambda w=words: train(load(file, w)))
        )
        assert (reported.code, reported.message, reported.path) == ("FC0503", said, "data.name")
        assert reported.place.line == 5
    assert not (folder.path / "runs").exists()


def test_a_held_out_file_is_examined_too(folder):
    numpy.savez("rows.npz", **arrays())
    numpy.savez("held.npz", **arrays(9, y=((8, 0), NAN)))
    (reported,) = flowconf.check(folder.write(CONFIG), ["++data.validation=held.npz"])
    assert reported.message == "`y[0]` is NaN in row 8 of `held.npz`"


@pytest.mark.parametrize(
    ("wrong", "words", "advice"),
    [
        ({"known": ((5, 1), 0)}, [], "leave such elements out with `mask: known` in `loss.fit`, or remove their rows"),
        ({}, [], "leave such elements out with a `mask` in `loss.fit`, or remove their rows"),
        ({}, ["++loss.fit.mask=known"], "leave such elements out in `known`, or remove their rows"),
    ],
)
def test_the_advice_is_a_mask_that_leaves_them_out(folder, wrong, words, advice):
    numpy.savez("rows.npz", **arrays(y=((5, 1), NAN), **wrong))
    file = folder.write(CONFIG)
    (reported,) = flowconf.check(file, words)
    assert reported.help == advice
    if "mask: known" in advice:
        assert not flowconf.check(file, ["++loss.fit.mask=known"])


def test_all_that_is_not_finite_because_of_it_is_named(folder):
    numpy.savez("rows.npz", **arrays(y=((slice(3, 9), 1), NAN)))
    file = folder.write(CONFIG + "metrics: {error: {fn: mae, input: out, target: y}}\n")
    (reported,) = refused(lambda: train(load(file)))
    assert [label.message for label in reported.labels] == [
        "`loss.fit` is not finite because of it",
        "`metrics.error` is not finite because of it",
        "6 of 64 rows have such values",
    ]


class Repaired(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.nan_to_num()


def test_what_the_graph_replaces_is_no_mistake(folder, monkeypatch):
    monkeypatch.setitem(registry.modules.registered, "Repaired", Repaired)
    numpy.savez("rows.npz", **arrays(x=((5, 1), NAN)))
    text = CONFIG.replace("Linear(4, 2)", "Repaired >> Linear(4, 2)")
    assert not flowconf.check(folder.write(text))
    assert folder.train(text=text).record["status"] == "finished"


class Rows(Dataset):
    def __init__(self, **wrong):
        self.arrays = {name: torch.from_numpy(array) for name, array in arrays(**wrong).items()}

    def __len__(self):
        return 64

    def __getitem__(self, row):
        return {name: field[row] for name, field in self.arrays.items()}


class Stream(IterableDataset):
    def __init__(self, **wrong):
        self.rows = Rows(**wrong)

    def __len__(self):
        return 64

    def __iter__(self):
        yield from (self.rows[row] for row in range(64))


PROJECT = CONFIG.replace("arrays, train: rows.npz", "mine")


@pytest.fixture
def mine(monkeypatch):
    """Registers a data set with these splits."""
    return lambda *splits: monkeypatch.setitem(registry.datasets.registered, "mine", lambda: Splits(*splits))


@pytest.mark.parametrize(
    "words", [[], ["data.workers=1"], ["trainer.find_nan=true"], ["trainer.accumulate=3"]], ids=str
)
@pytest.mark.parametrize("kind", [Rows, Stream])
def test_a_row_that_comes_later_is_named_when_the_loss_is_not_finite(folder, mine, kind, words):
    mine(kind(y=((41, 1), NAN)))
    (reported,) = refused(lambda: train(load(folder.write(PROJECT), words)))
    assert (reported.code, reported.message) == ("FC0503", "`y[1]` is NaN in row 41 of the training data")


def test_masked_rows_do_not_end_a_run(folder, mine):
    mine(Rows(y=((41, 1), NAN), known=((41, 1), 0)))
    assert folder.train(text=PROJECT.replace("target: y", "target: y, mask: known")).record["status"] == "finished"


def test_a_loss_that_is_not_finite_for_other_reasons_is_reported_as_before(folder, mine):
    mine(Rows(y=((41, 1), NAN), known=((41, 1), 0)))
    text = PROJECT.replace("target: y", "target: y, mask: known").replace(
        "trainer:", "optimizer: {name: sgd, lr: 1e30}\ntrainer:"
    )
    (reported,) = refused(lambda: train(load(folder.write(text))))
    assert reported.code == "FC0702"


def test_a_validation_split_is_named(folder, mine):
    mine(Rows(), Rows(x=((50, 2), NAN)))
    (reported,) = refused(lambda: train(load(folder.write(PROJECT))))
    assert reported.message == "`x[2]` is NaN in row 50 of the validation data"


def test_a_test_split_is_named_at_the_end_of_a_finished_run(folder, mine):
    mine(Rows(), Rows(), Rows(y=((50, 0), INF)))
    run = folder.train(text=PROJECT)
    assert run.record["status"] == "finished"
    assert "warning[FC0503]: `y[0]` is infinite in row 50 of the test data" in folder.said.getvalue()


def test_every_process_names_the_same_row(folder, mine):
    mine(Rows(y=((41, 1), NAN)))
    config = load(folder.write(PROJECT), ["trainer.devices=2"])

    def reported(rank):
        (diagnostic,) = refused(lambda: train(config))
        assert diagnostic.message == "`y[1]` is NaN in row 41 of the training data"

    assert together(reported) == [0, 0]
