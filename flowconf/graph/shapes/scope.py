"""The values of a graph during the shape check, and their origins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from flowconf.graph.shapes.fake_values import UNKNOWN, each, parts_of, stacked
from flowconf.graph.shapes.inner_values import InnerValues
from flowconf.graph.source.demand import without_copies
from flowconf.language.paths import above, join
from flowconf.language.plan import Applied, GraphPlan, Input, Mount, Shared, Step, Value
from flowconf.report import Place


@dataclass
class Giver:
    """The origin of a value, for the labels of an error.

    `by` is the step or input that produces it, and `read` the place in `using` that names it.
    """

    name: str
    place: Place
    by: Step | Input | None = None
    read: Place | None = None


def identity(value: Any) -> Any:
    return value


@dataclass
class Held:
    """The intermediate values of a step.

    `parts` are the outputs of its modules by spot, `scopes` the scopes of its graphs. `whole` turns a value of one
    iteration into the value that is visible outside of the step, `single` into the value at an index.
    """

    parts: dict[str, Any] = field(default_factory=dict)
    scopes: dict[str, Scope] = field(default_factory=dict)
    once: Any = UNKNOWN
    """The value of the step in one iteration."""
    all_of_them: Any = UNKNOWN
    """The combined output of the body, before `take`."""
    whole: Callable[[Tensor], Any] = identity
    single: Callable[[Tensor], Any] = identity
    count: int | None = None
    """The number of slices of a map."""
    inside: dict[str, InnerValues] = field(default_factory=dict)
    """The values inside of its modules, by spot."""
    copies: list[Held] = field(default_factory=list)
    """The intermediate values of each copy that differs by an index."""

    def within(self, spot: str, inner: Value, read: Callable[[Scope, Value], Any]) -> Any:
        """A value in the graph at a spot, which `read` gives, or inside of the module there."""
        if spot in self.scopes:
            return read(self.scopes[spot], inner)
        return self.inside[spot].values.get(inner.member, UNKNOWN) if spot in self.inside else UNKNOWN


@dataclass
class Scope:
    """The values of one graph during the check.

    `path` is the path at which it runs, `home` the path of its modules, and `shared` the paths of the modules
    that it shares with the surrounding graph.
    """

    graph: GraphPlan
    path: str = ""
    local: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Giver] = field(default_factory=dict)
    home: str = ""
    shared: dict[str, str] = field(default_factory=dict)
    mounted: Mount | None = None
    """The mount of the graph, if it comes from another file."""
    reused: Place | None = None
    """The place of the `reuse` of these modules; None at their first use."""
    advice: str | None = None
    """The advice for every error in a later copy of a repeated step."""
    held: dict[str, Held] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Loop -> its number of iterations."""
    wrong: set[str] = field(default_factory=set)
    """Members with an error, and members that are unknown because of them."""
    before: Any = UNKNOWN
    """The state that the current step reads from the previous call: zeros like its stream."""

    def home_of(self, applied: Applied) -> str:
        """The full path at which a module of this graph was defined; equal copies have the same path."""
        if isinstance(applied.module, Shared):
            return self.standing(without_copies(self.graph, applied.module.path, of="equal"))
        return self.standing(applied.path)

    def standing(self, path: str) -> str:
        """The full path of a module of this graph or of the surrounding one; equal copies have the same path."""
        of = next((one for one in above(path) if one in self.shared), None) if self.shared else None
        return join(self.home, path) if of is None else self.shared[of] + path[len(of) :]

    def value(self, value: Value) -> Any:
        """The fake value of a reference."""
        if value.recurrent:
            return self.before
        held = self._held(value)
        if held is None or not (value.is_part or value.index is not None):
            return self.local.get(value.member, UNKNOWN)
        change = held.whole if value.index is None else held.single
        if value.inner is not None:
            return each(held.within(value.spot, value.inner, Scope.value), change)
        if value.spot:
            found = held.parts.get(value.spot, UNKNOWN)
            return each(self._field(found, value.key), change)
        if value.index is not None:
            return self._field(each(held.once, held.single), value.key)
        return self._field(held.all_of_them, value.key)

    def _held(self, value: Value) -> Held | None:
        """The intermediate values of the step that a reference reads, of the copy that it names."""
        held = self.held.get(value.member)
        named = held.copies[value.copy : value.copy + 1] if held is not None and value.copy is not None else ()
        return next(iter(named), held)

    def zeros(self, step: Step) -> Any:
        """The initial state that a step reads: zeros like its stream, or else like the first input."""
        return self.value(Value(self.graph.inputs[0].name) if step.stream.recurrent else step.stream)

    def indexed(self, value: Value) -> tuple[int, int] | None:
        """The index of a value, and the number of slices of the map that it refers to, if that is known."""
        held = self._held(value)
        if held is None:
            return None
        if value.index is not None:
            return None if held.count is None else (value.index, held.count)
        scope = held.scopes.get(value.spot)
        return scope.indexed(value.inner) if scope is not None and value.inner is not None else None

    @staticmethod
    def _field(value: Any, name: str | None) -> Any:
        parts = parts_of(value)
        return value if name is None or parts is None else parts.get(name, UNKNOWN)

    def seen(self, value: Value) -> Any:
        """The fake value as passed to a loss: all iterations, stacked after the batch dimension."""
        step, held = self.graph.step(value.member), self._held(value)
        if step is None or held is None or not value.is_part:
            return self.value(value)
        if value.inner is None:
            found = self.value(value)
        else:
            change = held.whole if value.index is None else held.single
            found = each(held.within(value.spot, value.inner, Scope.seen), change)
        if step.feeds_back and value.index is None:
            found = each(found, lambda tensor: stacked(tensor, min(1, tensor.dim()), self.counts.get(step.name, 1)))
        if step.repeat is not None and value.copy is None:
            found = each(found, lambda tensor: stacked(tensor, min(1, tensor.dim()), step.copy_count))
        return found

    def giver(self, value: Value) -> Giver:
        """The origin of the value of a reference."""
        held = self._held(value)
        below = held.scopes.get(value.spot) if held is not None else None
        known = self.places.get(value.member)
        if below is not None and value.inner is not None:
            known = below.giver(value.inner)
        return Giver(str(value), known.place, known.by) if known else Giver(str(value), value.place)
