"""Built-in learning rate schedules: functions from progress (0 at the first step, 1 at the end) to a factor.

A schedule that depends on values of the run is a class: an instance is called in the same way, `observe(values)` gives
it every evaluation and every report of the training losses, and `state()` and `restore(state)` are for checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from flowconf.language.value_types import Count, Factor, Fraction, LoggedValue, Positive

__all__ = [
    "constant", "cosine", "cyclic", "exponential", "linear", "one_cycle", "plateau", "polynomial", "steps",
    "warm_restarts",
]  # fmt: skip


def constant(progress: float, *, value: Factor = 1.0) -> float:
    """Always `value`."""
    return value


def linear(progress: float, *, start: Factor = 1.0, final: Factor = 0.0) -> float:
    """Linear from `start` to `final`."""
    return start + (final - start) * progress


def cosine(progress: float, *, start: Factor = 1.0, final: Factor = 0.0) -> float:
    """Half a cosine from `start` to `final`."""
    return final + (start - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def exponential(progress: float, *, final: float = 0.01) -> float:
    """Exponential decay from 1 to `final`, which must be above 0."""
    if final <= 0:
        raise ValueError(f"`final` must be greater than 0, got {final:g}")
    return math.pow(final, progress)


def polynomial(progress: float, *, power: Factor = 2.0, start: Factor = 1.0, final: Factor = 0.0) -> float:
    """From `start` to `final`, by the remaining progress to a `power`: 1 is linear, 2 decays fast at first."""
    return final + (start - final) * math.pow(1.0 - progress, power)


def steps(progress: float, *, at: Sequence[Fraction], factor: float = 0.1) -> float:
    """1, multiplied by `factor` at each of the progress values `at`, such as `[0.5, 0.75]`."""
    return float(factor ** sum(progress >= edge for edge in at))


def one_cycle(progress: float, *, rise: Fraction = 0.3, start: Factor = 0.04, final: Factor = 4e-6) -> float:
    """Half a cosine from `start` up to 1 in the part `rise` of the run, then one down to `final`."""
    if progress < rise:
        return cosine(progress / rise, start=start, final=1.0)
    return cosine((progress - rise) / (1.0 - rise) if rise < 1 else 1.0, final=final)


def cyclic(progress: float, *, cycles: Positive = 4, low: Factor = 0.1, decay: Fraction = 1.0) -> float:
    """Linear from `low` to 1 and back in each cycle; the height of each is `decay` times that of the one before it."""
    number, within = divmod(progress * cycles, 1.0)
    if progress >= 1:
        return low  # after the last cycle
    return low + (1.0 - low) * math.pow(decay, number) * (1.0 - abs(2.0 * within - 1.0))


def warm_restarts(progress: float, *, cycles: Positive = 4, longer: Factor = 1.0, final: Factor = 0.0) -> float:
    """Half a cosine from 1 to `final` in each cycle; each is `longer` times as long as the one before it."""
    if longer <= 0:
        raise ValueError(f"`longer` must be greater than 0, got {longer:g}")
    lengths = [longer**number for number in range(cycles)]
    left = progress * sum(lengths)
    for length in lengths[:-1]:
        if left < length:
            return cosine(left / length, final=final)
        left -= length
    return cosine(min(left / lengths[-1], 1.0), final=final)


class plateau:  # noqa: N801 - the name that a config uses
    """1, multiplied by `factor` whenever `value` has not improved for more than `patience` of its reports."""

    def __init__(
        self,
        *,
        value: LoggedValue = "val/loss",
        factor: Fraction = 0.1,
        patience: Count = 10,
        by: Factor = 0.0,
        cooldown: Count = 0,
        lowest: Factor = 0.0,
        mode: Literal["min", "max"] | None = None,
    ) -> None:
        """`by` is the minimum improvement, `cooldown` the number of reports that are ignored after a reduction, and
        `lowest` the smallest factor. `mode`: whether smaller or larger values are better; null: what the loss or
        metric declares."""
        self.value, self.factor, self.patience, self.by = value, factor, patience, by
        self.cooldown, self.lowest, self.sign = cooldown, lowest, -1.0 if mode == "max" else 1.0
        self.now, self.best, self.waited, self.resting = 1.0, math.inf, 0, 0

    def __call__(self, progress: float) -> float:
        """The current factor."""
        return self.now

    def observe(self, values: Mapping[str, float]) -> None:
        """Take note of the values of a report, if `value` is one of them."""
        if self.value not in values:
            return
        found = self.sign * values[self.value]
        if found < self.best - self.by:
            self.best, self.waited = found, 0
        else:
            self.waited += 1
        if self.resting > 0:
            self.waited, self.resting = 0, self.resting - 1
        if self.waited > self.patience:
            self.now = max(self.now * self.factor, self.lowest)
            self.waited, self.resting = 0, self.cooldown

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"now": self.now, "best": self.best, "waited": self.waited, "resting": self.resting}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state()`."""
        self.now, self.best = float(state["now"]), float(state["best"])
        self.waited, self.resting = int(state["waited"]), int(state["resting"])
