"""The values of the shape check: fake tensors, dicts of them, or nothing known; and where each comes from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from flowconf.diagnostics import Place
from flowconf.language.plan import GraphPlan, Value


@contextmanager
def quiet() -> Iterator[None]:
    """torch logs and warns of what fails or is odd on fake tensors; the diagnostic says it better."""
    loggers = [
        logging.getLogger(name) for name in ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):  # of fake tensors' data pointers, and the like
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Unknown:
    """A value of which nothing is known."""


UNKNOWN = Unknown()


def each(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """`change` on every tensor of a value."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: each(item, change) for name, item in value.items()}
    return UNKNOWN


def called(built: nn.Module, stream: Any, using: dict[str, Any]) -> Any:
    """A module on fake values. Recurrent ones, which would run once for each of a thousand steps, see two of them."""
    dim = 1 if getattr(built, "batch_first", False) else 0
    if (
        not isinstance(built, nn.RNNBase)
        or not isinstance(stream, Tensor)
        or stream.dim() != 3
        or stream.shape[dim] < 3
    ):
        return built(stream, **using)
    steps, state = built(stream.narrow(dim, 0, 2), **using)
    sizes = [*steps.shape]
    sizes[dim] = stream.shape[dim]
    return steps.new_empty(sizes), state


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


@dataclass
class Source:
    """Where an arriving value comes from, for the other side of a mistake."""

    name: str
    place: Place


@dataclass
class Scope:
    """The values of one graph while it runs."""

    graph: GraphPlan
    path: str
    local: dict[str, Any]
    places: dict[str, Source]
    inside: dict[str, tuple[Scope, Callable[[Tensor], Any]]] = field(default_factory=dict)
    branches: dict[str, dict[str, Any]] = field(default_factory=dict)
    before: Any = UNKNOWN
    """What the step at hand would read of a previous call: zeros like its stream."""

    def value(self, value: Value) -> Any:
        """The fake value of a reference."""
        if value.recurrent:
            return self.before
        if value.inner is not None:
            if value.member not in self.inside or value.member in self.branches:
                return UNKNOWN
            inner, change = self.inside[value.member]
            return each(inner.value(value.inner), change)
        found = self.local.get(value.member, UNKNOWN)
        if value.entry is None or found is UNKNOWN:
            return found
        if value.member in self.branches:
            return self.branches[value.member][value.entry]
        return found.get(value.entry, UNKNOWN) if isinstance(found, dict) else found

    def source(self, value: Value) -> Source:
        known = self.places.get(value.member)
        return Source(str(value), known.place if known else value.place)


MERGES: dict[str, Callable[[list[Any], int | None], Any]] = {
    "add": lambda values, dim: sum(values[1:], values[0]),
    "mean": lambda values, dim: sum(values[1:], values[0]) / len(values),
    "mul": lambda values, dim: reduce(torch.mul, values),
    "max": lambda values, dim: reduce(torch.maximum, values),
    "cat": lambda values, dim: torch.cat(values, dim or 0),
    "stack": lambda values, dim: torch.stack(values, dim or 0),
}
