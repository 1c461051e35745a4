"""A module of a step in the shape check, with its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowconf.graph.shapes import faults
from flowconf.graph.shapes.scope import Giver, Held, Scope
from flowconf.graph.shapes.sizes import Sizes
from flowconf.language.arguments import Call, Literal
from flowconf.language.paths import join
from flowconf.language.plan import Applied, Step, Value
from flowconf.report import Label


@dataclass(frozen=True, slots=True)
class Visit:
    """A step in a scope, its stream and the giver of the stream, and the module of the step that receives it.

    `spot` is the path of the module relative to the step, "" for the body or for the step as a whole.
    """

    step: Step
    scope: Scope
    stream: Any
    giver: Giver
    spot: str = ""

    @property
    def path(self) -> str:
        """The full path of the step."""
        return join(self.scope.path, self.step.path)

    @property
    def applied(self) -> Applied:
        return self.step.spots[self.spot]

    @property
    def held(self) -> Held:
        """The intermediate values of the step so far."""
        return self.scope.held[self.step.name]

    @property
    def inner(self) -> Scope | None:
        """The scope of the graph that ran at this spot."""
        return self.held.scopes.get(self.spot)

    def at(self, spot: str) -> Visit:
        """The same stream at another module of the step."""
        return Visit(self.step, self.scope, self.stream, self.giver, spot)

    def fed(self, stream: Any, giver: Giver) -> Visit:
        """The same module with another stream."""
        return Visit(self.step, self.scope, stream, giver, self.spot)

    def arrives(self, sizes: Sizes) -> Label:
        """A label with the shape of the stream, at its giver."""
        return Label(f"`{self.giver.name}` has shape {sizes.show(self.stream)}", self.giver.place)


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """A call of a module: `whole` is the chain that contains it, or the module; `using` are further arguments."""

    visit: Visit
    whole: Applied
    using: dict[str, Any]

    @property
    def stream(self) -> Any:
        return self.visit.stream

    @property
    def applied(self) -> Applied:
        return self.visit.applied

    @property
    def path(self) -> str:
        return join(self.visit.scope.path, self.whole.path)

    def argument(self, name: str | None, item: int | None = None) -> Literal | Value | None:
        """An argument of the call, or a number in it, or a value of `using`, with its place."""
        call, read = self.applied.target, dict(self.applied.using)
        if isinstance(call, Call) and name is not None and item is not None:
            return faults.number_of(call, name, item)
        given = faults.bound(call).get(name or "") if isinstance(call, Call) else None
        value = read.get(name or "")
        return given if given is not None else value if value is not None and value.place.line else None

    def meant(self, words: str) -> Literal | Value | None:
        """The argument that the message of a module refers to."""
        call = self.applied.target
        given = faults.argument(call, words) if isinstance(call, Call) else None
        return given or self.argument(faults.further(self.using, words))
