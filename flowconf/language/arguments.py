"""The arguments of calls: values, `_`, lists and nested calls."""

from __future__ import annotations

from dataclasses import dataclass, field

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

    def __str__(self) -> str:
        shown = [show(argument) for argument in self.args]
        shown += [f"{name}={show(argument)}" for name, argument in self.kwargs]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


Argument = Literal | Hole | Call | ListArgument


def show(argument: Argument) -> str:
    """An argument as it is written in a document."""
    match argument:
        case Literal(text=text):
            return text
        case Hole():
            return "_"
        case ListArgument(items):
            return f"[{', '.join(show(item) for item in items)}]"
        case Call():
            return str(argument)
