"""Prints the `forward` of one graph.

A value that only the next statement reads is named `x`, as in hand-written code; any other has the name of its step and
is deleted after its last use, so that memory is freed as early as possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from flowconf.graph.source.block import ForwardState
from flowconf.graph.source.demand import LAST, Demand, Needs, Want, needed_inputs
from flowconf.graph.source.literals import quoted
from flowconf.graph.source.statements import statements
from flowconf.language.arguments import Literal
from flowconf.language.plan import Step, Value
from flowconf.language.resolve.reserved_names import STATE
from flowconf.report import Place


@dataclass
class ForwardWriter:
    """Writes the statements of one graph, in the order of its steps."""

    state: ForwardState
    found: Needs
    demand: Demand
    made: dict[str, list[str]] = field(default_factory=dict)
    """Step -> the variables that hold its values."""

    def __post_init__(self) -> None:
        self.graph, self.read = self.state.graph, self.state.read
        self.inputs = [given.name for given in needed_inputs(self.graph, self.found)]
        self.rolling = self._rolling_name()
        for name in self.inputs:
            self.read[Want(Value(name))] = name
            self.read |= dict.fromkeys(self.found.wants.get(name, ()), name)

    def _rolling_name(self) -> str:
        """`x`, unless an input of that name is still needed later."""
        own = {step.name for step in self.found.steps}
        last = max(self.found.uses.get("x", (0,)))
        free = "x" not in own and ("x" not in self.inputs or (last == 0 and not self._reads_again(0, "x")))
        return (
            "x" if free else next(name for name in ("y", "z", "stream") if name not in own and name not in self.inputs)
        )

    def lines(self) -> Iterator[tuple[str, str, Place | None]]:
        """Every line with the path and place of its step."""
        yield f"    def forward({', '.join(['self', *self.inputs])}):", "", self.graph.place
        last, deaths = len(self.found.steps) - 1, self._last_uses()
        for position, step in enumerate(self.found.steps):
            returns = position == last and self._is_the_return(step)
            target = "return" if returns else self._variable(step, position)
            for text in (*self._recalled(step), *self._statement(step, target)):
                yield f"        {text}", step.path, step.place
            for name in [name for dead in deaths.get(position, []) for name in self.made[dead]]:
                yield f"        del {name}", step.path, step.place
            if returns:
                return
        for value in self.found.kept:
            kept = f"        self.{STATE}[{quoted(str(value))}] = {self.read[Want(value)]}"
            yield kept, value.member, self.graph.place
        yield f"        return {self._returned()}", "", self.graph.place

    def _statement(self, step: Step, target: str) -> list[str]:
        wants = self.found.wants.get(step.name, ())
        block = statements(step, wants, self.state, self.read[Want(step.stream)], target)
        self.read |= block.values
        used = {name for text in block.values.values() for name in re.findall(r"[^\W\d]\w*", text)}
        self.made[step.name] = [name for name in (step.name, *self.state.owned.get(step.name, ())) if name in used]
        return block.lines

    # names and lifetimes

    def _variable(self, step: Step, position: int) -> str:
        uses = self.found.uses.get(step.name, ())
        wants = self.found.wants.get(step.name, ())
        simple = all(want.value in (Value(step.name), Value(step.name, key=want.value.key)) for want in wants)
        simple = simple and all(want.gather == LAST for want in wants)
        if uses != (position + 1,) or not simple or step.weighs or self._reads_again(position + 1, step.name):
            return step.name
        return self._carried_by_next(step, position) or self.rolling

    def _reads_again(self, position: int, member: str) -> bool:
        """Whether the statement at a position runs several times and reads the value each time, besides its stream."""
        step = self.found.steps[position] if position < len(self.found.steps) else None
        if step is None or not (step.feeds_back or step.repeat is not None):
            return False
        return any(value.member == member for value in step.reads[1:])

    def _carried_by_next(self, step: Step, position: int) -> str | None:
        """The name of the value of the next statement, if it starts with this one: a loop or a repeat."""
        if position + 1 >= len(self.found.steps):
            return None
        following = self.found.steps[position + 1]
        iterates = following.repeat is not None or (following.feeds_back and following.limit != Literal(1, "1"))
        if not iterates or following.stream != Value(step.name):
            return None
        return self._variable(following, position + 1)

    def _last_uses(self) -> dict[int, list[str]]:
        """Position -> the steps that no later statement reads, where more than one statement follows."""
        deaths: dict[int, list[str]] = {}
        for position, step in enumerate(self.found.steps):
            last = max(self.found.uses.get(step.name, (position,)))
            if last < len(self.found.steps) - 2:
                deaths.setdefault(last, []).append(step.name)
        return deaths

    def _is_the_return(self, step: Step) -> bool:
        """Whether the expression of the last step can follow `return`."""
        if not self.demand.main or self.demand.wants or len(self.graph.outputs) != 1 or step.repeat is not None:
            return False
        if self.found.kept:
            return False
        value = self.graph.outputs[0][1]
        one_expression = not step.iterates and (step.chooses or len(step.parts) == 1)
        plain = value == Value(step.name) and one_expression
        alone = set(self.found.uses.get(step.name, ())) == {len(self.found.steps)}
        return plain and alone and all(want.value == value for want in self.found.wants.get(step.name, ()))

    def _returned(self) -> str:
        main = ""
        if self.demand.main:
            values = [(name, self.read[Want(value)]) for name, value in self.graph.outputs]
            main = values[0][1] if len(values) == 1 else _dict(values)
        if not self.demand.wants:
            return main
        seen = _dict([(want.key, self.read[want]) for want in self.demand.wants])
        return f"{main}, {seen}" if main else seen

    def _recalled(self, step: Step) -> Iterator[str]:
        """The values of the previous call that a step is the first to read."""
        for value in step.reads:
            if value.recurrent and Want(value) not in self.read:
                name = self.state.local(str(value.now), "before")
                like = self.read[Want(step.stream)] if not step.stream.recurrent else self.inputs[0]
                yield f"{name} = recall(self.{STATE}, {quoted(str(value.now))}, {like})"
                self.read[Want(value)] = name


def _dict(items: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{quoted(name)}: {value}" for name, value in items) + "}"
