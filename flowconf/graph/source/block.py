"""A `forward` under construction: statements, values and local names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from flowconf.graph.source.demand import Demand, Want
from flowconf.language.arguments import Literal
from flowconf.language.plan import GraphPlan, Step, Value
from flowconf.language.resolve.reserved_names import refusal


@dataclass
class Block:
    """Statements, and expressions for the values that they assign."""

    lines: list[str] = field(default_factory=list)
    values: dict[Want, str] = field(default_factory=dict)

    def add(self, *lines: str) -> None:
        self.lines += lines


@dataclass
class ForwardState:
    """The context of the statements of one `forward`: its graph, and its values and local names so far."""

    graph: GraphPlan
    asked: Callable[[str], Demand]
    """Home of a nested graph -> the demand on it."""
    inputs: Mapping[str, frozenset[str]]
    """Home of a nested graph -> its remaining inputs."""
    ranks: Mapping[str, int | None]
    """Gate -> the number of dimensions that its experts have more than its weights; None if no sizes are known."""
    kinds: Callable[[str], str]
    """The kind of a value from the shape check: "tensor", "dict", "named", "tuple", or "" if unknown."""
    read: dict[Want, str] = field(default_factory=dict)
    """The expressions for values."""
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Local name -> the member of which it holds a value, and which one."""
    owned: dict[str, dict[str, None]] = field(default_factory=dict)
    """Member -> its local names."""

    def text(self, value: Value) -> str:
        """The expression for a value, of which a loop reads slices."""
        return self.read[Want(replace(value, sliced=False))]

    def count(self, step: Step, key: str, literal: Literal) -> str:
        """The expression for a number of a step, by its key."""
        attribute = count_attribute(self.graph, step, key, literal)
        return literal.text if attribute is None else f"self.{attribute}"

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


def count_attribute(graph: GraphPlan, step: Step, key: str, literal: Literal) -> str | None:
    """The attribute for a number in `forward`, named after its parameter if possible; None for a literal."""
    if literal.text.isdigit():
        return None
    taken = {other.path for other in graph.steps} | {given.name for given in graph.inputs}
    free = literal.text.isidentifier() and literal.text not in taken and refusal(literal.text) is None
    own = literal.text if free and not step.by_index(literal) else None
    return own or f"{step.name}_{key}"
