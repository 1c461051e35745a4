"""Built-in learning rate schedules: plain functions from progress (0 at the first step, 1 at the end) to a factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = ["constant", "cosine", "exponential", "linear", "steps"]


def constant(progress: float) -> float:
    """Always 1."""
    return 1.0


def linear(progress: float, *, final: float = 0.0) -> float:
    """Linear decay from 1 to `final`."""
    return 1.0 + (final - 1.0) * progress


def cosine(progress: float, *, final: float = 0.0) -> float:
    """Cosine decay from 1 to `final`."""
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def exponential(progress: float, *, final: float = 0.01) -> float:
    """Exponential decay from 1 to `final`, which must be above 0."""
    if final <= 0:
        raise ValueError(f"`final` must be greater than 0, got {final:g}")
    return math.pow(final, progress)


def steps(progress: float, *, at: Sequence[float], factor: float = 0.1) -> float:
    """1, multiplied by `factor` at each of the progress values `at`, such as `[0.5, 0.75]`."""
    return float(factor ** sum(progress >= edge for edge in at))


def factor_at(step: int, total: int, warmup: int, shape: Callable[[float], float]) -> float:
    """The learning rate factor for `step` (the first is 0) of `total` steps.

    It increases linearly over the first `warmup` steps, to 1 in the last of them; `shape` covers the rest.
    """
    if step < warmup:
        return (step + 1) / warmup
    return shape((step - warmup) / max(total - warmup, 1))
