"""Feeds the batches of a split to a device, in the order of a run or in the order of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flowconf.train.data.batches import Pass, RowStream, batch_of, read_again
from flowconf.train.data.collate import Batch
from flowconf.train.data.sampling import Sampler
from flowconf.train.data.splits import Resident, Split
from flowconf.train.data.streams import Order, Stream, closing_stream, stream, uploaded
from flowconf.train.seeds import seed_for
from flowconf.train.team.distributed import Team
from flowconf.train.team.shares import Idle

LONGEST = 100_000
"""Rows of a stream that are read once more to find one of them."""


def in_parts(rows: Tensor, parts: int) -> Sequence[Tensor]:
    """The rows of a batch in at most `parts` parts of nearly the same size."""
    return (rows,) if parts == 1 else torch.split(rows, -(-len(rows) // parts))


class Feed:
    """Feeds the batches of a split to the device: the split is resident there, or is moved batch by batch.

    `home` is the device of row numbers and of the generator, which is seeded for every batch. With several processes
    (`team`), each gets its own rows of a training batch, and its own batches of an evaluation. With `workers`, or for
    an iterable data set, batches are made by worker processes, each with `prefetch` batches ahead: for training within
    the block `ahead`. With `channels_last`, four-dimensional tensors use this memory format.
    """

    def __init__(
        self,
        split: Split,
        device: torch.device,
        seed: int,
        use: str,
        team: Team | None = None,
        workers: int = 0,
        prefetch: int = 2,
        channels_last: bool = False,
    ) -> None:
        resident = isinstance(split, Resident)
        self.split: Split = split.to(device) if isinstance(split, Resident) else split
        self.home = device if resident else torch.device("cpu")
        self.device = device
        self.seed = seed
        self.use = use
        self.team = team or Team(device)
        self.generator = torch.Generator(self.home)
        self.is_iterable = isinstance(split, RowStream)
        self.draws = not (type(split) is Resident and split.augment is None)
        """Whether batches may depend on their seed."""
        self.augments = hasattr(split, "augmented")
        """Whether rows are augmented, each with its own seed."""
        self.workers = 0 if resident else max(workers, int(self.is_iterable))
        self.prefetch = prefetch
        self.layout = torch.channels_last if channels_last else torch.preserve_format
        self.moves = self.home != device or channels_last
        self.given: Batch | None = None
        """What `batch` gives in the block `giving`."""
        self.seen: list[Batch] | None = None
        """Where every `batch` is noted; None: nowhere."""
        self._coming: Iterator[Batch] | None = None
        self._streams = ExitStack()

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, rows: Tensor, number: int, part: int = 0) -> Batch:
        """The given rows as (a part of) batch `number`: a function of the rows, the number, the seed and the process.

        A process without rows in this batch gets one row with zero weight (`Idle`).
        """
        if self.given is not None:
            return self.given
        own, counts = self.team.part(rows, number)
        if self._coming is not None:
            batch = self._moved(next(self._coming))
        else:
            batch = self._batch(own, *self._seeds(len(rows), number, part))
        found = batch if counts else Idle(batch)
        if self.seen is not None:
            self.seen.append(found)
        return found

    @contextmanager
    def giving(self, batch: Batch) -> Iterator[None]:
        """A block in which `batch` gives this one."""
        self.given = batch
        try:
            yield
        finally:
            self.given = None

    def rows(self, rows: Tensor) -> Batch:
        """Some rows, to try something on them: the same in every process, and at any time."""
        return self._batch(rows.to(self.home), self._seed(0))

    def first_rows(self, count: int) -> Batch:
        """The first rows, as `rows` gives them."""
        return self.rows(torch.arange(min(count, len(self))))

    def again(self, sampler: Sampler, step: int) -> tuple[Batch, Tensor] | None:
        """The whole batch of a training step, made once more, and its rows; None if a long stream precedes it."""
        epoch, start, rows = sampler.batch_of(step)
        if not isinstance(self.split, RowStream):
            return self._batch(rows.to(self.home), self._seed(step), self._row_seeds(range(len(rows)), step, 0)), rows
        if start > LONGEST:
            return None
        seed, stop = seed_for(self.seed, self.use, "epoch", epoch), start + len(rows)
        return self._moved(read_again(self.split, epoch, seed, start, stop)), torch.arange(start, stop)

    def dealt(self, batch_size: int) -> bool:
        """Whether `in_order` distributes batches over the processes, if there are enough; otherwise each gets all."""
        return 1 < self.team.size <= -(-len(self) // batch_size)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All rows once, in order; if they are `dealt`, the batches are distributed round-robin over the processes.

        Each process gets the same number of batches: if none is left for one, its last batch has zero weight (`Idle`).
        """
        rows = torch.arange(len(self), device=self.home)
        batches = list(enumerate(torch.split(rows, batch_size)))
        dealt = self.dealt(batch_size)
        mine = [(some, self._seed(number)) for number, some in batches if not dealt or self.team.mine(number)]
        yield from self._in_turn(mine, batch_size)
        if dealt and len(mine) * self.team.size < len(batches):
            yield Idle(self.first_rows(1))

    def _in_turn(self, mine: Sequence[tuple[Tensor, int]], batch_size: int) -> Iterator[Batch]:
        """Batches of these rows and seeds."""
        if not self.workers:
            yield from (self._batch(some, seed) for some, seed in mine)
            return
        whole: Pass = (0, self._seed(0), [(int(some[0]), int(some[-1]) + 1) for some, _ in mine])
        orders: list[Order] = [(some.tolist(), seed, None) for some, seed in mine]
        with closing_stream(self._stream([whole] if self.is_iterable else orders, batch_size)) as batches_of_workers:
            yield from map(self._moved, batches_of_workers)

    @contextmanager
    def ahead(self, sampler: Sampler, step: int, last_step: int, parts: int) -> Iterator[None]:
        """A block in which `batch` is called for the batches of `sampler` from `step` on, each in `parts` parts."""
        with ExitStack() as self._streams:
            self._read_ahead(sampler, step, last_step, parts)
            yield
        self._coming = None

    def redrawn(self, sampler: Sampler, step: int, last_step: int, parts: int) -> Tensor:
        """The rows of the current batch after a change of weights; batches made in advance are discarded."""
        self._streams.close()
        self._read_ahead(replace(sampler, position=sampler.start), step, last_step, parts)
        return sampler.current()

    def _read_ahead(self, sampler: Sampler, step: int, last_step: int, parts: int) -> None:
        """Start the workers, if there are any."""
        if self.workers:
            copy = replace(sampler)
            orders = self._passes(copy, parts) if self.is_iterable else self._orders(copy, step, last_step, parts)
            batches = self._stream(orders, -(-sampler.batch_size // parts))
            self._coming = self._streams.enter_context(closing_stream(batches))

    def _orders(self, sampler: Sampler, step: int, last_step: int, parts: int) -> Iterator[Order]:
        while step < last_step:
            for rows in sampler.rest_of_epoch():
                for part, some in enumerate(in_parts(rows, parts)):
                    own, _ = self.team.part(some, step)
                    yield own.tolist(), *self._seeds(len(some), step, part)
                step += 1

    def _passes(self, sampler: Sampler, parts: int) -> Iterator[Pass]:
        while True:
            epoch, start, spans = sampler.epoch, sampler.position, []
            for rows in sampler.rest_of_epoch():
                for some in in_parts(rows, parts):
                    own, _ = self.team.part(torch.arange(start, start + len(some)), 0)
                    spans.append((int(own[0]), int(own[-1]) + 1))
                    start += len(some)
            yield epoch, seed_for(self.seed, self.use, "epoch", epoch), spans

    def _stream(self, orders: Iterable[Any], rows: int) -> Stream:
        return stream(self.split, orders, rows, self.workers, self.prefetch, self.device)

    def _seed(self, number: int, rank: int = 0, part: int = 0) -> int:
        if not self.draws:
            return 0
        own = (rank, part) if part else (rank,) if rank else ()  # nothing is added for rank 0 and a single part
        return seed_for(self.seed, self.use, number, *own)

    def _seeds(self, rows: int, number: int, part: int) -> tuple[int, list[int] | None]:
        """The seeds of a part of a training batch for this process: of the batch, and of each augmented row."""
        seed = self._seed(number, self.team.rank, part)
        if not self.augments:
            return seed, None
        places, _ = self.team.part(torch.arange(rows), number)
        return seed, self._row_seeds(places.tolist(), number, part)

    def _row_seeds(self, places: Iterable[int], number: int, part: int) -> list[int] | None:
        """The seeds of the rows at these places of a training batch, if they are augmented."""
        return [seed_for(self.seed, "augment", number, part, at) for at in places] if self.augments else None

    def _batch(self, rows: Tensor, seed: int, seeds: Sequence[int] | None = None) -> Batch:
        generator = self.generator.manual_seed(seed) if self.draws else self.generator
        return self._moved(batch_of(self.split, rows, generator, seeds))

    def _moved(self, batch: Batch) -> Batch:
        if not self.moves:
            return batch
        return {name: self._placed(tensor) for name, tensor in batch.items()}

    def _placed(self, tensor: Tensor) -> Tensor:
        """A tensor on the device, in the layout of the run."""
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            tensor = uploaded(tensor, self.device)
        layout = self.layout if tensor.ndim == 4 else torch.preserve_format
        return tensor.to(self.device, memory_format=layout)
