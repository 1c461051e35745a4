"""Who computes what of a global batch: shares of its rows, equal, given or measured, and loss terms that add up to it.

The gradient of several processes is the mean of their gradients. A term's value in one process is therefore its sum
over the process's own elements, times the number of processes, over the weight of all elements of all processes: the
mean of these is the mean over the global batch, whatever the shares are and however much a mask leaves to each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flowconf.train.objective.terms import Term, Values
from flowconf.train.runs.saved import SavedShares

WARMUP = 3
"""Forward passes that are not measured: they pay for caches and kernels."""
MEASURED = 8
"""Forward passes that are."""
AHEAD = 16
"""Batches between a measurement and the first one that is divided by it: more than any loader prepares ahead."""


class Idle(dict[str, Tensor]):
    """A batch for a process that has no row of the global one: it keeps step with the others and counts nothing."""


def divide(rows: int, shares: Sequence[float]) -> list[int]:
    """How many of `rows` each process gets: their sum is `rows`, and nobody gets none while there are enough.

    Largest remainders; of equal ones the first gets the row. `shares` are above 0.
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
    """The shares of every process: as given, and from the batch `measured_from` on as measured."""

    given: tuple[float, ...]
    measured: tuple[float, ...] | None = None
    measured_from: int = 0
    latest: int = 0
    """The highest number of a batch that has been divided."""

    def at(self, number: int) -> tuple[float, ...]:
        """The shares of batch `number`."""
        self.latest = max(self.latest, number)
        return self.given if self.measured is None or number < self.measured_from else self.measured

    def state(self) -> SavedShares | None:
        """What was measured, for a checkpoint; None before that."""
        if self.measured is None:
            return None
        return SavedShares(measured=list(self.measured), measured_from=self.measured_from)

    def restore(self, state: SavedShares) -> None:
        """Go on from `state()`, when it is of as many processes."""
        if len(state.measured) == len(self.given):
            self.measured, self.measured_from = tuple(state.measured), state.measured_from

    def part(self, rows: Tensor, number: int, rank: int) -> Tensor:
        """The rows of the global batch `number` that process `rank` computes; possibly none."""
        counts = divide(len(rows), self.at(number))
        start = sum(counts[:rank])
        return rows[start : start + counts[rank]]


Sums = Callable[[Tensor], Tensor]
"""Adds a tensor up over all processes, in place."""


@dataclass(frozen=True, slots=True)
class SharedTerm(Term):
    """A term of the loss whose mean is this process's part: the mean of all parts is the mean of the global batch.

    A function that gives one number for a whole batch counts once for each of its rows.
    """

    size: int = 1
    add_up: Sums = field(default=lambda tensor: tensor)

    def mean(self, values: Values, batch: Values) -> Tensor:
        elements, weights = self.elements(values, batch)
        if elements.dtype in (torch.bfloat16, torch.float16):
            elements = elements.float()
        rows = len(next(iter(batch.values())))
        if elements.ndim == 0:
            own, total = elements * rows, elements.new_tensor(rows)
        elif weights is None:
            own, total = elements.sum(), elements.new_tensor(elements.numel())
        else:
            own, total = (elements * weights).sum(), weights.detach().sum().to(elements.dtype)
        if isinstance(batch, Idle):
            own, total = own * 0, total * 0
        total = self.add_up(total)
        return own * self.size / total.clamp_min(torch.finfo(total.dtype).tiny)


def shared_term(term: Term, size: int, add_up: Sums) -> SharedTerm:
    """The same term for one of `size` processes."""
    return SharedTerm(
        term.name, term.function, term.operands, term.mask, term.args, term.weight, term.reduces, size, add_up
    )


class Stopwatch:
    """Measures how many rows a second a process computes in the first forward passes, and then divides by that.

    The forward pass alone is measured, for in the backward pass the processes wait for each other.
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
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def watch(self, view: nn.Module) -> None:
        """Measure the passes of `view` from now on, in the place of an earlier one, until there are enough."""
        for hook in self._hooks:
            hook.remove()
        if self.shares.measured is not None:
            return
        self._hooks = [
            view.register_forward_pre_hook(self._before, with_kwargs=True),
            view.register_forward_hook(self._after, with_kwargs=True),
        ]

    def _before(self, view: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._began = self._now()

    def _after(self, view: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        self.calls += 1
        if self.calls > WARMUP:
            self.seconds += self._now() - self._began
            self.rows += len(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)))
        if self.calls == WARMUP + MEASURED:
            for hook in self._hooks:
                hook.remove()
            self._hooks = []
            found = self.gather((self.rows / max(self.seconds, 1e-9), self.shares.latest))
            self.shares.measured = tuple(speed for speed, _ in found)
            self.shares.measured_from = max(latest for _, latest in found) + AHEAD

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
