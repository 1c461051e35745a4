"""The values of the shape check: fake tensors, dicts of them, or nothing known; and where each comes from."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    unset_fake_temporarily,
)

from flowconf.diagnostics import Place
from flowconf.language.plan import GraphPlan, Value, join
from flowconf.language.references import part


@contextmanager
def faked(grad: bool = False) -> Iterator[None]:
    """A block in which new tensors are fake: they have a shape, a type and, with `grad`, a history, but no numbers."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with quiet(), torch.random.fork_rng(devices=[]), torch.set_grad_enabled(grad), mode:
        yield


WantsNumbers = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException)
"""What is raised by code that fake tensors cannot run."""

real = unset_fake_temporarily
"""A block inside of one of `faked` in which new tensors are real."""


def with_numbers(value: Tensor, rows: Callable[[int], int], most: int) -> Tensor | None:
    """A real tensor like a fake one, with random numbers: `rows` gives its sizes. None for one of more than `most`."""
    shape = [rows(size) for size in value.shape]
    if math.prod(shape) > most:
        return None
    with real():
        if value.dtype.is_floating_point:
            return torch.rand(shape, dtype=value.dtype)
        return torch.zeros(shape, dtype=value.dtype)


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
    return steps.narrow(dim, 0, 1).expand(sizes).contiguous(), state


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


def stacked(value: Tensor, dim: int, count: int) -> Tensor:
    """So many equal values along a new dimension."""
    shape = list(value.shape)
    shape.insert(dim if dim >= 0 else len(shape) + 1 + dim, count)
    return value.unsqueeze(dim).expand(shape).contiguous()


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
    """The values of one graph while it runs.

    `path` is where it runs, `home` where its modules stand, and `shared` where those stand that it has from around it.
    """

    graph: GraphPlan
    path: str
    local: dict[str, Any]
    places: dict[str, Source]
    home: str = ""
    shared: dict[str, str] = field(default_factory=dict)
    inside: dict[str, tuple[Scope, Callable[[Tensor], Any]]] = field(default_factory=dict)
    """Path of a nested graph -> its values, and what makes those of one slice those of all."""
    branches: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Step -> how often its body runs."""
    before: Any = UNKNOWN
    """What the step at hand would read of a previous call: zeros like its stream."""

    def standing(self, path: str) -> str:
        """The full path of a module of this graph, or of one that it has from around it."""
        above = next((name for name in self.shared if f"{path}.".startswith(f"{name}.")), None)
        return join(self.home, path) if above is None else self.shared[above] + path[len(above) :]

    def value(self, value: Value) -> Any:
        """The fake value of a reference."""
        if value.recurrent:
            return self.before
        if value.inner is not None:
            inner = self._below(value)
            return UNKNOWN if inner is None else each(inner[0].value(value.inner), inner[1])
        found = self.local.get(value.member, UNKNOWN)
        if value.entry is None or found is UNKNOWN:
            return found
        if value.member in self.branches:
            return self.branches[value.member][value.entry]
        return found.get(value.entry, UNKNOWN) if isinstance(found, dict) else found

    def seen(self, value: Value, every: bool) -> Any:
        """The fake value as a loss gets it: with `every`, those of all iterations, stacked behind the batch."""
        step = self.graph.step(value.member)
        if value.inner is not None:
            below = self._below(value)
            if below is None:
                return UNKNOWN
            further = value.inner.inner is not None or value.inner.entry is not None
            found = below[0].seen(value.inner, every and further)
            if step is not None and step.verb == "map":
                found = each(found, below[1])
        else:
            found = self.value(Value(value.member, value.entry))
        if step is None or not step.iterates:
            return found
        if step.verb == "map" and value.index is not None:
            return each(found, lambda tensor: tensor.select(1 if value.inner else step.dim or 0, value.index or 0))
        if step.verb != "map" and every and value.index is None:
            return each(found, lambda tensor: stacked(tensor, 1, self.counts.get(step.name, 1)))
        return found

    def _below(self, value: Value) -> tuple[Scope, Callable[[Tensor], Any]] | None:
        """The values of the graph that a reference goes into."""
        step = self.graph.step(value.member)
        return None if step is None else self.inside.get(part(step, value.entry).path)

    def source(self, value: Value) -> Source:
        """Where the value of a reference comes from."""
        below = self._below(value) if value.inner is not None else None
        known = self.places.get(value.member)
        if below is not None and value.inner is not None:
            known = below[0].source(value.inner)
        return Source(str(value), known.place if known else value.place)


MERGES: dict[str, Callable[[list[Any], int | None], Any]] = {
    "add": lambda values, dim: sum(values[1:], values[0]),
    "mean": lambda values, dim: sum(values[1:], values[0]) / len(values),
    "mul": lambda values, dim: reduce(torch.mul, values),
    "max": lambda values, dim: reduce(torch.maximum, values),
    "cat": lambda values, dim: torch.cat(values, dim or 0),
    "stack": lambda values, dim: torch.stack(values, dim or 0),
}
