"""Points of a run and durations in it, in steps, in epochs or as a fraction of the run: how they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, Tag
from pydantic_core import PydanticCustomError

from flowconf.language.section import INSIDE, Choice, by_form
from flowconf.language.value_types import Count, Factor, Fraction, InWords, Positive


class Point(Choice):
    """A point of a run, counted from its start, or a duration."""

    epoch: Factor | None = None
    """After this number of epochs."""
    step: Count | None = None
    """After this number of steps."""
    fraction: Fraction | None = None
    """After this fraction of the run's steps."""

    @property
    def number(self) -> float:
        """The number of epochs or steps, or the fraction."""
        return float(getattr(self, self.key))


def _some_time(point: Point) -> Point:
    if not point.number:
        raise PydanticCustomError("greater_than", "greater than 0", {"gt": 0.0, INSIDE: (point.key,)})
    return point


_Number = Tag("<number>")
_Point = Annotated[Point, Tag("<mapping>")]
_Duration = Annotated[Point, AfterValidator(_some_time), Tag("<mapping>")]
_Either = by_form("<mapping>", "<number>")
_IN_PARTS = InWords("a fraction of the run, `{step: ...}` or `{epoch: ...}`")
_IN_STEPS = "a number of steps ({} or more), `{{epoch: ...}}` or `{{fraction: ...}}`"

Steps = Annotated[Annotated[Count, _Number] | _Point, _Either, InWords(_IN_STEPS.format(0))]
"""A duration, of which a number is steps and may be 0."""
Every = Annotated[Annotated[Positive, _Number] | _Duration, _Either, InWords(_IN_STEPS.format(1))]
"""A duration above 0, of which a number is steps."""
PartOfRun = Annotated[Annotated[Fraction, _Number] | _Point, _Either, _IN_PARTS]
"""A point of the run, of which a number is a fraction of it."""
LengthOfPart = Annotated[Annotated[float, Field(gt=0, le=1), _Number] | _Duration, _Either, _IN_PARTS]
"""A duration above 0, of which a number is a fraction of the run."""


@dataclass(frozen=True)
class RunLength:
    """The length of a run, by which points of it are numbers of steps."""

    steps: int
    per_epoch: int = 0
    """The steps of an epoch; 0: not known yet, and points in epochs are the start of the run."""

    def steps_before(self, point: int | Point) -> int:
        """The number of steps before a point; a number is one already."""
        if not isinstance(point, Point):
            return point
        if point.step is not None:
            return point.step
        whole = self.per_epoch if point.epoch is not None else self.steps
        return math.ceil(round(point.number * whole, 6))  # 0.07 of 100 steps are 7.000000000000001

    def progress_at(self, point: float | Point) -> float:
        """The fraction of the run's steps before a point; above 1 after the end. A number is one already."""
        if not isinstance(point, Point):
            return point
        return self.steps_before(point) / self.steps if point.fraction is None else point.fraction
