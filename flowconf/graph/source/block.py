"""The state of a `forward` under construction: statements, local names, and the surroundings of a step."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flowconf.graph.source.demand import Demand, Want
from flowconf.language.arguments import Literal
from flowconf.language.plan import GraphPlan, Value


@dataclass
class Block:
    """Statements, and expressions for the values that they assign."""

    lines: list[str] = field(default_factory=list)
    values: dict[Want, str] = field(default_factory=dict)

    def add(self, *lines: str) -> None:
        self.lines += lines


@dataclass
class LocalNames:
    """The local names of one `forward`, besides its members."""

    graph: GraphPlan
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    owned: dict[str, dict[str, None]] = field(default_factory=dict)
    """Member -> its local names."""

    def local(self, member: str, what: str = "") -> str:
        """A local name for a value of a member; trailing `_` avoid collisions with members, inputs and each other."""
        name = re.sub(r"[\W_]+", "_", f"{member}_{what}" if what else member).strip("_")
        while (
            self.graph.step(name) or self.graph.input(name) or self.owners.get(name, (member, what)) != (member, what)
        ):
            name += "_"
        self.owners[name] = (member, what)
        self.owned.setdefault(member, {})[name] = None
        return name


@dataclass
class Surroundings:
    """The surroundings of a step that its statements need."""

    graph: GraphPlan
    names: LocalNames
    text: Callable[[Value], str]
    """Value -> its expression."""
    asked: Callable[[str], Demand]
    """Home of a nested graph -> the demand on it."""
    inputs: Mapping[str, frozenset[str]]
    """Home of a nested graph -> its remaining inputs."""
    kinds: Callable[[str], str]
    """The kind of a value from the shape check: "tensor", "dict", "named", "tuple", or "" if unknown."""
    count: Callable[[str, Literal], str]
    """A number of the step, by its key."""
    rank: int | None
    """The number of dimensions that the experts of a gate have more than its weights; None if no sizes are known."""
