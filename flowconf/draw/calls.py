"""Calls as they are shown: with the values of parameters, and with the sizes that were inferred for `_`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from flowconf.language.arguments import Argument, Call, Hole, ListArgument, Literal
from flowconf.language.plan import Applied, Chain


def by_value(call: Call, sizes: Iterable[int] = ()) -> str:
    """A call with the values of its arguments; `sizes` are those of its `_`, in the order in which they are written.

    Example:
        `Linear(_, 4 * width)` -> `Linear(192, 768)`
    """
    return _call(call, iter(sizes))


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


def _call(call: Call, sizes: Iterator[int]) -> str:
    shown = [_argument(argument, sizes) for argument in call.args]
    shown += [f"{name}={_argument(argument, sizes)}" for name, argument in call.kwargs]
    return f"{call.name}({', '.join(shown)})" if shown else call.name


def _argument(argument: Argument, sizes: Iterator[int]) -> str:
    match argument:
        case Literal(value=value, text=text):
            return text if (isinstance(value, str) and not argument.of) or _is_number(text) else value_text(value)
        case Hole():
            return str(next(sizes, "_"))
        case ListArgument(items):
            return f"[{', '.join(_argument(item, sizes) for item in items)}]"
        case Call():
            return _call(argument, sizes)


def _is_number(text: str) -> bool:
    """Whether a value is written as a number, whose notation is kept."""
    try:
        float(text)
    except ValueError:
        return False
    return True
