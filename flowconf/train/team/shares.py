"""The shares of a global batch that each process computes (equal, given or measured), and loss terms scaled for them.

The gradient of several processes is the mean of their gradients. The value of a term in one process is therefore the
sum over its own elements, times the number of processes, divided by the total weight of the elements of all processes:
the mean of these is the mean over the global batch, for any shares and masks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flowconf.train.objective.terms import Sums, Term, Values
from flowconf.train.runs.saved import SavedShares

WARMUP = 3
"""Forward passes before the measurement, which fill caches and compile kernels."""
MEASURED = 8
"""Forward passes that are measured."""
AHEAD = 16
"""Batches between a measurement and the first one that uses it: more than any loader prefetches."""


class Idle(dict[str, Tensor]):
    """A batch for a process without rows of the global batch: it takes part in the step with zero weight."""


def divide(rows: int, shares: Sequence[float]) -> list[int]:
    """The number of `rows` for each process: they sum to `rows`, and each gets at least one if there are enough.

    Largest remainder method; ties go to the lower rank. `shares` must be above 0.
    """
    least = 1 if rows >= len(shares) else 0
    free = rows - least * len(shares)
    exact = [free * share / sum(shares) for share in shares]
    counts = [int(part) for part in exact]
    by_remainder = sorted(range(len(shares)), key=lambda at: (counts[at] - exact[at], at))
    for at in by_remainder[: free - sum(counts)]:
        counts[at] += 1
    return [count + least for count in counts]


@dataclass
class RowShares:
    """The shares of every process: as given, and as measured from batch `measured_from` on."""

    given: tuple[float, ...]
    measured: tuple[float, ...] | None = None
    measured_from: int = 0
    latest: int = 0
    """The highest batch number so far."""

    def at(self, number: int) -> tuple[float, ...]:
        """The shares of batch `number`."""
        self.latest = max(self.latest, number)
        return self.given if self.measured is None or number < self.measured_from else self.measured

    def state(self) -> SavedShares | None:
        """The measured shares for a checkpoint; None before the measurement."""
        if self.measured is None:
            return None
        return SavedShares(measured=list(self.measured), measured_from=self.measured_from)

    def restore(self, state: SavedShares) -> None:
        """Restore `state()`, if it is of the same number of processes."""
        if len(state.measured) == len(self.given):
            self.measured, self.measured_from = tuple(state.measured), state.measured_from

    def part(self, rows: Tensor, number: int, rank: int) -> Tensor:
        """The rows of the global batch `number` that process `rank` computes; possibly none."""
        counts = divide(len(rows), self.at(number))
        start = sum(counts[:rank])
        return rows[start : start + counts[rank]]


AddUp = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes, in place."""


@dataclass(frozen=True, slots=True)
class SharedTerm(Term):
    """A term of the loss for one process: its mean over all processes is the mean of the global batch."""

    size: int = 1
    add_up: AddUp = field(default=lambda tensor: tensor)

    def mean(self, values: Values, batch: Values) -> Tensor:
        own = self.sums(values, batch)
        return own.share_of(self.over_processes(own)) * self.size

    def sums(self, values: Values, batch: Values) -> Sums:
        own = Term.sums(self, values, batch)
        return Sums(own.values * 0, own.weights * 0) if isinstance(batch, Idle) else own

    def part(self, values: Values, batch: Values, whole: Sums) -> Tensor:
        return self.sums(values, batch).share_of(whole) * self.size

    def over_processes(self, own: Sums) -> Sums:
        values, weights = self.add_up(torch.stack([own.values.detach(), own.weights.detach()])).unbind()
        return Sums(values, weights)


def shared_term(term: Term, size: int, add_up: AddUp) -> SharedTerm:
    """The same term for one of `size` processes."""
    return SharedTerm(
        term.name, term.function, term.operands, term.mask, term.args, term.weight, term.reduces, size, add_up
    )


class Stopwatch:
    """Measures the rows per second of each process in the first forward passes, and sets the shares to them.

    Only the forward pass is measured, because the processes synchronize in the backward pass.
    """

    def __init__(
        self, shares: RowShares, gather: Callable[[tuple[float, int]], list[tuple[float, int]]], device: torch.device
    ) -> None:
        self.shares = shares
        self.gather = gather
        self.device = device
        self.calls = 0
        self.rows = 0
        self.seconds = 0.0
        self._began = 0.0
        self._hooks = ExitStack()

    def watch(self, view: nn.Module) -> None:
        """Measure the passes of `view` from now on, instead of an earlier view, until there are enough."""
        self._hooks.close()
        if self.shares.measured is None:
            self._hooks.enter_context(view.register_forward_pre_hook(self._before, with_kwargs=True))
            self._hooks.enter_context(view.register_forward_hook(self._after, with_kwargs=True))

    def _before(self, view: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._began = self._now()

    def _after(self, view: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        self.calls += 1
        if self.calls > WARMUP:
            self.seconds += self._now() - self._began
            self.rows += len(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)))
        if self.calls == WARMUP + MEASURED:
            self._hooks.close()
            found = self.gather((self.rows / max(self.seconds, 1e-9), self.shares.latest))
            self.shares.measured = tuple(speed for speed, _ in found)
            self.shares.measured_from = max(latest for _, latest in found) + AHEAD

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
