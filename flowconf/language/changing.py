"""Numbers that change over a run, such as the weight of a loss term: how they are written, and their values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from flowconf.language.points import LengthOfPart, PartOfRun, Point, RunLength
from flowconf.language.section import INSIDE, RULE, Choice, Section
from flowconf.language.value_types import Finite
from flowconf.report.origins import Path


class Ramp(Section):
    """A number that changes from one value to another during a part of the run, and is constant before and after it."""

    start: Finite = Field(alias="from")
    """The value before the part."""
    to: Finite
    """The value after the part."""
    after: PartOfRun = 0.0
    """The beginning of the part: a fraction of the run's steps, `{step: 1000}` or `{epoch: 3}`."""
    over: LengthOfPart = 1.0
    """The length of the part: a fraction of the run's steps, `{step: 1000}` or `{epoch: 3}`."""


class Stairs(Section):
    """A piecewise constant number."""

    values: Annotated[list[Finite], Field(min_length=1)]
    """The values in order: one more than the jumps."""
    at: list[PartOfRun]
    """The jumps in ascending order: fractions of the run's steps, `{step: 1000}` or `{epoch: 3}`."""

    @model_validator(mode="after")
    def _has_fitting_jumps(self) -> Self:
        units = list(dict.fromkeys(jump.key if isinstance(jump, Point) else "fraction" for jump in self.at))
        jumps = [jump.number if isinstance(jump, Point) else jump for jump in self.at]
        message = ""
        if len(self.values) != len(jumps) + 1:
            message = f"`at` must have one entry fewer than `values` ({len(self.values)}), got {len(jumps)}"
        elif len(units) > 1:
            message = f"the jumps must have the same unit, got `{units[0]}` and `{units[1]}`"
        elif any(first >= second for first, second in pairwise(jumps)):
            message = f"the jumps must be in ascending order, got {jumps}"
        if message:
            raise PydanticCustomError(RULE, message, {INSIDE: ("at",)})
        return self


class Changing(Choice):
    """A number that changes over the run."""

    linear: Ramp | None = None
    """Linear, such as `{linear: {from: 0, to: 1, over: 0.5}}`."""
    cosine: Ramp | None = None
    """A half cosine."""
    steps: Stairs | None = None
    """Piecewise constant, such as `{steps: {values: [1, 0.1], at: [0.75]}}`."""


def value_at(number: float | Changing, step: int, length: RunLength) -> float:
    """The value in a step of a run (0: the first one), such as 0.5 in the middle of 0 to 1."""
    if not isinstance(number, Changing):
        return number
    progress = step / length.steps
    if number.steps is not None:
        return number.steps.values[sum(progress >= length.progress_at(jump) for jump in number.steps.at)]
    ramp = _ramp(number)
    done = min(max((progress - length.progress_at(ramp.after)) / length.progress_at(ramp.over), 0.0), 1.0)
    if number.cosine is not None:
        done = 0.5 - 0.5 * math.cos(math.pi * done)
    return ramp.start + (ramp.to - ramp.start) * done


def first_value(number: float | Changing) -> float:
    """The value before it changes."""
    if not isinstance(number, Changing):
        return number
    return number.steps.values[0] if number.steps is not None else _ramp(number).start


def last_value(number: float | Changing) -> float:
    """The value after the last change, which a run may end before."""
    if not isinstance(number, Changing):
        return number
    return number.steps.values[-1] if number.steps is not None else _ramp(number).to


def _ramp(number: Changing) -> Ramp:
    ramp = number.linear or number.cosine
    assert ramp is not None
    return ramp


def in_words(number: float | Changing) -> str:
    """The value, or the first and the last one, such as `0.996 to 1`."""
    first, last = f"{first_value(number):g}", f"{last_value(number):g}"
    return first if first == last else f"{first} to {last}"


def of_fractions(number: Changing) -> Changing:
    """A validator of numbers that change between 0 and 1."""
    for at, value in _values(number):
        if not 0 <= value <= 1:
            raise PydanticCustomError("fraction", "between 0 and 1", {INSIDE: at})
    return number


def _values(number: Changing) -> Iterator[tuple[Path, float]]:
    """The values that a number takes, and where they are written in it."""
    for key, ramp in (("linear", number.linear), ("cosine", number.cosine)):
        if ramp is not None:
            yield (key, "from"), ramp.start
            yield (key, "to"), ramp.to
    for position, value in enumerate(number.steps.values if number.steps is not None else ()):
        yield ("steps", "values", position), value
