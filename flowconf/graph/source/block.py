"""What is known while a `forward` is written: the statements so far, the names in use, and the graph around a step."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flowconf.graph.source.demand import Demand, Want
from flowconf.language.arguments import Literal
from flowconf.language.plan import GraphPlan, Value


@dataclass
class Block:
    """Statements, and how what they make is read behind them."""

    lines: list[str] = field(default_factory=list)
    values: dict[Want, str] = field(default_factory=dict)

    def add(self, *lines: str) -> None:
        self.lines += lines


@dataclass
class LocalNames:
    """The local names of one `forward` that are none of its members."""

    graph: GraphPlan
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)

    def local(self, member: str, what: str = "") -> str:
        """A name for something of a member; a `_` behind it keeps it clear of members, inputs and each other."""
        name = re.sub(r"[\W_]+", "_", f"{member}_{what}" if what else member).strip("_")
        while (
            self.graph.step(name) or self.graph.input(name) or self.owners.get(name, (member, what)) != (member, what)
        ):
            name += "_"
        self.owners[name] = (member, what)
        return name

    def owned_by(self, member: str) -> list[str]:
        """The names that were given for a member."""
        return [name for name, (owner, _) in self.owners.items() if owner == member]


@dataclass
class Surroundings:
    """What the statements of a step need of the graph around it."""

    graph: GraphPlan
    names: LocalNames
    text: Callable[[Value], str]
    """How a value is read."""
    asked: Callable[[str], Demand]
    """Home of a nested graph -> what it gives when it is called."""
    inputs: Mapping[str, frozenset[str]]
    """Home of a nested graph -> those of its inputs that it still has."""
    kinds: Callable[[str], str]
    """What the shape check found: "tensor", "dict", "named", "tuple", or "" where nothing is known."""
    count: Callable[[str, Literal], str]
    """A number of the step, by its key."""
    rank: int | None
    """How many more dimensions a gate's experts have than its weights; None where no sizes are known."""
