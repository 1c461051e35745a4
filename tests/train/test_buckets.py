"""Batches of rows of similar length, cut to their longest row: the same with workers and after a kill."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import flowconf
from flowconf.language import registry
from flowconf.train.data.sampling import Buckets, Sampler, epoch_order
from flowconf.train.data.splits import Resident, Splits
from tests.train.conftest import assert_same, go_on, killed, place_in
from tests.train.teams import assert_alike, team

CPU = torch.device("cpu")
LONGEST = 24
TEXT = """
model:
  inputs:
    words: {shape: [B, T], dtype: int64}
  flow:
    embedded: Embedding(20, 8)
    kinds: Linear(8, 4)
data: {name: ragged, batch_size: 12, buckets: {mask: present, cut: [words, target], pool: 4}}
loss:
  kind: {fn: cross_entropy, input: kinds, target: target, mask: present, args: {dim: 2}}
trainer: {epochs: 2, devices: cpu, checkpoint_every: 2, accumulate: 2}
"""
PLAIN = TEXT.replace(", buckets: {mask: present, cut: [words, target], pool: 4}", "")


def ragged(rows: int = 160, seed: int = 0) -> Resident:
    """Rows of 0 to `LONGEST` words, and the kind of each word."""
    numbers = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, LONGEST + 1, (rows,), generator=numbers)
    present = torch.arange(LONGEST) < lengths[:, None]
    words = torch.randint(1, 20, (rows, LONGEST), generator=numbers) * present
    return Resident({"words": words, "target": words % 4, "present": present, "kind": words[:, 0]})


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.datasets.registered, "ragged", lambda: Splits(ragged(), ragged(32, 1)))


def rows_of(batch: dict[str, Tensor]) -> list[tuple[int, ...]]:
    """The words of each row, without padding."""
    return [tuple(row[row > 0].tolist()) for row in batch["words"]]


def test_every_row_comes_once_in_an_epoch_and_batches_have_little_padding(folder):
    folder.write(TEXT)
    data = flowconf.data("tiny.yaml")
    batches, whole = [*data.train], ragged().tensors
    assert [len(batch["words"]) for batch in batches] == [12] * 13 + [4]
    assert sorted(row for batch in batches for row in rows_of(batch)) == sorted(rows_of(whole))
    for batch in batches:
        longest = max(1, int(batch["present"].sum(1).max()))
        assert batch["words"].shape[1] == batch["target"].shape[1] == batch["present"].shape[1] == longest
    padding = sum((~batch["present"]).sum() for batch in batches) / sum(batch["present"].numel() for batch in batches)
    before = (~whole["present"]).float().mean()
    assert padding < 0.5 * before
    assert all(batch["words"].shape[1] == LONGEST for batch in data.val)


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = torch.randint(0, 50, (103,))
    sampler = Sampler(103, 10, 3, CPU, buckets=Buckets(lengths, 5))
    first = torch.cat([*sampler.rest_of_epoch()])
    second = torch.cat([*sampler.rest_of_epoch()])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(103))
    assert not torch.equal(first, second)
    again = Sampler(103, 10, 3, CPU, epoch=1, position=20, buckets=Buckets(lengths, 5))
    assert torch.equal(torch.cat([*again.rest_of_epoch()]), second[20:])
    assert torch.equal(first[100:], epoch_order(103, 3, 0)[100:])
    for rows in first[:100].split(10):
        assert (lengths[rows].diff() >= 0).all()
    (few,) = Sampler(7, 10, 3, CPU, buckets=Buckets(lengths[:7], 5)).rest_of_epoch()
    assert sorted(few.tolist()) == list(range(7))


def test_a_masked_loss_is_that_of_the_whole_rows(folder):
    """With all rows in one batch, only the padding differs."""
    one = [text.replace("batch_size: 12", "batch_size: 160") for text in (TEXT, PLAIN)]
    cut, plain = (folder.train(text=text.replace("pool: 4", "pool: 1")) for text in one)
    assert cut.record["metrics"] == pytest.approx(plain.record["metrics"], rel=1e-5)


@pytest.fixture(scope="module")
def runs():
    return {}


def whole(folder, runs):
    if "whole" not in runs:
        runs["whole"] = folder.train(text=TEXT)
    return runs["whole"]


def test_workers_change_nothing(folder, runs):
    assert_same(whole(folder, runs), folder.train(text=TEXT.replace("pool: 4}", "pool: 4}, workers: 2")))


@pytest.mark.parametrize("step", [3, 8])
def test_nor_does_a_kill(folder, runs, step):
    killed(lambda: folder.train(text=TEXT, name="again.yaml"), step)
    assert_same(whole(folder, runs), go_on(folder, folder.runs("again")[0]))


@pytest.mark.slow
def test_nor_do_two_processes(folder, runs):
    assert_alike(whole(folder, runs), team(folder, TEXT))


@pytest.mark.parametrize(
    ("old", "new", "code", "words", "marked"),
    [
        ("mask: present, cut", "mask: presnt, cut", "FC0502", "write `present`", "presnt"),
        ("[words, target]", "[wrods, target]", "FC0502", "write `words`", "wrods"),
        ("mask: present, cut", "mask: words, cut", "FC0501", "bool [length], and `words` is int64 [24]", "words, cut"),
        ("[words, target]", "[words, kind]", "FC0501", "24 items, and `kind` has the shape []", "[words, kind"),
        ("shape: [B, T]", "shape: [B, 24]", "FC0502", "but the input has the length 24", "24"),
        ("pool: 4", "pool: 0", "FC0123", "pool", "0}"),
        ("cut: [", "cuts: [", "FC0121", "write `cut`", "cuts"),
    ],
)
def test_mistakes_have_a_place(folder, old, new, code, words, marked, capsys):
    text = TEXT.replace(old, new, 1)
    out = folder.refusal(text, capsys, "train")
    assert f"error[{code}]" in out, out
    assert words in out, out
    assert place_in(text, marked, text.index(new)) in out, out
