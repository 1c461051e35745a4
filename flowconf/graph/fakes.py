"""Small things that the shape check does with fake values: tensors, dicts of them, or nothing known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Unknown:
    """A value of which nothing is known."""


UNKNOWN = Unknown()


def each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`change` on every tensor of a value."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: each(item, change) for name, item in value.items()}
    return UNKNOWN


def difference(a: Any, b: Any) -> str | None:
    """None when both have one structure and shape, else the field that differs ("" for the whole)."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return None if a.shape == b.shape else ""
    if isinstance(a, dict) and isinstance(b, dict):
        for name, value in b.items():
            if name in a and value is not UNKNOWN and a[name] is not UNKNOWN and difference(a[name], value) is not None:
                return str(name)
        return None
    return "" if isinstance(a, Tensor) != isinstance(b, Tensor) else None


def spread(value: Tensor, dim: int, count: int) -> list[int]:
    shape = list(value.shape)
    shape.insert(dim if dim >= 0 else len(shape) + 1 + dim, count)
    return shape


def repeat_rows(value: Any, times: int) -> Any:
    if times == 1 or value is UNKNOWN:
        return value
    return each(value, lambda tensor: tensor.repeat_interleave(times, 0))


def as_list(items: tuple[Any, ...]) -> list[Any]:
    return [as_list(item) if isinstance(item, tuple) else item for item in items]
