"""Batches that are made by worker processes, ahead of the step that needs them.

A worker gives what the process itself would give: a batch is a function of the rows and a seed, so that the number of
workers changes no number. What came after the step of a checkpoint is made again.
"""

from __future__ import annotations

import functools
import itertools
import queue
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from flowconf.report import Diagnostic, FlowconfError, RunError
from flowconf.train.data.collate import Batch, Field, put_together
from flowconf.train.data.row_errors import apart, refusal, worker_died
from flowconf.train.runs.lock import release_locks
from flowconf.train.stopping import leave_signals_to_the_parent, signals_later

Order = tuple[list[int], int]
"""Rows, and the seed of their batch: plain numbers, which cost no shared memory on their way to a worker."""
Pass = tuple[int, int, list[tuple[int, int]]]
"""What is read of an iterable data set in one go: the epoch, the seed, and from which row to which each batch is."""


class Items:
    """Any `torch.utils.data.Dataset` whose items are mappings of named values, as a split.

    Whatever an item draws from the global random numbers of Python, NumPy and torch comes from the batch's seed.
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
    """An `IterableDataset` as a split: its rows come in its own order, and an epoch is one pass of `len()` rows.

    It is read by one worker. Before each pass the random numbers are seeded, and `set_epoch(epoch)` is called where the
    data set has it. Going on in the middle of an epoch passes by the rows before; so does each of several processes
    with the rows of the others.
    """

    def __init__(self, dataset: IterableDataset[Any]) -> None:
        if not hasattr(dataset, "__len__"):
            raise ValueError("an iterable data set needs a `__len__`: the rows of one epoch")
        self.dataset = dataset
        first = self.batch(torch.zeros(1, dtype=torch.int64), torch.Generator().manual_seed(0))
        self.fields = {name: (tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in first.items()}

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """The first rows, as many as asked for: for a look at the data."""
        with seeded(generator.initial_seed()):
            return collated(read(iter(self.dataset), 0, len(rows)))


def as_split(found: Any) -> Any:
    """A split as it is, or a data set of torch as one. Raises `ValueError` for anything else."""
    if found is None or hasattr(found, "fields"):
        return found
    if isinstance(found, IterableDataset):
        return RowStream(found)
    if hasattr(found, "__getitem__") and hasattr(found, "__len__"):
        return Items(found)
    raise ValueError(f"a `{type(found).__name__}` is neither a split nor a data set of torch")


def read(items: Iterator[Any], first: int, count: int) -> list[Any]:
    """The next `count` items, fewer where there are no more; `first` is the row of the first one. Raises `RunError`."""
    found: list[Any] = []
    try:
        for item in itertools.islice(items, count):
            found.append(item)  # noqa: PERF402 - how many there are says which row fails
    except (Exception, SystemExit) as problem:
        raise refusal(problem, f"row {first + len(found)}") from problem
    return found


def collated(
    items: Sequence[Any], rows: Sequence[int] | None = None, fields: Mapping[str, Field] | None = None
) -> Batch:
    """Items as a batch that has these fields.

    Raises `RunError` for items that are no mappings of named values, or not of the same names, shapes and types.
    """
    rows, fields = range(len(items)) if rows is None else rows, fields or {}
    try:
        batch = {str(name): torch.as_tensor(value) for name, value in put_together(items).items()}
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as problem:
        raise apart(rows, items, fields, problem) from None
    if any(name not in batch or batch[name].dtype != dtype for name, (_, dtype) in fields.items()):
        raise apart(rows, items, fields)
    return batch


def batch_of(split: Any, rows: Tensor, generator: torch.Generator) -> Batch:
    """A batch of a split. Raises `RunError` where the split's own code fails."""
    try:
        batch: dict[str, Any] = split.batch(rows, generator)
    except (Exception, SystemExit) as problem:
        first = ", ".join(str(row) for row in rows[:4].tolist())
        raise refusal(problem, f"the batch of the rows {first}, ...") from problem
    return {name: tensor.detach() if isinstance(tensor, Tensor) else tensor for name, tensor in batch.items()}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A block in which all global random numbers of the CPU come from `seed`, and after which they go on as before."""
    python, torchs = random.getstate(), torch.get_rng_state()
    numpy = sys.modules.get("numpy")
    numpys = numpy.random.get_state() if numpy is not None else None
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python)
        torch.set_rng_state(torchs)
        if numpy is not None and numpys is not None:
            numpy.random.set_state(numpys)


class _Remote(Dataset[Batch | FlowconfError]):
    """What a worker has of a split: it turns orders into batches.

    A refusal is given, not raised: torch would make a text of it that begins with the worker's traceback.
    """

    def __init__(self, split: Any) -> None:
        self.split = split

    def __getitem__(self, order: Order) -> Batch | FlowconfError:
        rows, seed = order
        try:
            return batch_of(self.split, torch.tensor(rows), torch.Generator().manual_seed(seed))
        except FlowconfError as refused:
            return refused


class _RemoteFlow(IterableDataset[Batch | FlowconfError]):
    """What the worker has of an iterable data set."""

    def __init__(self, flow: RowStream, passes: Iterable[Pass]) -> None:
        self.dataset, self.fields = flow.dataset, flow.fields
        self.passes = passes

    def __iter__(self) -> Iterator[Batch | FlowconfError]:
        try:
            yield from self._batches()
        except FlowconfError as refused:
            yield refused

    def _batches(self) -> Iterator[Batch]:
        for epoch, seed, spans in self.passes:
            random.seed(seed)
            torch.manual_seed(seed)
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed(seed % 2**32)
            set_epoch = getattr(self.dataset, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)
            items, at = iter(self.dataset), 0
            for start, stop in spans:
                found = read(items, at, stop - at)[start - at :]
                if len(found) < stop - start:
                    length = len(self.dataset)
                    told = f"the data set ends after {start + len(found)} rows, and its `__len__` says {length}"
                    raise RunError(Diagnostic("FC0501", told, path="data.name", advice="count the rows of one pass"))
                yield collated(found, range(start, stop), self.fields)
                at = stop


def stream(split: Any, orders: Iterable[Any], workers: int, prefetch: int, device: torch.device) -> Iterator[Batch]:
    """The batches of `orders` in their order, on `device`, each worker `prefetch` of them ahead.

    `orders` are `Order`s, for a `RowStream` its passes. Workers end when the iterator does.
    """
    is_flow = isinstance(split, RowStream)
    pins = device.type == "cuda"
    loader: DataLoader[Any] = DataLoader(
        _RemoteFlow(split, orders) if is_flow else _Remote(split),
        batch_size=None,
        sampler=None if is_flow else orders,
        num_workers=1 if is_flow else workers,
        prefetch_factor=prefetch,
        pin_memory=pins,
        worker_init_fn=_in_a_worker,
        generator=torch.Generator(),  # the loader draws a seed that nothing uses: not from the run's numbers
    )
    arrivals = _Arrivals(loader)
    return _Uploads(arrivals, device) if pins else arrivals


@contextmanager
def closing_stream(batches: Iterator[Batch]) -> Iterator[Iterator[Batch]]:
    """A block after which the workers behind `batches` have ended."""
    try:
        yield batches
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()


def _in_a_worker(number: int) -> None:
    leave_signals_to_the_parent()
    release_locks()


class _Arrivals:
    """Batches as workers give them; a refusal is raised where its batch is wanted."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        with signals_later():
            self.found = iter(loader)
        for worker in getattr(self.found, "_workers", ()):
            worker.terminate = worker.kill  # how torch ends one that does not end by itself; other signals it ignores

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        try:
            batch: Batch | FlowconfError = next(self.found)
        except RuntimeError as problem:
            raise worker_died(problem) from problem
        if isinstance(batch, FlowconfError):
            raise batch
        return batch

    def close(self) -> None:
        """End the workers."""
        shutdown = getattr(self.found, "_shutdown_workers", None)
        if shutdown is not None:
            shutdown()


class _Uploads:
    """Batches on their way to a CUDA device, on a stream of their own, by a thread that is two ahead."""

    def __init__(self, batches: Iterable[Batch], device: torch.device) -> None:
        self.device = device
        self.ready: queue.Queue[Callable[[], Batch]] = queue.Queue(maxsize=2)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._upload, args=(batches,), daemon=True)
        self.thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self.ready.get()()

    def close(self) -> None:
        """End the thread and the workers."""
        self.ended.set()
        self.thread.join(timeout=30)

    def _upload(self, batches: Iterable[Batch]) -> None:
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        try:
            for batch in batches:
                with torch.cuda.stream(side):
                    moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
                if not self._put(functools.partial(_arrived, moved, side.record_event())):
                    return
        except Exception as problem:  # noqa: BLE001 - it is raised again where the batch is wanted
            self._put(functools.partial(_raise, problem))
            return
        self._put(functools.partial(_raise, StopIteration()))

    def _put(self, ready: Callable[[], Batch]) -> bool:
        while not self.ended.is_set():
            try:
                self.ready.put(ready, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False


def _arrived(batch: Batch, event: torch.cuda.Event) -> Batch:
    current = torch.cuda.current_stream()
    current.wait_event(event)
    for tensor in batch.values():
        tensor.record_stream(current)
    return batch


def _raise(problem: BaseException) -> Batch:
    raise problem
