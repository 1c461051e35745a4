"""Streaming: workers change no number, order and resume are exact, and any data set of torch will do."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import ClassVar

import numpy
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from flowconf.cli.main import main
from flowconf.language import registry
from flowconf.report import ConfigError, FlowconfError, RunError
from flowconf.train.data.batches import Items, as_split, seeded
from flowconf.train.data.feed import Feed
from flowconf.train.data.sampling import Sampler
from flowconf.train.data.splits import Splits
from tests.train.conftest import TINY, assert_same, go_on, killed

CPU = torch.device("cpu")


class Noisy(Dataset):
    """Items with noise from three libraries."""

    def __init__(self, rows=96):
        self.rows = rows

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        noise = random.random() + numpy.random.rand() + torch.rand(()).item()
        image = torch.full((8,), row / self.rows) + 0.01 * noise
        return {"image": image, "label": row % 4}


class Endless(IterableDataset):
    """Rows in an order of their own."""

    def __init__(self, rows=96):
        self.rows = rows
        self.epoch = -1

    def __len__(self):
        return self.rows

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        while True:
            value = torch.rand(8)
            yield {"image": value + self.epoch, "label": int(4 * value[0])}


@pytest.fixture(autouse=True)
def data(monkeypatch):
    def noisy():
        return Splits(Noisy(), Noisy(32), Noisy(16))

    def endless():
        return Splits(Endless(), Noisy(32), Noisy(16))

    monkeypatch.setitem(registry.datasets.registered, "noisy", noisy)
    monkeypatch.setitem(registry.datasets.registered, "endless", endless)


def text(name, workers, **trainer):
    more = "".join(f", {key}: {value}" for key, value in {"checkpoint_every": 2, **trainer}.items())
    start, end = TINY.index("data:"), TINY.index("loss:")
    data = f"data: {{name: {name}, batch_size: 20, workers: {workers}, prefetch: 3}}\n"
    return (TINY[:start] + data + TINY[end:]).replace("epochs: 2", f"epochs: 2{more}")


def test_workers_change_no_number(folder):
    none, two = (folder.train(text=text("noisy", workers, accumulate=2)) for workers in (0, 2))
    assert_same(none, two)


def test_batches_of_workers_are_those_of_the_process():
    split = Items(Noisy())
    direct, remote = Feed(split, CPU, 1, "train"), Feed(split, CPU, 1, "train", workers=2)
    sampler = Sampler(96, 20, 0, CPU)
    with remote.ahead(sampler, 0, 7, 1):
        step = 0
        while step < 7:
            for rows in sampler.rest_of_epoch():
                first, second = direct.batch(rows, step), remote.batch(rows, step)
                assert all(torch.equal(first[name], second[name]) for name in first)
                step += 1
                if step == 7:
                    break
    for first, second in zip(direct.in_order(40), remote.in_order(40), strict=True):
        assert torch.equal(first["image"], second["image"])


def test_items_leave_the_random_numbers_alone():
    split = Items(Noisy())
    found = []
    for looks in (False, True):
        random.seed(1)
        numpy.random.seed(1)
        torch.manual_seed(1)
        if looks:
            split.batch(torch.arange(5), torch.Generator().manual_seed(3))
        found.append((random.random(), numpy.random.rand(), torch.rand(()).item()))
    assert found[0] == found[1]
    with seeded(5):
        first = torch.rand(1), random.random()
    with seeded(5):
        assert (torch.rand(1), random.random()) == first


@pytest.mark.parametrize("name", ["noisy", "endless"])
@pytest.mark.parametrize("step", [3, 5, 8])
def test_resume_with_workers(folder, name, step):
    whole = folder.train(text=text(name, 2))
    killed(lambda: folder.train(text=text(name, 2), name="again.yaml"), step)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


def test_an_iterable_gets_its_epoch(folder):
    feed = Feed(as_split(Endless(50)), CPU, 0, "train")
    sampler = Sampler(50, 20, 0, CPU)
    sizes, epochs = [], []
    with feed.ahead(sampler, 0, 6, 1):
        for _ in range(2):
            for number, rows in enumerate(sampler.rest_of_epoch()):
                batch = feed.batch(rows, number)
                sizes.append(len(batch["image"]))
                epochs.append(int(batch["image"].min()))
    assert sizes == [20, 20, 10] * 2
    assert epochs == [0, 0, 0, 1, 1, 1]


def test_what_is_no_data_set_is_refused(folder, monkeypatch):
    class Pairs(Noisy):
        def __getitem__(self, row):
            return torch.zeros(8), 1

    class Unknown(IterableDataset):
        def __iter__(self):
            return iter(())

    for train, words in (
        (Pairs(), "must be a mapping of named tensors"),
        (Unknown(), "requires `__len__`"),
        (3, "expected a split or a torch data set"),
    ):
        monkeypatch.setitem(registry.datasets.registered, "odd", lambda train=train: Splits(train))
        with pytest.raises(ConfigError, match=words):
            folder.train(text=text("odd", 0))


def test_a_data_set_without_splits_is_refused(folder, monkeypatch):
    monkeypatch.setitem(registry.datasets.registered, "bare", lambda: Noisy())
    with pytest.raises(ConfigError, match=r"must return `flowconf\.Splits`, got `Noisy`"):
        folder.train(text=text("bare", 0))


def test_an_iterable_that_ends_early_says_so(folder, monkeypatch):
    class Short(Endless):
        def __iter__(self):
            return (item for item, _ in zip(super().__iter__(), range(30), strict=False))

    monkeypatch.setitem(registry.datasets.registered, "short", lambda: Splits(Short(), Noisy(32)))
    with pytest.raises(RunError, match="ends after 30 rows, but its `__len__` is 96") as caught:
        folder.train(text=text("short", 1))
    assert place_of(caught.value) == "short"


class Drawn:
    """A split of a project, with `fields` and a batch that the test chooses."""

    def __init__(self, fields, made):
        self.fields, self.made = fields, made

    def __len__(self):
        return 12

    def batch(self, rows, generator):
        return self.made(rows)


DRAWN = {"image": ((8,), torch.float32), "label": ((), torch.int64)}


def drawn(rows, **others):
    return {"image": torch.ones(len(rows), 8), "label": rows % 4, **others}


@pytest.mark.parametrize(
    ("fields", "made", "words"),
    [
        (["image"], drawn, "`fields` of the split `Drawn` gives a `list`"),
        ({"image": (8, torch.float32)}, drawn, "gives the shape `8` for the field `image`"),
        ({"image": ((8,), "float32")}, drawn, "gives the dtype `'float32'` for the field `image`"),
        (DRAWN, lambda rows: None, "the batch of rows 0, 1 must be a mapping of named tensors, got `None`"),
        (
            DRAWN,
            lambda rows: {"image": rows},
            r"`image` of the batch of rows 0, 1 is int64 \[2\], but float32 \[2, 8\] in",
        ),
        (DRAWN, lambda rows: {"image": torch.ones(len(rows), 8)}, "the batch of rows 0, 1 has no field `label`"),
        (
            DRAWN,
            lambda rows: drawn(rows, label=[1, 2]),
            "`label` of the batch of rows 0, 1 must be a tensor, got a `list`",
        ),
        (
            DRAWN,
            lambda rows: drawn(rows[:1]),
            r"`image` of the batch of rows 0, 1 is float32 \[1, 8\], but float32 \[2, 8\]",
        ),
    ],
)
def test_a_split_of_a_project_gives_the_fields_that_it_has(folder, monkeypatch, fields, made, words):
    monkeypatch.setitem(registry.datasets.registered, "drawn", lambda: Splits(Drawn(fields, made)))
    with pytest.raises(FlowconfError, match=words) as caught:
        folder.train(text=text("drawn", 0))
    assert place_of(caught.value) == "drawn"


def test_a_size_that_differs_between_batches_is_open(folder, monkeypatch):
    fields = {"image": ((None, 8), torch.float32), "label": ((), torch.int64)}
    split = Drawn(fields, lambda rows: drawn(rows, image=torch.ones(len(rows), 1 + len(rows) % 3, 8)))
    monkeypatch.setitem(registry.datasets.registered, "drawn", lambda: Splits(split, split))
    config = text("drawn", 0).replace("[B, 8]", "[B, T, 8]").replace("flow:", "flow:\n    pooled: Mean(1)")
    assert folder.train(text=config).record["status"] == "finished"


class Odd(Noisy):
    """Rows of which the one with the label 3 is like no other."""

    def __init__(self, odd):
        super().__init__()
        self.odd = odd

    def __getitem__(self, row):
        item = super().__getitem__(row)
        return self.odd(item) if row % 4 == 3 else item


def lost(item):
    raise FileNotFoundError("wave_3.wav")


def leaves(item):
    raise SystemExit(3)


def place_of(refusal):
    (reported,) = refusal.diagnostics
    line = Path(reported.place.file).read_text().splitlines()[reported.place.line - 1]
    return line[reported.place.column - 1 :][: reported.place.length]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (lost, r"row \d+ cannot be loaded: FileNotFoundError: wave_3.wav"),
        (
            lambda item: {"image": item["image"]},
            r"row \d+ has no field `label`, but the first row of the data set has one",
        ),
        (lambda item: {**item, "image": torch.zeros(7)}, r"`image` is \[[78]\] in row \d+, but \[[78]\] in row \d+"),
        (
            lambda item: {**item, "label": "cat"},
            r"`label` of row \d+ must be a tensor or numbers, got the string `cat`",
        ),
        (lambda item: None, r"row \d+ must be a mapping of named tensors, got `None`"),
        (
            lambda item: {**item, "image": item["image"].double()},
            r"`image` is float\d\d in row \d+, but float\d\d in",
        ),
        (lambda item: {**item, "image": item["image"].long()}, r"`image` is \w+ in row \d+, but \w+ in row \d+"),
        (lambda item: {**item, "label": 0.5}, r"`label` is \w+ in row \d+, but \w+ in row \d+"),
        (leaves, r"row \d+ cannot be loaded: SystemExit: 3"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_whoever_makes_it(folder, monkeypatch, odd, words, workers):
    monkeypatch.setitem(registry.datasets.registered, "odd", lambda: Splits(Odd(odd), Noisy(32)))
    with pytest.raises(RunError, match=words) as caught:
        folder.train(text=text("odd", workers))
    (reported,) = caught.value.diagnostics
    assert (reported.code, place_of(caught.value)) == ("FC0501", "odd")
    assert "loading the batch" in caught.value.__notes__[0]
    if odd is lost:
        (label,) = reported.labels
        assert "raise FileNotFoundError" in Path(label.place.file).read_text().splitlines()[label.place.line - 1]


ALIKE = {
    "requires_grad": lambda item: {**item, "image": item["image"].clone().requires_grad_()},
    "big-endian": lambda item: {**item, "image": item["image"].numpy().astype(">f4")},
    "numpy": lambda item: {**item, "image": item["image"].numpy(), "label": numpy.int64(item["label"])},
    "not contiguous": lambda item: {**item, "image": torch.stack([item["image"]] * 2, 1)[:, 0]},
}


@pytest.mark.parametrize("change", ALIKE.values(), ids=ALIKE)
def test_rows_of_every_kind_give_the_same_batches_whoever_makes_them(change):
    class Changed(Noisy):
        def __getitem__(self, row):
            return change(super().__getitem__(row))

    split, plain = Items(Changed()), Items(Noisy())
    direct, remote = Feed(split, CPU, 1, "train"), Feed(split, CPU, 1, "train", workers=2)
    expected = Feed(plain, CPU, 1, "train")
    sampler = Sampler(96, 20, 0, CPU)
    with remote.ahead(sampler, 0, 5, 1):
        for step, rows in enumerate(sampler.rest_of_epoch()):
            batches = [feed.batch(rows, step) for feed in (expected, direct, remote)]
            for name in ("image", "label"):
                assert all(torch.equal(batches[0][name], batch[name]) for batch in batches)
                assert {(batch[name].dtype, batch[name].requires_grad) for batch in batches} == {
                    (batches[0][name].dtype, False)
                }


def test_a_split_of_ones_own_may_give_what_requires_gradients():
    class Own:
        fields: ClassVar = {"image": ((2,), torch.float32)}

        def __len__(self):
            return 8

        def batch(self, rows, generator):
            return {"image": (torch.ones(len(rows), 2, requires_grad=True) * 2), "file": ["a"] * len(rows)}

    rows = torch.arange(4)
    direct, remote = Feed(Own(), CPU, 1, "train"), Feed(Own(), CPU, 1, "train", workers=1)
    with remote.ahead(Sampler(8, 4, 0, CPU), 0, 2, 1):
        batches = direct.batch(rows, 0), remote.batch(rows, 0)
    assert torch.equal(batches[0]["image"], batches[1]["image"])
    assert not any(batch["image"].requires_grad for batch in batches)
    assert [list(batch) for batch in batches] == [["image"], ["image"]]  # texts cannot be moved to a device


def test_a_worker_that_is_killed_is_reported_in_words(folder, monkeypatch, capsys):
    def dies(item):
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    monkeypatch.setitem(registry.datasets.registered, "odd", lambda: Splits(Odd(dies), Noisy(32)))
    assert main(["train", folder.write(text("odd", 1))]) == 1
    said = capsys.readouterr().err
    assert "error[FC0501]: a data worker died" in said
    assert "if it ran out of memory, reduce `data.workers` or `data.prefetch`" in said
    assert "Traceback" not in said
    assert folder.run(folder.runs("tiny")[0]).record["status"] == "failed"


def test_a_data_set_that_ends_the_process_is_refused(folder, monkeypatch, capsys):
    monkeypatch.setitem(registry.datasets.registered, "odd", lambda: sys.exit(0))
    assert main(["train", folder.write(text("odd", 0))]) == 2
    assert "invalid arguments for the data set `odd`" in capsys.readouterr().err


def test_an_iterable_whose_row_fails_says_which_one(folder, monkeypatch):
    class Breaking(Endless):
        def __iter__(self):
            yield from (item if number < 5 else 1 / 0 for number, item in enumerate(super().__iter__()))

    monkeypatch.setitem(registry.datasets.registered, "breaking", lambda: Splits(Breaking(), Noisy(32)))
    with pytest.raises(RunError, match="row 5 cannot be loaded: ZeroDivisionError: division by zero"):
        folder.train(text=text("breaking", 1))


class Large:
    """Batches of 16 MB, which takes longer to copy than to read."""

    fields: ClassVar = {"number": ((1 << 20,), torch.float32)}

    def __len__(self):
        return 96

    def batch(self, rows, generator):
        return {"number": rows.float()[:, None].expand(-1, 1 << 20).contiguous()}


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("aside", [False, True], ids=["", "in another stream"])
def test_batches_arrive_on_the_device_before_they_are_read(workers, aside):
    """Also on a device that is not the current one; memory of earlier batches is used again while others are read."""
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    feed, sampler = Feed(Large(), device, 1, "train", workers=workers), Sampler(96, 4, 0, CPU)
    stream = torch.cuda.Stream(device) if aside else torch.cuda.default_stream(device)
    found, wanted = [], []
    with torch.cuda.device(device), torch.cuda.stream(stream), feed.ahead(sampler, 0, 24, 1):
        for step, rows in enumerate(sampler.rest_of_epoch()):
            number = feed.batch(rows, step)["number"]
            assert number.device == device
            torch.cuda._sleep(10_000_000)  # so that the thread is ahead
            found.append(torch.stack([number.amin(1), number.amax(1)]))
            wanted.append(rows.float().expand(2, -1))
        assert torch.equal(torch.cat(found, 1).cpu(), torch.cat(wanted, 1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_label_that_is_no_class_is_reported_at_the_loss_that_picks_by_it(folder, monkeypatch, workers):
    def odd(item):
        return {**item, "label": 9} if float(item["image"].mean()) > 0.9 else item

    monkeypatch.setitem(registry.datasets.registered, "odd", lambda: Splits(Odd(odd), Noisy(32)))
    with pytest.raises(RunError, match="`label` holds the label 9, and `logits` scores 4 classes") as caught:
        folder.train(text=text("odd", workers))
    assert place_of(caught.value) == "label"
    assert isinstance(caught.value.__cause__, IndexError)
    assert any("in training step" in note for note in caught.value.__notes__)
