"""Which of the values that a number was computed from is wrong: the expression, or a parameter, wherever it is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeGuard

from flowconf.language.advice import call_slips
from flowconf.language.arguments import Literal
from flowconf.report import Label, Reporter

Fits = Callable[[object], bool]


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Whether something can be a size: a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def cause(given: Literal, fits: Fits) -> Literal:
    """The value furthest up that does not fit; the given one where all that it was computed from fit.

    A list that was put together of parameters has no lists in it.
    """
    holds = isinstance(given.value, tuple) and next(bare(given), None) is None
    wrong = (of for of in given.of if not fits(of.value) or (holds and isinstance(of.value, tuple)))
    found = next(wrong, None)
    return given if found is None else cause(found, fits)


def bare(given: Literal) -> Iterator[Literal]:
    """The parameters that a value is, one the other: its own document's first, then what a parent's `with` gave it."""
    while len(given.of) == 1 and given.of[0].value == given.value and given.text.isidentifier():
        given = given.of[0]
        yield given


def told(given: Literal, fits: Fits, wanted: str, use: str, reporter: Reporter, path: str) -> bool:
    """Tell of a value that is wrong because a parameter is, once, where that is set; False where none is.

    `use` says what the parameter is there, as in "`repeat`" or "`out_features` of `Linear`".
    """
    wrong = cause(given, fits)
    if wrong is given:
        return False
    message = f"`{wrong.text}` must be {wanted}, got {call_slips.shown(wrong.value)}: it stands in {use}"
    labels = (Label("it is used here", given.place),)
    reporter.error("FC0123", message, wrong.place, path=path, labels=labels)
    return True
