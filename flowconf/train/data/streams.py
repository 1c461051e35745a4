"""Batches prefetched by worker processes.

A batch is a function of its rows and a seed, so the number of workers does not affect the results. Batches that were
prefetched past a checkpoint are made again after resuming.
"""

from __future__ import annotations

import functools
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from flowconf.report import ConfigError, Diagnostic, FlowconfError, RunError
from flowconf.train.data.collate import Batch, Field, put_together
from flowconf.train.data.declarations import wrong_declaration
from flowconf.train.data.row_errors import apart, batch_in_words, refusal, worker_died, wrong_in_batch
from flowconf.train.data.slots import Slots
from flowconf.train.data.splits import Resident
from flowconf.train.runs.lock import release_locks
from flowconf.train.seeds import all_undisturbed, seed_cpu
from flowconf.train.stopping import leave_signals_to_the_parent, signals_later

Order = tuple[list[int], int, list[int] | None]
"""Rows, the seed of their batch, and the seed of each row if they are augmented: plain numbers, which are sent to a
worker without shared memory."""
Sent = dict[str, Any] | FlowconfError
"""A batch whose tensors are in slots, or an error."""
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
    tensors = ((name, value) for name, value in batch.items() if isinstance(value, Tensor))
    return {name: value.detach() if value.requires_grad else value for name, value in tensors}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, all global random number generators of the CPU are seeded with `seed`.

    They are restored afterwards, except in a worker, where nothing else draws from them.
    """
    with all_undisturbed(torch.device("cpu")) if get_worker_info() is None else nullcontext():
        seed_cpu(seed)
        yield


class _Remote(Dataset[Sent]):
    """A split in a worker: makes the batch of each order, which has a number.

    An error is returned, not raised: torch would convert it to a string that begins with the worker's traceback.
    """

    def __init__(self, split: Any, slots: Slots) -> None:
        self.split, self.slots = split, slots

    def __getitem__(self, numbered: tuple[int, Order]) -> Sent:
        number, (rows, seed, seeds) = numbered
        try:
            batch = batch_of(self.split, torch.tensor(rows), torch.Generator().manual_seed(seed), seeds)
        except FlowconfError as refused:
            return refused
        return self.slots.put(number, batch)


class _RemoteStream(IterableDataset[Sent]):
    """An iterable data set in a worker."""

    def __init__(self, source: RowStream, passes: Iterable[Pass], slots: Slots) -> None:
        self.source, self.passes, self.slots = source, passes, slots

    def __iter__(self) -> Iterator[Sent]:
        try:
            for number, batch in enumerate(self.source.passed(self.passes)):
                yield self.slots.put(number, batch)
        except FlowconfError as refused:
            yield refused


def read_again(source: RowStream, epoch: int, seed: int, start: int, stop: int) -> Batch:
    """The rows from `start` to `stop` of a pass over an iterable data set, as a worker makes them."""
    spans = [(first, min(first + 1024, start)) for first in range(0, start, 1024)] + [(start, stop)]
    with seeded(seed):
        *_, batch = source.passed([(epoch, seed, spans)])
    return batch


def stream(split: Any, orders: Iterable[Any], rows: int, workers: int, prefetch: int, device: torch.device) -> Stream:
    """The batches of `orders` in order, on `device`; each worker prefetches `prefetch` of them.

    `orders` are `Order`s, or passes for a `RowStream`, with at most `rows` rows in a batch. `close` stops the workers.
    """
    is_iterable = isinstance(split, RowStream)
    workers = 1 if is_iterable else workers
    slots = Slots(workers * prefetch + 1, rows, split.fields)
    loader: DataLoader[Any] = DataLoader(
        _RemoteStream(split, orders, slots) if is_iterable else _Remote(split, slots),
        batch_size=None,
        sampler=None if is_iterable else enumerate(orders),
        num_workers=workers,
        collate_fn=_unchanged,
        prefetch_factor=prefetch,
        worker_init_fn=_in_a_worker,
        generator=torch.Generator(),  # the loader draws an unused seed; not from the global generator
    )
    uploads = device.type == "cuda"
    arrivals = Arrivals(loader, slots, Tensor.pin_memory if uploads else Tensor.clone)
    return Uploads(arrivals, device) if uploads else arrivals


@contextmanager
def closing_stream(batches: Stream) -> Iterator[Stream]:
    """A block that stops the workers of `batches` at its end.

    Raises `RunError` for a worker that dies. torch raises that in the main thread, wherever it is in the block.
    """
    try:
        yield batches
    except RuntimeError as problem:
        if "DataLoader worker" not in str(problem):
            raise
        raise worker_died(problem) from problem
    finally:
        batches.close()


def uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on a CUDA device. Neither waits for the other: a copy of memory that is not pinned would."""
    return tensor.pin_memory().to(device, non_blocking=True)


def _unchanged(sent: Any) -> Any:
    return sent


def _in_a_worker(number: int) -> None:
    leave_signals_to_the_parent()
    release_locks()


class Arrivals:
    """Batches from the workers; an error is raised when its batch is requested."""

    def __init__(self, loader: DataLoader[Any], slots: Slots, copied: Callable[[Tensor], Tensor]) -> None:
        self.slots, self.copied = slots, copied
        with signals_later():
            self.found = iter(loader)
        for worker in getattr(self.found, "_workers", ()):
            worker.terminate = worker.kill  # torch terminates a worker that does not exit; it ignores SIGTERM

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        sent: Sent = next(self.found)
        if isinstance(sent, FlowconfError):
            raise sent
        return self.slots.take(sent, self.copied)

    def close(self) -> None:
        """Stop the workers."""
        shutdown = getattr(self.found, "_shutdown_workers", None)
        if shutdown is not None:
            shutdown()


class Uploads:
    """Copies batches to a CUDA device in a thread, on a separate stream, up to two batches ahead."""

    def __init__(self, arrivals: Arrivals, device: torch.device) -> None:
        self.arrivals, self.device = arrivals, device
        self.ready: queue.Queue[Callable[[], Batch]] = queue.Queue(maxsize=2)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._upload, daemon=True)
        self.thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self.ready.get()()

    def close(self) -> None:
        """Stop the thread, and then the workers that it waits for."""
        self.ended.set()
        self.thread.join(timeout=30)
        self.arrivals.close()

    def _upload(self) -> None:
        try:
            side = _side_stream(self.device)
            with torch.cuda.stream(side):
                for batch in self.arrivals:
                    moved = {name: uploaded(tensor, self.device) for name, tensor in batch.items()}
                    if not self._put(functools.partial(self._arrived, moved, side.record_event())):
                        return
            self._put(functools.partial(_raise, StopIteration()))
        except Exception as problem:  # noqa: BLE001 - raised again when the batch is requested
            self._put(functools.partial(_raise, problem))

    def _arrived(self, batch: Batch, event: torch.cuda.Event) -> Batch:
        """A batch that the stream of the caller waits for, and whose memory is used again only after that stream."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(event)
        for tensor in batch.values():
            tensor.record_stream(current)
        return batch

    def _put(self, ready: Callable[[], Batch]) -> bool:
        while not self.ended.is_set():
            try:
                self.ready.put(ready, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream for the uploads of a process: one, because memory that is freed is used again in its stream alone."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


Stream = Arrivals | Uploads
"""Batches made by workers; `close` stops these."""


def _raise(problem: BaseException) -> Batch:
    raise problem
