"""The values that a graph holds while it runs in the shape check, and where each comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from flowconf.graph.shapes.fake_values import UNKNOWN, each, parts_of, stacked
from flowconf.language.plan import GraphPlan, Input, Mount, Step, Value, join
from flowconf.report import Place


@dataclass
class Giver:
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
    places: dict[str, Giver] = field(default_factory=dict)
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

    def giver(self, value: Value) -> Giver:
        """Where the value of a reference comes from."""
        held = self.held.get(value.member)
        below = held.scopes.get(value.spot) if held is not None else None
        known = self.places.get(value.member)
        if below is not None and value.inner is not None:
            known = below.giver(value.inner)
        return Giver(str(value), known.place, known.by) if known else Giver(str(value), value.place)
