"""The assumed output of a module after a size mismatch, so that later errors are found as well."""

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
"""Arguments that determine the output size, independent of the input."""


def as_declared(built: nn.Module, call: Call, stream: Any, using: dict[str, Any]) -> Any:
    """The output of a module for a stream of the expected size; unknown where that is not certain."""
    found = expectation(built, call, stream)
    given = next((value for name, value in faults.bound(call).items() if name in GIVES), None)
    if found is None or given is None or not _is_independent(found, given, stream):
        return UNKNOWN
    axis = next(axis for axis, unit in UNITS.items() if unit == found.unit)
    shape = list(stream.shape)
    shape[axis] = found.expected
    try:
        return called(built, stream.new_empty(shape), using)
    except Exception:  # noqa: BLE001 - a module may raise anything, and the mismatch was reported
        return UNKNOWN


def _is_independent(found: Expectation, given: Literal, stream: Tensor) -> bool:
    """Whether the output size is right although the expected input size is wrong.

    It may not be if both are equal or swapped, depend on the same parameter, or if the stream should be flattened.
    """
    if given.value in (found.expected, found.actual):
        return False
    if any(prod(stream.shape[start:]) == found.expected for start in range(1, stream.dim() - 1)):
        return False
    parameters = [] if found.written is None else list(wrong_values.bare(found.written))
    return not any(of.place == other.place for of in parameters for other in given.of)
