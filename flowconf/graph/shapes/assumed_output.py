"""What a module gives although a size does not fit, so that other mistakes behind it are found as well."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor, nn

from flowconf.graph.shapes import faults
from flowconf.graph.shapes.fake_values import UNKNOWN, called
from flowconf.graph.shapes.sizes import UNITS, Expectation, expectation
from flowconf.language.arguments import Call, Literal
from flowconf.language.resolve import wrong_values

GIVES = ("out_features", "out_channels", "hidden_size")
"""Arguments that say what a module gives, whatever it is given."""


def as_declared(built: nn.Module, call: Call, stream: Any, using: dict[str, Any]) -> Any:
    """What a module would give to a stream of the size that it expects; unknown where that is not certain."""
    found = expectation(built, call, stream)
    given = next((value for name, value in faults.bound(call).items() if name in GIVES), None)
    if found is None or not isinstance(given, Literal) or not _is_independent(found, given, stream):
        return UNKNOWN
    axis = next(axis for axis, unit in UNITS.items() if unit == found.unit)
    shape = list(stream.shape)
    shape[axis] = found.expected
    try:
        return called(built, stream.new_empty(shape), using)
    except Exception:  # noqa: BLE001 - a module may raise anything, and it was told that it does not fit
        return UNKNOWN


def _is_independent(found: Expectation, given: Literal, stream: Tensor) -> bool:
    """Whether what a module gives is right although what it expects is wrong.

    It may not be where both are the same, where they were written in the wrong order, where one parameter makes both,
    and where the stream should have been flattened.
    """
    if given.value in (found.expected, found.actual):
        return False
    if any(prod(stream.shape[start:]) == found.expected for start in range(1, stream.dim() - 1)):
        return False
    behind = [] if found.written is None else list(wrong_values.bare(found.written))
    return not any(of.place == other.place for of in behind for other in given.of)
