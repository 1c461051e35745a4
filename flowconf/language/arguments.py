"""The arguments of calls: values, `_`, lists and nested calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flowconf.report import NOWHERE, Place

Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in a call, and its text in terms of the document's parameters.

    `of` are the parameters from which it was computed, and `items` the items of a list. `outer`: a parameter that is
    set outside its document, by `with` or by an override.
    """

    value: Scalar | tuple[object, ...]
    text: str
    place: Place = field(default=NOWHERE, compare=False)
    of: tuple[Literal, ...] = field(default=(), compare=False, repr=False)
    outer: bool = field(default=False, compare=False, repr=False)
    items: tuple[Literal, ...] = field(default=(), compare=False, repr=False)

    @property
    def plain(self) -> Any:
        """The value as Python code gets it, with lists for tuples."""
        return _plain(self.value)


@dataclass(frozen=True, slots=True)
class Hole:
    """`_`: an input size that is inferred from the arriving shape."""

    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class ListArgument:
    """A list in a call with items that are not plain values."""

    items: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A module to construct: a registered name with its arguments."""

    name: str
    args: tuple[Argument, ...] = ()
    kwargs: tuple[tuple[str, Argument], ...] = ()
    place: Place = field(default=NOWHERE, compare=False)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """All arguments, those with names last."""
        return *self.args, *(argument for _, argument in self.kwargs)

    def __str__(self) -> str:
        return show(self)


Argument = Literal | Hole | Call | ListArgument


def walk(argument: Argument) -> Iterator[Argument]:
    """An argument, and all that it contains, in order of appearance."""
    yield argument
    inside = argument.arguments if isinstance(argument, Call) else ()
    for one in argument.items if isinstance(argument, ListArgument) else inside:
        yield from walk(one)


def python_value(argument: Argument, hole: Callable[[Hole], Any], call: Callable[[Call], Any]) -> Any:
    """An argument as Python code gets it; `hole` and `call` give the values of `_` and of nested calls."""
    match argument:
        case Literal():
            return argument.plain
        case Hole():
            return hole(argument)
        case ListArgument(items):
            return [python_value(item, hole, call) for item in items]
        case Call():
            return call(argument)


def written(value: object) -> str:
    """A plain value as it is written in a call, which has no mappings."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return "..."
    return str(value).lower() if isinstance(value, bool) or value is None else repr(value)


def _text(literal: Literal) -> str:
    return literal.text


def show(argument: Argument, literal: Callable[[Literal], str] = _text, hole: Callable[[], str] = lambda: "_") -> str:
    """An argument as it is written in a document, or with other texts for its values and its `_`, in their order."""
    match argument:
        case Literal():
            return literal(argument)
        case Hole():
            return hole()
        case ListArgument(items):
            return f"[{', '.join(show(item, literal, hole) for item in items)}]"
        case Call():
            shown = [show(one, literal, hole) for one in argument.args]
            shown += [f"{name}={show(one, literal, hole)}" for name, one in argument.kwargs]
            return f"{argument.name}({', '.join(shown)})" if shown else argument.name


def _plain(value: object) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
