"""Numbers that change over a run, such as the weight of a loss term: how they are written, and their values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, Field

from flowconf.language.section import Section
from flowconf.language.value_types import Finite, Fraction
from flowconf.report import Reporter
from flowconf.report.origins import Path, dotted


def number_or_mapping(value: object) -> str:
    """The tag of a number, or of a mapping instead of one."""
    return "<mapping>" if isinstance(value, dict | BaseModel) else "<number>"


class Ramp(Section):
    """A number that changes from one value to another during a part of the run, and is constant before and after it."""

    start: Finite = Field(alias="from")
    """The value before the part."""
    to: Finite
    """The value after the part."""
    after: Fraction = 0.0
    """The beginning of the part, as a fraction of the run's steps."""
    over: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The length of the part, as a fraction of the run's steps."""


class Stairs(Section):
    """A piecewise constant number."""

    values: Annotated[list[Finite], Field(min_length=1)]
    """The values in order: one more than the jumps."""
    at: list[Fraction]
    """The jumps, as fractions of the run's steps, in ascending order."""


class Changing(Section):
    """A number that changes over the run. Exactly one key is set."""

    linear: Ramp | None = None
    """Linear, such as `{linear: {from: 0, to: 1, over: 0.5}}`."""
    cosine: Ramp | None = None
    """A half cosine."""
    steps: Stairs | None = None
    """Piecewise constant, such as `{steps: {values: [1, 0.1], at: [0.75]}}`."""


def value_at(number: float | Changing, progress: float) -> float:
    """The value at a progress of the run (0: the first step, 1: the end), such as 0.5 in the middle of 0 to 1."""
    if not isinstance(number, Changing):
        return number
    if number.steps is not None:
        return number.steps.values[sum(progress >= edge for edge in number.steps.at)]
    ramp = number.linear or number.cosine
    assert isinstance(ramp, Ramp)
    done = min(max((progress - ramp.after) / ramp.over, 0.0), 1.0)
    if number.cosine is not None:
        done = 0.5 - 0.5 * math.cos(math.pi * done)
    return ramp.start + (ramp.to - ramp.start) * done


def in_words(number: float | Changing) -> str:
    """The value, or the first and the last one, such as `0.996 to 1`."""
    first, last = (f"{value_at(number, progress):g}" for progress in (0.0, 1.0))
    return first if first == last else f"{first} to {last}"


def check(number: float | Changing, where: Path, reporter: Reporter) -> None:
    """Report a number that changes in no way or in several, or by jumps that do not fit its values."""
    if not isinstance(number, Changing):
        return
    key = only_key(number, where, reporter)
    if key == "steps" and number.steps is not None:
        stairs, at = number.steps, (*where, "steps")
        if len(stairs.values) != len(stairs.at) + 1:
            count = len(stairs.values)
            message = f"`at` must have one entry fewer than `values` ({count}), got {len(stairs.at)}"
            reporter.error("FC0123", message, reporter.value((*at, "at")), at=at)
        elif any(first >= second for first, second in pairwise(stairs.at)):
            message = f"the jumps must be in ascending order, got {stairs.at}"
            reporter.error("FC0123", message, reporter.value((*at, "at")), at=at)


def check_fractions(number: float | Changing, where: Path, reporter: Reporter) -> None:
    """Report values of a number that changes that are not between 0 and 1."""
    for at, value in _values(number, where) if isinstance(number, Changing) else ():
        if not 0 <= value <= 1:
            reporter.error("FC0123", f"`{dotted(at)}` must be between 0 and 1, got `{value:g}`", at=at)


def _values(number: Changing, where: Path) -> Iterator[tuple[Path, float]]:
    """The values that a number takes, and where they are written."""
    for key, ramp in (("linear", number.linear), ("cosine", number.cosine)):
        if ramp is not None:
            yield (*where, key, "from"), ramp.start
            yield (*where, key, "to"), ramp.to
    for position, value in enumerate(number.steps.values if number.steps is not None else ()):
        yield (*where, "steps", "values", position), value


def only_key(section: BaseModel, where: Path, reporter: Reporter) -> str | None:
    """The only key that is set; reports none and several."""
    keys = [name for name in type(section).model_fields if getattr(section, name) is not None]
    if len(keys) == 1:
        return keys[0]
    names = ", ".join(f"`{name}`" for name in type(section).model_fields)
    found = " and ".join(f"`{name}`" for name in keys) or "none"
    message = f"expected exactly one of {names}, got {found}"
    place = reporter.key((*where, keys[1])) if keys else reporter.value(where)
    advice = f"keep one of {found}" if keys else None
    reporter.error("FC0122", message, place, at=where, advice=advice)
    return None
