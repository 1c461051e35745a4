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

from flowconf.language.plan import GraphPlan, Input, Mount, Step, Value, join
from flowconf.report import Place


@contextmanager
def faked(grad: bool = False, mode: FakeTensorMode | None = None) -> Iterator[FakeTensorMode]:
    """A block in which new tensors are fake: they have a shape, a type and, with `grad`, a history, but no numbers.

    The tensors of an earlier block can be used in one with the `mode` that it gave.
    """
    mode = mode or FakeTensorMode(allow_non_fake_inputs=True)
    with quiet(), torch.random.fork_rng(devices=[]), torch.set_grad_enabled(grad), mode:
        yield mode


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
    if isinstance(value, tuple | list):
        parts = [each(item, change) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return UNKNOWN


def kind_of(value: Any) -> str:
    """What a value is: "tensor", "number" (a tensor without dimensions), "dict", "named" (a NamedTuple), "tuple"."""
    if isinstance(value, tuple | list):
        return "named" if hasattr(value, "_fields") else "tuple"
    if isinstance(value, Tensor):
        return "tensor" if value.dim() else "number"
    return "dict" if isinstance(value, dict) else ""


def parts_of(value: Any) -> dict[str, Any] | None:
    """The named parts of a dict or NamedTuple, None for anything else."""
    if isinstance(value, dict):
        return value
    return value._asdict() if kind_of(value) == "named" else None


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


def part_at(value: Any, name: str) -> Any:
    """A part of a value by its name, or by its position in a tuple."""
    parts = parts_of(value)
    return value[int(name)] if parts is None else parts[name]


def difference(a: Any, b: Any) -> str | None:
    """None when both have one structure and shape, else the part that differs ("" for the whole)."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return None if a.shape == b.shape else ""
    mine, theirs = parts_of(a), parts_of(b)
    if mine is not None and theirs is not None:
        for name, value in theirs.items():
            known = name in mine and value is not UNKNOWN and mine[name] is not UNKNOWN
            if known and difference(mine[name], value) is not None:
                return str(name)
        return None
    if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((str(number) for number, (one, other) in pairs if difference(one, other) is not None), None)
    return None if a is UNKNOWN or b is UNKNOWN else "" if kind_of(a) != kind_of(b) or kind_of(a) == "tuple" else None


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
    """Where an arriving value comes from, for the other side of a mistake.

    `by` is the step or input that gives it, and `read` where `using` names it.
    """

    name: str
    place: Place
    by: Step | Input | None = None
    read: Place | None = None


def identity(value: Any) -> Any:
    return value


@dataclass
class Held:
    """What a step held while it ran, on its way to its value.

    `parts` are the values of its modules by spot, `scopes` those of the graphs that stand there. A value of one
    iteration is seen from outside as `whole` makes it; with an index, as `single` does.
    """

    parts: dict[str, Any] = field(default_factory=dict)
    scopes: dict[str, Scope] = field(default_factory=dict)
    once: Any = UNKNOWN
    """The step's own value in one iteration."""
    all_of_them: Any = UNKNOWN
    """What the body gives, put together, before `take`."""
    whole: Callable[[Tensor], Any] = identity
    single: Callable[[Tensor], Any] = identity
    count: int | None = None
    """How many slices a map has."""


@dataclass
class Scope:
    """The values of one graph while it runs.

    `path` is where it runs, `home` where its modules stand, and `shared` where those stand that it has from around it.
    """

    graph: GraphPlan
    path: str = ""
    local: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Source] = field(default_factory=dict)
    home: str = ""
    shared: dict[str, str] = field(default_factory=dict)
    mounted: Mount | None = None
    """Where the graph is mounted, when it is that of another file."""
    reused: Place | None = None
    """Where it is said that the modules here are used again; None where they stand first."""
    advice: str | None = None
    """The help for every mistake here, where a later copy of a repeated step runs."""
    held: dict[str, Held] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Loop -> how often its body runs."""
    wrong: set[str] = field(default_factory=set)
    """Members with a mistake, and those that are not known because of them."""
    before: Any = UNKNOWN
    """What the step at hand would read of a previous call: zeros like its stream."""

    def standing(self, path: str) -> str:
        """The full path of a module of this graph, or of one that it has from around it; copies stand at one path."""
        above = next((name for name in self.shared if f"{path}.".startswith(f"{name}.")), None)
        return join(self.home, path) if above is None else self.shared[above] + path[len(above) :]

    def value(self, value: Value) -> Any:
        """The fake value of a reference."""
        if value.recurrent:
            return self.before
        held = self.held.get(value.member)
        if held is None or not (value.is_part or value.index is not None):
            return self.local.get(value.member, UNKNOWN)
        change = held.whole if value.index is None else held.single
        if value.inner is not None:
            scope = held.scopes.get(value.spot)
            return UNKNOWN if scope is None else each(scope.value(value.inner), change)
        if value.spot:
            found = held.parts.get(value.spot, UNKNOWN)
            return each(self._field(found, value.key), change)
        if value.index is not None:
            return self._field(each(held.once, held.single), value.key)
        return self._field(held.all_of_them, value.key)

    def zeros(self, step: Step) -> Any:
        """What a step reads of the previous call in the first: zeros like its stream, or else like the first input."""
        first = Value(self.graph.inputs[0].name)
        return self.value(first if step.stream.recurrent else step.stream)

    def slices(self, value: Value) -> int | None:
        """How many slices the map has that the index of a value picks from, where that is known."""
        held = self.held.get(value.member)
        if held is None:
            return None
        if value.index is not None:
            return held.count
        scope = held.scopes.get(value.spot)
        return scope.slices(value.inner) if scope is not None and value.inner is not None else None

    @staticmethod
    def _field(value: Any, name: str | None) -> Any:
        parts = parts_of(value)
        return value if name is None or parts is None else parts.get(name, UNKNOWN)

    def seen(self, value: Value) -> Any:
        """The fake value as a loss gets it: those of all iterations, stacked behind the batch."""
        step, held = self.graph.step(value.member), self.held.get(value.member)
        if step is None or held is None or not value.is_part:
            return self.value(value)
        if value.inner is None:
            found = self.value(value)
        else:
            scope = held.scopes.get(value.spot)
            change = held.whole if value.index is None else held.single
            found = UNKNOWN if scope is None else each(scope.seen(value.inner), change)
        if step.feeds_back and value.index is None:
            found = each(found, lambda tensor: stacked(tensor, min(1, tensor.dim()), self.counts.get(step.name, 1)))
        if step.repeat is not None and isinstance(step.repeat.value, int) and value.copy is None:
            copies = step.repeat.value
            found = each(found, lambda tensor: stacked(tensor, min(1, tensor.dim()), copies))
        return found

    def source(self, value: Value) -> Source:
        """Where the value of a reference comes from."""
        held = self.held.get(value.member)
        below = held.scopes.get(value.spot) if held is not None else None
        known = self.places.get(value.member)
        if below is not None and value.inner is not None:
            known = below.source(value.inner)
        return Source(str(value), known.place, known.by) if known else Source(str(value), value.place)


MERGES: dict[str, Callable[[list[Any], int | None], Any]] = {
    "add": lambda values, dim: sum(values[1:], values[0]),
    "mean": lambda values, dim: sum(values[1:], values[0]) / len(values),
    "mul": lambda values, dim: reduce(torch.mul, values),
    "max": lambda values, dim: reduce(torch.maximum, values),
    "cat": lambda values, dim: torch.cat(values, dim or 0),
    "stack": lambda values, dim: torch.stack(values, dim or 0),
}
