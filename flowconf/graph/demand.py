"""What is asked of a graph: which values a forward pass has to give, and which steps it needs for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flowconf.language.plan import GraphPlan, Input, Step, Value


@dataclass(frozen=True, slots=True)
class Want:
    """One value inside a graph. `each`: every iteration's value, stacked; otherwise the last one's (or the indexed)."""

    value: Value
    each: bool = False
    alias: str | None = None

    @property
    def key(self) -> str:
        """Its name among what a forward pass also returns."""
        return self.alias or (f"{self.value}*" if self.each and self.value.index is None else str(self.value))

    @property
    def inside(self) -> Want | None:
        """The same as it is asked of the graph that the step mounts."""
        inner = self.value.inner
        if inner is None:
            return None
        return Want(inner, self.each and (inner.inner is not None or inner.entry is not None))


@dataclass(frozen=True, slots=True)
class Demand:
    """What one graph has to give: its own outputs (`main`), and further values."""

    main: bool = True
    wants: tuple[Want, ...] = ()


OUTPUTS = Demand()
"""What a plain call of a graph asks for."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a demand means inside a graph: the steps that run, and what each is asked for."""

    steps: tuple[Step, ...]
    wants: dict[str, tuple[Want, ...]]
    uses: dict[str, tuple[int, ...]]
    """Member -> the positions (in `steps`) that read it; `len(steps)` stands for the return."""
    inside: dict[str, tuple[Want, ...]]
    """Path of a nested graph -> what it is asked for besides its own outputs, by every step that runs it."""
    main: frozenset[str]
    """Paths of the nested graphs whose own outputs are read."""


def needs(graph: GraphPlan, demand: Demand) -> Needs:
    """Walk backwards from what is demanded and keep only what it takes."""
    returned = [Want(value) for _, value in graph.outputs] if demand.main else []
    returned += demand.wants
    wanted: dict[str, list[Want]] = {}
    for want in returned:
        wanted.setdefault(want.value.member, []).append(want)
    kept: dict[str, Step] = {}
    before = -1
    while len(kept) > before:  # once more for each reference to a later step
        before = len(kept)
        for step in reversed(graph.steps):
            if step.name in wanted and step.name not in kept:
                kept[step.name] = step
                for value in step.reads():
                    wanted.setdefault(value.member, []).append(Want(value))
    steps = tuple(step for step in graph.steps if step.name in kept)
    uses: dict[str, list[int]] = {}
    for position, step in enumerate(steps):
        for value in step.reads():
            uses.setdefault(value.member, []).append(len(steps) if value.recurrent else position)
    for want in returned:
        uses.setdefault(want.value.member, []).append(len(steps))
    wants = {name: tuple(dict.fromkeys(found)) for name, found in wanted.items()}
    inside, main = _asked_of_nested(steps, wants)
    return Needs(steps, wants, {name: tuple(dict.fromkeys(places)) for name, places in uses.items()}, inside, main)


def _asked_of_nested(
    steps: Iterable[Step], wants: dict[str, tuple[Want, ...]]
) -> tuple[dict[str, tuple[Want, ...]], frozenset[str]]:
    inside: dict[str, tuple[Want, ...]] = {}
    main: set[str] = set()
    for step in steps:
        of_step = wants.get(step.name, ())
        for branch, applied in step.parts:
            of_part = [want for want in of_step if len(step.parts) == 1 or want.value.entry == branch]
            asked = (*inside.get(applied.home, ()), *inner_wants(of_part))
            inside[applied.home] = tuple(dict.fromkeys(asked))
            if len(step.parts) > 1 or wants_main(step, of_step):
                main.add(applied.home)
    return inside, frozenset(main)


def needed_inputs(graph: GraphPlan, found: Needs) -> list[Input]:
    """The captured inputs that a pruned graph still reads, and all declared ones."""
    return [given for given in graph.inputs if not given.captured or given.name in found.uses]


def inner_wants(wants: Iterable[Want]) -> tuple[Want, ...]:
    """What the graph that a step mounts is asked for."""
    found = [want.inside for want in wants]
    return tuple(dict.fromkeys(want for want in found if want is not None))


def wants_main(step: Step, wants: Iterable[Want]) -> bool:
    """Whether the step's own value is read, or carried from one iteration to the next."""
    carried = step.verb == "loop" or step.repeat is not None
    return carried or any(want.value.inner is None for want in wants)
