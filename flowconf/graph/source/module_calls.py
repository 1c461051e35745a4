"""Prints the calls of the modules of one step, as expressions.

An intermediate value (of a branch, of a member of a chain, inside a nested graph) is assigned to a name only if it is
wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from flowconf.graph.source.addresses import in_dict
from flowconf.graph.source.block import Block, ForwardState
from flowconf.graph.source.demand import OUTPUTS, Demand, Want
from flowconf.graph.source.literals import quoted
from flowconf.language.arguments import Call
from flowconf.language.paths import join
from flowconf.language.plan import Applied, Chain, Mount, Record, Step, Value
from flowconf.language.registry import modules
from flowconf.language.resolve.step_inputs import unfilled

NESTED = 20
"""The maximum number of nested calls."""


@dataclass(frozen=True)
class ModuleCalls:
    """The calls of one step; `whole`: its whole value is wanted, not only intermediate ones."""

    step: Step
    wants: tuple[Want, ...]
    state: ForwardState
    whole: bool

    def items(self) -> dict[Value, str]:
        """A name for one slice of each value that a loop iterates over."""
        over = self.step.slices_of()
        if len(over) == 1:
            return {over[0]: self.state.local("item")}
        return {value: self._local(f"{value.name}_item") for value in over}

    def wants_of(self, spot: str) -> bool:
        """Whether a value inside a module of the step is wanted, or the value of a module other than the body."""
        for want in self.wants:
            value = want.value
            member = value.spot.startswith(f"{spot}.") if spot else value.spot.isdigit()
            if member or (value.spot == spot and (bool(spot) or value.inner is not None)):
                return True
        return False

    def asked(self, applied: Applied) -> Demand:
        """The demand on a module; a module that is no graph gives its output."""
        return self.state.asked(applied.home) if isinstance(applied.target, Mount) else OUTPUTS

    def binds_by_name(self, applied: Applied) -> bool:
        """Whether the parts of the stream are the inputs of a graph."""
        target = applied.target
        return isinstance(target, Mount) and len([one for one in target.graph.inputs if not one.captured]) > 1

    def call(
        self,
        block: Block,
        spot: str,
        stream: str,
        at: str,
        into: str | None = None,
        record: Record | None = None,
        rows: str = "",
        keep: bool = False,
    ) -> str:
        """The value of a module as an expression; wanted intermediate values get statements and names.

        `into` is the name to use if one is needed, `keep`: always use one. `rows` is appended to the values of `using`.
        """
        applied = self.step.spots[spot]
        apart = spot == "" and in_dict(self.step)
        if isinstance(applied.target, Chain) and (apart or self._is_opened(spot, applied.target)):
            value = self._chain(block, spot, applied.target, stream, at, into, rows, apart)
        else:
            value = self._one(block, spot, applied, stream, at, into, record, rows)
        own = [want for want in self.wants if spot and want.value.spot == spot and want.value.inner is None]
        name = into or self._local(spot)
        if (own or keep) and value != name:
            block.add(f"{name} = {value}")
            value = name
        graph = applied.target.graph if isinstance(applied.target, Mount) else None
        held = Record(graph.fields) if graph is not None and graph.fields is not None else None
        for want in own:
            block.values[want] = value if want.value.key is None else element(value, want.value.key, held)
        return value

    def _is_opened(self, spot: str, chain: Chain) -> bool:
        """Whether the members of a chain are called one by one: some have further arguments, or are wanted."""
        below = [join(spot, str(number)) for number in range(len(chain.members))]
        return any(member.using for member in chain.members) or any(want.value.spot in below for want in self.wants)

    def _chain(
        self, block: Block, spot: str, chain: Chain, stream: str, at: str, into: str | None, rows: str, apart: bool
    ) -> str:
        last = len(chain.members) - 1
        if not self.whole and not any(want.value.spot == spot for want in self.wants):
            last = max(number for number in range(last + 1) if self.wants_of(join(spot, str(number))))
        value = stream
        for number in range(last + 1):
            key = quoted(str(number)) if apart else str(number)
            member = join(spot, str(number))
            deep = number % NESTED == NESTED - 1 and number < last
            named = into if number == len(chain.members) - 1 and self.step.take is None else None
            value = self.call(block, member, value, f"{at}[{key}]", named, rows=rows, keep=deep)
        return value

    def _one(
        self,
        block: Block,
        spot: str,
        applied: Applied,
        stream: str,
        at: str,
        into: str | None,
        record: Record | None,
        rows: str,
    ) -> str:
        """The call of one module, or of a graph, possibly with additional outputs."""
        items = self.items()
        arguments = self.arguments(
            applied, stream, record, lambda value: (items.get(value) or self.state.text(value)) + rows
        )
        call = f"{at}({', '.join(arguments)})"
        asked = self.asked(applied)
        inside = [want for want in self.wants if want.value.spot == spot and want.value.inner is not None]
        if not inside:
            return f"{call}[0]" if asked.wants else call
        name, seen = into or self._local(spot or "value"), self._local(f"{spot}_seen".strip("_"))
        if not isinstance(applied.target, Mount):
            paths = dict.fromkeys(str(want.value.inner) for want in inside)
            given = ", ".join([at, f"[{', '.join(map(quoted, paths))}]", *arguments])
            alone = not self.whole and all(want in inside for want in self.wants)
            block.add(f"{seen} = only_inner({given})" if alone else f"{name}, {seen} = with_inner({given})")
            block.values |= {want: f"{seen}[{quoted(str(want.value.inner))}]" for want in inside}
            return name
        block.add(f"{name}, {seen} = {call}" if asked.main else f"{seen} = {call}")
        for want in inside:
            assert want.inside is not None
            block.values[want] = f"{seen}[{quoted(str(want.inside.key))}]"
        return name

    def arguments(
        self, applied: Applied, stream: str, record: Record | None, read: Callable[[Value], str]
    ) -> list[str]:
        """The arguments of a call: positional as far as the order in `forward` is known, then by name."""
        module = applied.target
        kept = self.state.inputs.get(applied.home)
        using = {name: read(value) for name, value in applied.using if kept is None or name in kept}
        if not isinstance(module, Mount):
            order = modules.class_source(module.name).forward.positional if isinstance(module, Call) else []
            return [stream, *_in_order(order[1:], using)]
        own = [given.name for given in module.graph.inputs if not given.captured]
        order = [given.name for given in module.graph.inputs if kept is None or given.name in kept]
        if len(own) == 1 or (record is None and not unfilled(applied, None)):
            return [stream, *_in_order(order[1:], using)]
        if record is not None:
            given = {name: element(stream, name, record) for name in record.names if name in own} | using
            return _in_order(order, given)
        named = ", ".join(quoted(name) for name in own if name not in using)
        return [*(f"{name}={text}" for name, text in using.items()), f"**arguments_of({stream}, {named})"]

    def _local(self, what: str) -> str:
        return self.state.local(self.step.name, what)


def element(value: str, name: str | None, record: Record | None) -> str:
    """The expression for a part of a value by name; a graph with a single output returns only that."""
    if record is None:
        return value
    return f"{value}.{name}" if record.named else f"{value}[{quoted(str(name))}]"


def _in_order(order: Iterable[str], given: Mapping[str, str]) -> list[str]:
    first = list(takewhile(lambda name: name in given, order))
    return [given[name] for name in first] + [f"{name}={text}" for name, text in given.items() if name not in first]
