"""The order of training rows: each row once in an epoch, or rows drawn by the weights of their groups.

An order is a function of the rows, the weights, the seed and the epoch alone, so that it is the same in every process,
with any number of workers, and after resuming.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from flowconf.train.data.collate import typed_shape
from flowconf.train.seeds import seed_for


@dataclass(frozen=True)
class Groups:
    """Groups of rows, of which each is drawn with its own weight."""

    of: Tensor
    """The number of the group of each row: int64 [rows], on the CPU."""
    weights: tuple[float, ...]
    """The weight of each group, in any unit."""
    names: tuple[str, ...] = ()
    """The names of the groups, by which phases change their weights."""

    def weighted(self, changed: Mapping[str, float]) -> tuple[float, ...]:
        """The weights, some of them changed."""
        if not self.names:
            return self.weights
        return tuple(changed.get(name, weight) for name, weight in zip(self.names, self.weights, strict=True))


def by_value(values: Tensor, name: str) -> Groups:
    """Rows grouped by the values of a field, each as likely as the others. Raises `ValueError` for other fields."""
    if values.ndim != 1 or values.is_floating_point() or values.is_complex():
        kind = typed_shape(values.dtype, values.shape[1:])
        raise ValueError(f"rows can be drawn by an integer or boolean of each row, and `{name}` is {kind}")
    _, of = torch.unique(values.cpu(), return_inverse=True)
    return Groups(of, (1.0,) * (int(of.max()) + 1))


def by_weight(values: Tensor, name: str) -> Groups:
    """Each row as a group with its own weight. Raises `ValueError` for values that are no weights."""
    if values.ndim != 1:
        raise ValueError(f"the weight of a row is a number, and `{name}` is {list(values.shape[1:])}")
    weights = values.cpu().double()
    wrong = ~(weights.isfinite() & (weights >= 0))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(f"the weight `{name}` is {weights[row]:g} in row {row:,}, and must be at least 0")
    if not bool(weights.any()):
        raise ValueError(f"every row has the weight `{name}` 0")
    return Groups(torch.arange(len(weights)), tuple(weights.tolist()))


def epoch_order(rows: int, seed: int, epoch: int) -> Tensor:
    """The order of the training rows in one epoch: int64 [rows], on the CPU, the same for every device."""
    generator = torch.Generator().manual_seed(seed_for(seed, "order", epoch))
    return torch.randperm(rows, generator=generator)


def drawn_order(groups: Groups, weights: Sequence[float], count: int, seed: int, epoch: int) -> Tensor:
    """Rows drawn for one epoch: int64 [count], on the CPU.

    The group of each is drawn by the weights. The rows of a group take turns in a random order, so that each occurs
    equally often up to one. At a change of weights, the positions that are left are drawn by the new ones.
    """
    generator = torch.Generator().manual_seed(seed_for(seed, "order", epoch))
    shuffled = torch.randperm(len(groups.of), generator=generator)
    chance = torch.rand(count, dtype=torch.float64, generator=generator)
    by_group = shuffled[groups.of[shuffled].argsort(stable=True)]
    sizes = torch.bincount(groups.of, minlength=len(weights))
    shares = torch.tensor(weights, dtype=torch.float64).where(sizes > 0, 0)
    bounds = (shares / shares.max()).cumsum(0)
    last = int(shares.nonzero().max())
    group = torch.searchsorted(bounds, chance * bounds[-1], right=True).clamp_(max=last)
    order = group.argsort(stable=True)
    drawn = torch.bincount(group, minlength=len(weights))
    rank = torch.empty_like(group)
    rank[order] = torch.arange(count) - (drawn.cumsum(0) - drawn)[group[order]]
    return by_group[(sizes.cumsum(0) - sizes)[group] + rank % sizes[group]]


@dataclass(frozen=True)
class Buckets:
    """Rows of similar length, which are put into the same batch."""

    lengths: Tensor
    """The length of each row: int64 [rows], on the CPU."""
    pool: int
    """The number of batches whose rows are sorted together."""

    def order(self, rows: Tensor, batch_size: int, seed: int) -> Tensor:
        """The rows of an epoch in another order, in batches of similar length; the last batch may be smaller."""
        whole = len(rows) - len(rows) % batch_size
        pools = rows[:whole].split(self.pool * batch_size) if whole else ()  # type: ignore[no-untyped-call]
        batches = [some[self.lengths[some].argsort(stable=True)].view(-1, batch_size) for some in pools]
        if not batches:
            return rows
        generator = torch.Generator().manual_seed(seed)
        mixed = torch.cat(batches)[torch.randperm(whole // batch_size, generator=generator)]
        return torch.cat([mixed.flatten(), rows[whole:]])


@dataclass
class Sampler:
    """Batches of row numbers, epoch after epoch. Its state is (seed, epoch, position); position is in rows."""

    rows: int
    """Rows in one epoch."""
    batch_size: int
    seed: int
    device: torch.device
    drop_last: bool = False
    epoch: int = 0
    position: int = 0
    groups: Groups | None = None
    """The groups by which rows are drawn; None: each row is taken once in an epoch."""
    buckets: Buckets | None = None
    """Batches of rows of similar length; None: of any rows."""
    weights: tuple[float, ...] = ()
    """The current weights of the groups."""
    start: int = 0
    """The position of the current batch."""
    _known: tuple[object, Tensor] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.groups is not None and not self.weights:
            self.weights = self.groups.weights

    @property
    def batches(self) -> int:
        """Batches in one epoch."""
        whole, rest = divmod(self.rows, self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    @property
    def epoch_is_over(self) -> bool:
        """Whether the last batch of the epoch has been yielded."""
        return self.position >= self._end

    @cached_property
    def _end(self) -> int:
        return min(self.batches * self.batch_size, self.rows)

    def batch_of(self, step: int) -> tuple[int, int, Tensor]:
        """The epoch of a step, the position of its batch in the epoch, and the row numbers, on the CPU."""
        epoch, number = divmod(step, self.batches)
        start = number * self.batch_size
        return epoch, start, self._order(epoch)[start : start + self.batch_size]

    def rest_of_epoch(self) -> Iterator[Tensor]:
        """The row numbers of each batch from `position` on; `epoch` is incremented after the last one."""
        end = self._end
        while self.position < end:
            self.start, self.position = self.position, min(self.position + self.batch_size, end)
            yield self.current()
        self.epoch, self.position = self.epoch + 1, 0

    def current(self) -> Tensor:
        """The row numbers of the current batch, drawn by the weights as they are now."""
        key = (self.epoch, self.weights)
        if self._known is None or self._known[0] != key:
            self._known = key, self._order(self.epoch).to(self.device)
        return self._known[1][self.start : self.position]

    def _order(self, epoch: int) -> Tensor:
        if self.groups is None:
            found = epoch_order(self.rows, self.seed, epoch)
        else:
            found = drawn_order(self.groups, self.weights, self.rows, self.seed, epoch)
        if self.buckets is None:
            return found
        return self.buckets.order(found, self.batch_size, seed_for(self.seed, "buckets", epoch))
