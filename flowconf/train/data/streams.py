"""Batches prefetched by worker processes.

A batch is a function of its rows and a seed, so the number of workers does not affect the results. Batches that were
prefetched past a checkpoint are made again after resuming.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from flowconf.report import FlowconfError
from flowconf.train.data.batches import Pass, RowStream, batch_of
from flowconf.train.data.collate import Batch
from flowconf.train.data.row_errors import worker_died
from flowconf.train.data.slots import Slots
from flowconf.train.runs.lock import release_locks
from flowconf.train.stopping import leave_signals_to_the_parent, signals_later

Order = tuple[list[int], int, list[int] | None]
"""Rows, the seed of their batch, and the seed of each row if they are augmented: plain numbers, which are sent to a
worker without shared memory."""
Sent = dict[str, Any] | FlowconfError
"""A batch whose tensors are in slots, or an error."""


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
