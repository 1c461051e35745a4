"""The interface of a data set: its splits, which are rows that are gathered into batches, and where rows come from.

A batch is a function of the data set, the rows and a generator seeded with (seed, step). It does not depend on earlier
batches, so the position in a run is three numbers (seed, epoch, position), and a run can be resumed from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from flowconf.language.sections.augmentations import copied
from flowconf.report import ConfigError, Diagnostic
from flowconf.train.data.boxes import BoxFormat
from flowconf.train.data.collate import Batch, Field, scaled
from flowconf.train.data.sampling import Buckets, Groups
from flowconf.train.seeds import seed_for


@runtime_checkable
class Split(Protocol):
    """Rows that are gathered into batches of named tensors."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """Name -> (shape without the batch dimension, dtype) of every field of a batch."""

    def __len__(self) -> int:
        """The number of rows."""

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """The given rows (int64 [B]); `generator` is for noise and augmentation, seeded for this batch."""


SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
"""The names of splits in logs and on the command line, and in messages."""


@dataclass(frozen=True)
class Splits:
    """The parts of a data set: for training, for choosing the best weights, and for the final test.

    `fitted` is what the training rows determine (categories, means), as plain data for JSON. It is kept with the run,
    and a data set that takes an argument `fitted` gets it when the run is resumed, evaluated or used for predictions.
    `{"label": {"categories": ["cat", "dog"]}}` names the classes of the field `label`.
    """

    train: Split
    validation: Split | None = None
    test: Split | None = None
    fitted: Mapping[str, Any] | None = None
    sets: Mapping[str, Split] = dataclasses.field(default_factory=dict)
    """Further sets to evaluate on: those of `data.evaluate`."""
    groups: Groups | None = None
    """The groups by which training rows are drawn, if `data` says so."""
    buckets: Buckets | None = None
    """The lengths of training rows, if batches are made of similar ones."""
    warnings: tuple[Diagnostic, ...] = ()
    cached: tuple[str, ...] = ()
    """Lines about what was written to the cache."""

    @property
    def classes(self) -> dict[str, list[str]]:
        """The names of the classes of each field that has some, in the order of their numbers."""
        return classes_in(self.fitted)

    def named(self) -> Iterator[tuple[str, Split]]:
        """The splits that are not None, and the further sets, by their names in logs."""
        for name, split in (("train", self.train), ("val", self.validation), ("test", self.test)):
            if split is not None:
                yield name, split
        yield from self.sets.items()


def classes_in(fitted: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """The names of classes by field in what a data set has fitted: those under `categories`."""
    found = {name: known.get("categories") for name, known in (fitted or {}).items() if isinstance(known, Mapping)}
    return {name: [str(one) for one in names] for name, names in found.items() if isinstance(names, list)}


@dataclass(frozen=True)
class Source:
    """Where the rows of a split come from: their numbers in a file, or the file of each of them."""

    file: str | Sequence[str]
    rows: Tensor | None = None

    def of(self, row: int) -> tuple[str | None, int]:
        """The file of a row, and its number there."""
        file = self.file if isinstance(self.file, str) else self.file[row]
        return file, row if self.rows is None else int(self.rows[row])


class RowSource(Protocol):
    """Where the rows of a split come from."""

    def of(self, row: int) -> tuple[str | None, int]:
        """The file of a row, if there is one, and its number there."""


class Resident:
    """A split whose tensors stay on the device: a batch is one `index_select` per field.

    A tensor may have another type than its field: the bytes of a field of floats are scaled to [0, 1].

    `augment` is applied to each gathered batch instead, on the same device, with the batch's generator. It may add
    fields or change shapes; `fields` then describes its output (default: the fields of the tensors). `source` is where
    the rows come from, for messages and predictions.

    `tensors` may be a function that makes them. With `fields` and the number of `rows`, it is not called before the
    first batch, so that a set that uses one split of a data set does not wait for the others.
    """

    boxes: Mapping[str, BoxFormat] = {}
    """The fields that are boxes."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]],
        augment: Callable[[Batch, torch.Generator], Batch] | None = None,
        fields: Mapping[str, Field] | None = None,
        source: RowSource | None = None,
        rows: int | None = None,
    ) -> None:
        self._make = tensors if callable(tensors) else partial(dict, tensors)
        self._rows = rows
        self.augment = augment
        self.source = source
        self.fields: Mapping[str, Field] = fields or {
            name: (tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in self.tensors.items()
        }
        if rows is None:
            self.make()

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The rows of every field.

        Raises `TypeError` for what is no tensor, and `ValueError` if the numbers of rows differ from each other, or
        from `rows`.
        """
        tensors: dict[str, Any] = dict(self._make())
        for name, values in tensors.items():
            if not isinstance(values, Tensor):
                kind = type(values).__name__
                raise TypeError(f"the field `{name}` must be a tensor, got a `{kind}`: `torch.as_tensor` makes one")
        lengths = {name: len(tensor) for name, tensor in tensors.items()}
        given = {} if self._rows is None else {"rows": self._rows}
        if len({*lengths.values(), *given.values()}) != 1:
            raise ValueError(f"the fields of a split must have the same number of rows, got {lengths | given}")
        return tensors

    def make(self) -> None:
        """Make the tensors now, so that a function that cannot make them fails here."""
        self.tensors  # noqa: B018 - made when it is read

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values()))) if self._rows is None else self._rows

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        batch = {name: tensor.index_select(0, rows) for name, tensor in self.tensors.items()}
        if self.augment is not None:
            return self.augment(batch, generator)
        return {name: scaled(values, self.fields[name][1]) for name, values in batch.items()}

    def to(self, device: torch.device) -> Resident:
        """The same split with its tensors on `device`."""
        moved = {id(tensor): tensor.to(device) for tensor in self.tensors.values()}
        tensors = {name: moved[id(tensor)] for name, tensor in self.tensors.items()}
        split = Resident(tensors, self.augment, self.fields, self.source)
        split.boxes = self.boxes
        return split

    def with_copies(self, sources: Mapping[str, str]) -> Resident:
        """The same split with further fields, each with the tensor of its source."""
        fields = copied(self.fields, sources)
        split = Resident(lambda: copied(self.tensors, sources), self.augment, fields, self.source, len(self))
        split.boxes = copied(self.boxes, sources)
        return split


def place_of_row(split: Split, row: int) -> tuple[str | None, int]:
    """The file of a row and its number there; without a file, its number in the split."""
    source: RowSource | None = getattr(split, "source", None)
    return (None, row) if source is None else source.of(row)


def shares_of(rows: int, shares: Sequence[float], seed: int) -> list[Tensor]:
    """Random rows for each of the shares, determined by `seed`, and last the remaining rows. Raises `ConfigError`."""
    if any(share < 0 for share in shares) or sum(shares) >= 1:
        message = f"the shares must not be negative and must sum to less than 1, got {list(shares)}"
        raise ConfigError(Diagnostic("FC0501", message, path="data"))
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed_for(seed, "split")))
    counts = [round(rows * share) for share in shares]
    return list(torch.split(order, [*counts, rows - sum(counts)]))
