"""Shapes of a learning rate over a run: plain functions of progress (0 at the first step, 1 at the end) to a factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = ["constant", "cosine", "exponential", "linear", "steps"]


def constant(progress: float) -> float:
    """1 all along."""
    return 1.0


def linear(progress: float, *, final: float = 0.0) -> float:
    """A straight line from 1 down to `final`."""
    return 1.0 + (final - 1.0) * progress


def cosine(progress: float, *, final: float = 0.0) -> float:
    """Half a cosine from 1 down to `final`: slow, fast, slow."""
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def exponential(progress: float, *, final: float = 0.01) -> float:
    """A constant ratio from step to step, from 1 down to `final`, which is above 0."""
    if final <= 0:
        raise ValueError(f"`final` must be greater than 0, got {final:g}")
    return math.pow(final, progress)


def steps(progress: float, *, at: Sequence[float], factor: float = 0.1) -> float:
    """1, times `factor` from each of the progress values `at` on, such as `[0.5, 0.75]`."""
    return float(factor ** sum(progress >= edge for edge in at))


def factor_at(step: int, total: int, warmup: int, shape: Callable[[float], float]) -> float:
    """The factor of the optimizer's learning rate for `step` (the first is 0) of `total` steps.

    It rises linearly over the first `warmup` steps, the last of which has factor 1; `shape` spans the rest.
    """
    if step < warmup:
        return (step + 1) / warmup
    return shape((step - warmup) / max(total - warmup, 1))
