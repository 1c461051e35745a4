"""Demands on a graph: the values that a forward pass must return, and the steps that they require."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan, Input, Mount, Step, Value

LAST, STACK, LIST = "last", "stack", "list"
"""How a value of iterations is returned: the last one, all stacked after the batch dimension, or as a list."""

MARKS = {LAST: "", STACK: "*", LIST: "**"}


@dataclass(frozen=True, slots=True)
class Want:
    """A value in a graph, and how it is returned from surrounding iterations; an index selects one of them."""

    value: Value
    gather: str = LAST
    alias: str | None = None

    @property
    def key(self) -> str:
        """Its name in the additional outputs of a forward pass."""
        return self.alias or f"{self.value}{MARKS[self.gather]}"

    @property
    def inside(self) -> Want | None:
        """The want relative to the graph that the step mounts."""
        return None if self.value.inner is None else Want(self.value.inner, self.gather)


@dataclass(frozen=True, slots=True)
class Demand:
    """The values that a graph must return: its outputs (`main`), and further values."""

    main: bool = True
    wants: tuple[Want, ...] = ()

    def __or__(self, other: Demand) -> Demand:
        return Demand(self.main or other.main, tuple(dict.fromkeys((*self.wants, *other.wants))))


OUTPUTS = Demand()
"""The demand of a plain call of a graph."""

NOTHING = Demand(False)


@dataclass(frozen=True, slots=True)
class Needs:
    """The consequences of a demand inside a graph: the steps that run, and the wants of each."""

    steps: tuple[Step, ...]
    wants: dict[str, tuple[Want, ...]]
    uses: dict[str, tuple[int, ...]]
    """Member -> the positions (in `steps`) that read it; `len(steps)` is the return."""
    kept: tuple[Value, ...]
    """The state that the next call reads, in declared order."""

    def inside(self) -> Iterator[tuple[str, Demand]]:
        """Home of a nested graph -> the demand of a step that runs it."""
        for step in self.steps:
            of_step = self.wants.get(step.name, ())
            for spot, applied in step.spots.items():
                if isinstance(applied.target, Mount):
                    wants = (want.inside for want in of_step if want.value.spot == spot)
                    asked = tuple(want for want in wants if want is not None)
                    yield applied.home, Demand(gives_main(step, spot, of_step), asked)


def needs(graph: GraphPlan, demand: Demand) -> Needs:
    """Walk backwards from the demand and keep only the required steps."""
    returned = [Want(value) for _, value in graph.outputs] if demand.main else []
    returned += demand.wants
    wanted: dict[str, list[Want]] = {}
    for want in returned:
        wanted.setdefault(want.value.member, []).append(want)
    kept: dict[str, Step] = {}
    before = -1
    while len(kept) > before:  # repeated for each reference to a later step
        before = len(kept)
        for step in reversed(graph.steps):
            if step.name in wanted and step.name not in kept:
                kept[step.name] = step
                for value in step.reads:
                    wanted.setdefault(value.member, []).append(Want(value.now))
    steps = tuple(step for step in graph.steps if step.name in kept)
    uses: dict[str, list[int]] = {}
    for position, step in enumerate(steps):
        for value in step.reads:
            uses.setdefault(value.member, []).append(len(steps) if value.recurrent else position)
    for want in returned:
        uses.setdefault(want.value.member, []).append(len(steps))
    again = {value.now for step in steps for value in step.reads if value.recurrent}
    order = {step.name: position for position, step in enumerate(steps)}
    return Needs(
        steps,
        {name: tuple(dict.fromkeys(found)) for name, found in wanted.items()},
        {name: tuple(dict.fromkeys(places)) for name, places in uses.items()},
        tuple(sorted(again, key=lambda value: (order[value.member], str(value)))),
    )


def gives_main(step: Step, spot: str, wants: Iterable[Want]) -> bool:
    """Whether the outputs of the graph at a spot of the step are read."""
    return runs_whole(step, wants) or any(want.value.spot == spot and want.value.inner is None for want in wants)


def runs_whole(step: Step, wants: Iterable[Want]) -> bool:
    """Whether the value of the step is read, or carried from one iteration to the next."""
    if step.feeds_back or step.repeat is not None:
        return True
    whole = ("", "merge") if len(step.parts) > 1 else ("",)
    return any(want.value.spot in whole and want.value.inner is None for want in wants)


def needed_inputs(graph: GraphPlan, found: Needs) -> list[Input]:
    """The captured inputs that a pruned graph still reads, and all declared inputs."""
    return [given for given in graph.inputs if not given.captured or given.name in found.uses]


@dataclass
class Demands:
    """The combined demands on every graph of a tree, by path."""

    tree: GraphPlan
    asked: dict[str, Demand] = field(default_factory=dict)
    known: dict[str, tuple[Demand, Needs]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        before: dict[str, Demand] | None = None
        while before != self.asked:  # repeated for each graph that a later one shares
            before = dict(self.asked)
            self._collect(self.tree, "", {})

    def _collect(self, graph: GraphPlan, path: str, lent: Mapping[str, str]) -> None:
        for local, asked in self.needs(graph, path).inside():
            home = home_of(local, path, lent)
            self.asked[home] = self.asked.get(home, NOTHING) | asked
        for below, mount in graph.mounts():
            at = join(path, below)
            self._collect(mount.graph, at, lent_to(graph, mount, path, lent))

    def needs(self, graph: GraphPlan, path: str) -> Needs:
        """The consequences of the demand on the graph at a path."""
        demand, (of, found) = self.at(path), self.known.get(path, (None, None))
        if found is None or of != demand:
            found = needs(graph, demand)
            self.known[path] = demand, found
        return found

    def at(self, path: str) -> Demand:
        """The demand on the graph at a path; its outputs if nothing runs it."""
        found = self.asked.get(path, OUTPUTS)
        return found if found.main or found.wants else OUTPUTS


def home_of(local: str, path: str, lent: Mapping[str, str]) -> str:
    """The full path of `local` in the graph at `path`; `lent` are the modules of surrounding graphs."""
    head, _, rest = local.partition(".")
    return join(lent[head], rest) if head in lent else join(path, local)


def lent_to(graph: GraphPlan, mount: Mount, path: str, lent: Mapping[str, str]) -> dict[str, str]:
    """The modules that a nested graph shares with the surrounding one: local names -> full paths."""
    return {mine: home_of(without_copies(graph, theirs), path, lent) for mine, theirs in mount.shares}


def without_copies(graph: GraphPlan, path: str, of: Literal["all", "equal", "indexed"] = "all") -> str:
    """A path of the graph without the numbers of copies: of all, of equal ones, or of those with an index.

    With "indexed", the path has no numbers of equal copies.
    """
    head, *rest = path.split(".")
    step = graph.step(head)
    if step is None or not any(map(str.isdigit, rest)):
        return path
    if step.repeat is not None and rest[0].isdigit() and (of != "indexed" or step.copies):
        copy, *rest = rest
        head = join(head, copy) if of == "equal" and step.copies else head
    spot = ""
    while rest and join(spot, rest[0]) in step.spots:
        spot, rest = join(spot, rest[0]), rest[1:]
    applied = step.spots.get(spot)
    inner = ".".join(rest)
    if applied is not None and isinstance(applied.target, Mount) and inner:
        inner = without_copies(applied.target.graph, inner, of)
    return join(head, spot, inner)
