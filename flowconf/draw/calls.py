"""Calls as they are shown: with the values of parameters, and with the sizes that were inferred for `_`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flowconf.language.arguments import Call, Literal, show
from flowconf.language.plan import Applied, Chain


def by_value(call: Call, sizes: Iterable[int] = ()) -> str:
    """A call with the values of its arguments; `sizes` are those of its `_`, in the order in which they are written.

    Example:
        `Linear(_, 4 * width)` -> `Linear(192, 768)`
    """
    given = iter(sizes)
    return show(call, _value, lambda: str(next(given, "_")))


def calls_of(applied: Applied, sizes: Callable[[str], Iterable[int]]) -> tuple[str, ...]:
    """The calls of a module, one for each member of a chain; a reused module has those of the module itself.

    `sizes` gives those of the `_` at a path of the graph.
    """
    if isinstance(applied.target, Chain):
        return tuple(text for member in applied.target.members for text in calls_of(member, sizes))
    return (by_value(applied.target, sizes(applied.home)) if isinstance(applied.target, Call) else str(applied.target),)


def value_text(value: object) -> str:
    """A plain value as a call writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return repr(value)


def _value(literal: Literal) -> str:
    is_text = isinstance(literal.value, str) and not literal.of
    return literal.text if is_text or _is_number(literal.text) else value_text(literal.value)


def _is_number(text: str) -> bool:
    """Whether a value is written as a number, whose notation is kept."""
    try:
        float(text)
    except ValueError:
        return False
    return True
