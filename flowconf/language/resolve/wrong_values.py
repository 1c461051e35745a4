"""Finds the wrong value that a computed one depends on: the expression, or a parameter, wherever it is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeGuard

from flowconf.language.advice import call_slips
from flowconf.language.arguments import Literal
from flowconf.report import NOWHERE, Label, Reporter

Fits = Callable[[object], bool]


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Whether a value can be a size: an integer of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def cause(given: Literal, fits: Fits) -> Literal:
    """The outermost source of a value that does not fit, or the value itself if all its sources fit.

    A list of parameters does not contain lists.
    """
    holds = isinstance(given.value, tuple) and next(bare(given), None) is None
    written = [of for of in given.of if of.place != NOWHERE]  # the number of a copy is not written anywhere
    wrong = (of for of in written if not fits(of.value) or (holds and isinstance(of.value, tuple)))
    found = next(wrong, None)
    return given if found is None else cause(found, fits)


def bare(given: Literal) -> Iterator[Literal]:
    """The parameters whose value this is: that of its own document first, then those of the parents' `with`."""
    while len(given.of) == 1 and given.of[0].value == given.value and given.text.isidentifier():
        given = given.of[0]
        yield given


def report(given: Literal, fits: Fits, wanted: str, use: str, reporter: Reporter, path: str) -> bool:
    """Report a wrong parameter that a wrong value depends on, where it is set; returns whether there is one.

    `use` is where the parameter is used, as in "`repeat`" or "`out_features` of `Linear`".
    """
    wrong = cause(given, fits)
    if wrong is given:
        return False
    message = f"`{wrong.text}` must be {wanted}, got {call_slips.shown(wrong.value)}: it is used in {use}"
    labels = (Label("used here", given.place),)
    reporter.error("FC0123", message, wrong.place, path=path, labels=labels)
    return True
