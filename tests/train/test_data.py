"""Data sets, the order of rows, and seeds."""

from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from flowconf.report import ConfigError
from flowconf.train.data.builtin import arrays, synthetic
from flowconf.train.data.feed import Feed
from flowconf.train.data.sampling import Sampler, epoch_order
from flowconf.train.data.splits import Resident, Splits
from flowconf.train.seeds import seed_for

CPU = torch.device("cpu")


def batches(sampler, count):
    found = []
    while len(found) < count:
        found += [rows.tolist() for rows in sampler.rest_of_epoch()]
    return found[:count]


@given(st.integers(1, 40), st.integers(1, 15), st.booleans(), st.integers(0, 60))
def test_the_order_continues_from_seed_epoch_and_position(rows, size, drop_last, stop):
    whole = Sampler(rows, size, 7, CPU, drop_last)
    if not whole.batches:
        return
    all_of_them = batches(whole, stop + 5)
    first = Sampler(rows, size, 7, CPU, drop_last)
    given_out = 0
    while given_out < stop:
        for _ in first.rest_of_epoch():
            given_out += 1
            if given_out == stop:
                break
    again = Sampler(rows, size, 7, CPU, drop_last, first.epoch, first.position)
    assert batches(again, 5) == all_of_them[stop : stop + 5]


@given(st.integers(1, 40), st.integers(1, 15))
def test_an_epoch_gives_every_row_once(rows, size):
    sampler = Sampler(rows, size, 0, CPU)
    found = batches(sampler, sampler.batches)
    assert sorted(row for rows_of_one in found for row in rows_of_one) == list(range(rows))
    assert (sampler.epoch, sampler.position) == (1, 0)
    assert len(found) == -(-rows // size)


def test_incomplete_batches_can_be_left_out():
    assert [len(rows) for rows in batches(Sampler(10, 4, 0, CPU, drop_last=True), 4)] == [4, 4, 4, 4]


def test_epochs_and_seeds_differ():
    orders = {tuple(epoch_order(20, seed, epoch).tolist()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_seeds_are_the_same_everywhere():
    assert seed_for(0, "order", 0) == 4819849257279361181
    assert 0 <= seed_for(2**62, "x") < 2**63


def test_noise_is_a_function_of_seed_and_number():
    def noisy(batch, generator):
        return {"x": batch["x"] + torch.rand(batch["x"].shape, generator=generator)}

    split = Resident({"x": torch.zeros(8, 2)}, noisy)
    rows = torch.arange(3)
    first, second = Feed(split, CPU, 1, "train"), Feed(split, CPU, 1, "train")
    second.batch(rows, 4)
    assert torch.equal(first.batch(rows, 5)["x"], second.batch(rows, 5)["x"])
    assert not torch.equal(first.batch(rows, 5)["x"], first.batch(rows, 6)["x"])
    assert not torch.equal(first.batch(rows, 5)["x"], Feed(split, CPU, 1, "val").batch(rows, 5)["x"])


def test_fields_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="same number of rows"):
        Resident({"x": torch.zeros(3), "y": torch.zeros(4)})


@pytest.mark.parametrize("values", [[0.0], torch.zeros(1).numpy()])
def test_fields_that_are_no_tensors_are_refused(values):
    with pytest.raises(TypeError, match=f"`x` must be a tensor, got a `{type(values).__name__}`"):
        Resident({"x": values})


def test_a_function_makes_the_tensors_when_they_are_used():
    made = []

    def make():
        made.append(1)
        return {"x": torch.arange(3)}

    split = Resident(make, fields={"x": ((), torch.int64)}, rows=3)
    assert (len(split), made) == (3, [])
    assert [split.batch(torch.tensor([row]), None)["x"].tolist() for row in (2, 1)] == [[2], [1]]
    assert split.to(CPU).fields == Resident(make).fields == split.fields
    assert made == [1, 1]
    with pytest.raises(ValueError, match=r"same number of rows, got \{'x': 3, 'rows': 4\}"):
        Resident(make, fields=split.fields, rows=4).make()


def test_synthetic_is_learnable_and_depends_on_the_seed():
    splits = synthetic(rows=100, shape=[3], classes=2, seed=3)
    assert {name: len(split) for name, split in splits.named()} == {"train": 80, "val": 10, "test": 10}
    assert splits.train.fields == {"image": ((3,), torch.float32), "label": ((), torch.int64)}
    same, other = (synthetic(rows=100, shape=[3], classes=2, seed=seed).train for seed in (3, 4))
    assert torch.equal(splits.train.tensors["image"], same.tensors["image"])
    assert not torch.equal(splits.train.tensors["image"], other.tensors["image"])


def test_splits_without_validation_or_test():
    assert [name for name, _ in synthetic(rows=10, validation=0, test=0).named()] == ["train"]
    with pytest.raises(ConfigError, match="must sum to less than 1"):
        synthetic(validation=0.5, test=0.5)


def test_arrays_from_files(tmp_path):
    numpy.savez(tmp_path / "train.npz", x=numpy.ones((10, 2)), y=numpy.arange(10))
    save_file({"x": torch.ones(4, 2), "y": torch.arange(4)}, tmp_path / "test.safetensors")
    splits = arrays(train=str(tmp_path / "train.npz"), validation=0.2, test=str(tmp_path / "test.safetensors"))
    assert {name: len(split) for name, split in splits.named()} == {"train": 8, "val": 2, "test": 4}
    assert splits.train.fields == {"x": ((2,), torch.float32), "y": ((), torch.int64)}


@pytest.mark.parametrize("name", ["missing.npz", "text.csv", "pickled.npz"])
def test_arrays_that_cannot_be_read(tmp_path, name):
    numpy.savez(tmp_path / "pickled.npz", x=numpy.array([{}], dtype=object))
    with pytest.raises(ConfigError) as caught:
        arrays(train=str(tmp_path / name))
    assert caught.value.diagnostics[0].code == "FC0501"


def test_splits_are_named_as_in_logs():
    split = Resident({"x": torch.zeros(1)})
    assert [name for name, _ in Splits(split, None, split).named()] == ["train", "test"]
