"""Batches of workers pass through memory that is used again: each arrives as it was made, and stays so."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from flowconf.train.data.slots import Slots
from flowconf.train.data.streams import closing_stream, stream

CPU = torch.device("cpu")
FIELDS = {
    "image": ((3, 5), torch.float32),
    "mask": ((5,), torch.bool),
    "label": ((), torch.int64),
}


class Numbered:
    """Batches that tell their rows."""

    fields: ClassVar = FIELDS

    def __len__(self):
        return 1000

    def batch(self, rows, generator):
        image = torch.rand(len(rows), 3, 5, generator=generator)
        return {"image": image, "mask": image[:, 0] > 0.5, "label": rows}


def assert_equal(one, other):
    assert list(one) == list(other)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name])
        assert (tensor.dtype, tensor.stride()) == (other[name].dtype, other[name].stride())


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("prefetch", [1, 2])
def test_batches_that_are_kept_stay_as_they_were_made(workers, prefetch):
    split = Numbered()
    orders = [([number, number + 1], number, None) for number in range(20)]
    with closing_stream(stream(split, orders, 2, workers, prefetch, CPU)) as batches:
        kept = list(batches)
    for (rows, seed, _), batch in zip(orders, kept, strict=True):
        assert_equal(batch, split.batch(torch.tensor(rows), torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 1), (2, 3)])
def test_no_batch_is_ordered_before_its_slot_is_free(workers, prefetch):
    """torch orders as many batches in advance as the slots are made for."""
    ordered = 0

    def orders():
        nonlocal ordered
        for number in range(20):
            ordered += 1
            yield [number], number, None

    with closing_stream(stream(Numbered(), orders(), 1, workers, prefetch, CPU)) as batches:
        for taken in range(1, 21):
            next(batches)
            assert ordered <= taken + workers * prefetch


def test_what_a_slot_cannot_hold_is_sent_as_it_is():
    slots = Slots(2, 4, FIELDS)
    fits, image = Numbered().batch(torch.arange(4), torch.Generator()), torch.rand(4, 3, 5)
    tall = torch.rand(9, 3, 5)
    for batch, sent_as_they_are in [
        (fits, []),
        ({**fits, "image": tall}, ["image"]),
        ({**fits, "image": image.mT}, ["image"]),
        ({**fits, "mask": torch.zeros(0, 5, dtype=torch.bool), "label": torch.tensor(3)}, []),
        ({"image": image.bfloat16(), "mask": image[..., 0].to(torch.complex64)}, []),
    ]:
        sent = slots.put(1, batch)
        assert [name for name, value in sent.items() if value is batch[name]] == sent_as_they_are
        assert_equal(slots.take(sent), batch)


def test_a_large_tensor_is_sent_as_it_is(monkeypatch):
    monkeypatch.setattr("flowconf.train.data.slots.LARGEST", 100)
    batch = Numbered().batch(torch.arange(4), torch.Generator())
    sent = Slots(2, 4, FIELDS).put(0, batch)
    assert [name for name, value in sent.items() if value is batch[name]] == ["image"]


def test_a_field_without_a_size_is_sent_as_it_is():
    batch = Numbered().batch(torch.arange(4), torch.Generator())
    sent = Slots(2, 4, {**FIELDS, "image": ((-1, 5), torch.float32)}).put(0, batch)
    assert [name for name, value in sent.items() if value is batch[name]] == ["image"]


def test_without_a_fork_everything_is_sent_as_it_is(monkeypatch):
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    batch = Numbered().batch(torch.arange(4), torch.Generator())
    assert all(value is batch[name] for name, value in Slots(2, 4, FIELDS).put(0, batch).items())
