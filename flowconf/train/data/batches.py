"""Batches of splits, and data sets of torch as splits."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from flowconf.report import ConfigError, Diagnostic, RunError
from flowconf.train.data.collate import Batch, Field, put_together
from flowconf.train.data.declarations import wrong_declaration
from flowconf.train.data.row_errors import apart, batch_in_words, refusal, wrong_in_batch
from flowconf.train.data.splits import Resident
from flowconf.train.seeds import all_undisturbed, seed_cpu

Pass = tuple[int, int, list[tuple[int, int]]]
"""One pass over an iterable data set: the epoch, the seed, and the first and last row of each batch (exclusive)."""


class Items:
    """A map-style `torch.utils.data.Dataset` whose items are mappings of named values, as a split.

    The global random number generators of Python, NumPy and torch are seeded with the batch's seed.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset
        self.fields: Mapping[str, Field] = {}
        first = self.batch(torch.zeros(1, dtype=torch.int64), torch.Generator().manual_seed(0))
        self.fields = {name: (tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in first.items()}

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        numbers = rows.tolist()
        with seeded(generator.initial_seed()):
            return collated([self._item(row) for row in numbers], numbers, self.fields)

    def _item(self, row: int) -> Any:
        try:
            return self.dataset[row]
        except (Exception, SystemExit) as problem:
            raise refusal(problem, f"row {row}") from problem


class RowStream:
    """An `IterableDataset` as a split: it determines the order of its rows, and an epoch is one pass of `len()` rows.

    It is read by one worker. Before each pass the global generators are seeded, and `set_epoch(epoch)` is called if the
    data set has it. Resuming in the middle of an epoch skips the earlier rows; with several processes, each skips the
    rows of the others.
    """

    def __init__(self, dataset: IterableDataset[Any]) -> None:
        if not hasattr(dataset, "__len__"):
            raise ValueError("an iterable data set requires `__len__`, the number of rows of one epoch")
        self.dataset = dataset
        first = self.batch(torch.zeros(1, dtype=torch.int64), torch.Generator().manual_seed(0))
        self.fields = {name: (tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in first.items()}

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """The first `len(rows)` rows, to inspect the data."""
        with seeded(generator.initial_seed()):
            return collated(read(iter(self.dataset), 0, len(rows)))

    def passed(self, passes: Iterable[Pass]) -> Iterator[Batch]:
        """The batches of some passes. Seeds the global generators."""
        for epoch, seed, spans in passes:
            seed_cpu(seed)
            set_epoch = getattr(self.dataset, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)
            items, at = iter(self.dataset), 0
            for start, stop in spans:
                found = read(items, at, stop - at)[start - at :]
                if len(found) < stop - start:
                    length = len(self.dataset)
                    message = f"the data set ends after {start + len(found)} rows, but its `__len__` is {length}"
                    advice = "return the number of rows of one pass"
                    raise RunError(Diagnostic("FC0501", message, path="data.name", advice=advice))
                yield collated(found, range(start, stop), self.fields)
                at = stop


def as_split(found: Any) -> Any:
    """A split unchanged, or a torch data set wrapped as one.

    Raises `ConfigError` for a split with invalid fields, and `ValueError` for anything else.
    """
    if found is None:
        return None
    if hasattr(found, "fields") and hasattr(found, "batch"):
        wrong = wrong_declaration(found.fields, lengths=[2])
        if wrong is not None:
            message = f"`fields` of the split `{type(found).__name__}` {wrong}"
            advice = "give a mapping such as `{'image': ((1, 28, 28), torch.float32), 'label': ((), torch.int64)}`"
            raise ConfigError(Diagnostic("FC0501", message, path="data.name", advice=advice))
        return found
    if isinstance(found, IterableDataset):
        return RowStream(found)
    if hasattr(found, "__getitem__") and hasattr(found, "__len__"):
        return Items(found)
    raise ValueError(f"expected a split or a torch data set, got a `{type(found).__name__}`")


def read(items: Iterator[Any], first: int, count: int) -> list[Any]:
    """The next `count` items, or fewer at the end; `first` is the row number of the first one. Raises `RunError`."""
    found: list[Any] = []
    try:
        for item in itertools.islice(items, count):
            found.append(item)  # noqa: PERF402 - their number is needed to report the row that fails
    except (Exception, SystemExit) as problem:
        raise refusal(problem, f"row {first + len(found)}") from problem
    return found


def collated(
    items: Sequence[Any], rows: Sequence[int] | None = None, fields: Mapping[str, Field] | None = None
) -> Batch:
    """Items collated into a batch with these fields.

    Raises `RunError` for items that are not mappings of named values, or whose names, shapes or dtypes differ.
    """
    rows, fields = range(len(items)) if rows is None else rows, fields or {}
    try:
        batch = {str(name): torch.as_tensor(value) for name, value in put_together(items).items()}
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as problem:
        raise apart(rows, items, fields, problem) from None
    if any(name not in batch or batch[name].dtype != dtype for name, (_, dtype) in fields.items()):
        raise apart(rows, items, fields)
    return batch


def batch_of(split: Any, rows: Tensor, generator: torch.Generator, seeds: Sequence[int] | None = None) -> Batch:
    """The tensors of a batch of a split, augmented if each row has a seed.

    Raises `RunError` if the split's own code fails, or gives other fields than those that the split has.
    """
    try:
        batch: dict[str, Any]
        batch = split.batch(rows, generator) if seeds is None else split.augmented(rows, generator, seeds)
    except (Exception, SystemExit) as problem:
        raise refusal(problem, batch_in_words(rows)) from problem
    wrong = None if isinstance(split, Resident) and split.augment is None else wrong_in_batch(batch, rows, split.fields)
    if wrong is not None:
        raise wrong
    return {
        name: value.detach() if value.requires_grad else value
        for name, value in batch.items()
        if isinstance(value, Tensor)
    }


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, all global random number generators of the CPU are seeded with `seed`.

    They are restored afterwards, except in a worker, where nothing else draws from them.
    """
    with all_undisturbed(torch.device("cpu")) if get_worker_info() is None else nullcontext():
        seed_cpu(seed)
        yield


def read_again(source: RowStream, epoch: int, seed: int, start: int, stop: int) -> Batch:
    """The rows from `start` to `stop` of a pass over an iterable data set, as a worker makes them."""
    spans = [(first, min(first + 1024, start)) for first in range(0, start, 1024)] + [(start, stop)]
    with seeded(seed):
        *_, batch = source.passed([(epoch, seed, spans)])
    return batch
