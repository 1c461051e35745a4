"""References: from `letter.read.at[2]` to a `Value` of the Plan, one name at a time.

The same walk serves a document's own references, the losses of a training config, and the Python interface.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from flowconf.language.arguments import Call
from flowconf.language.paths import join
from flowconf.language.plan import Applied, Chain, GraphPlan, Input, Instance, Mount, Record, Shared, Step, Value
from flowconf.language.registry import modules
from flowconf.report import Advice, Place, Suggestion, suggest

FORM = re.compile(r"^([A-Za-z_]\w*(?:\.\w+)*)(?:\[(-?\d{1,9})\])?$")


LazyAdvice = Advice | Callable[[], Advice | None] | None


class NotFound(Exception):
    """A reference to an unknown name. `wrong` is the unknown part, `advice` what to write instead.

    `is_first`: it is the first name of the reference, unknown in the graph that was searched. Advice that has to be
    searched for among many names is given as a function: most of these errors are handled, and not reported.
    """

    def __init__(
        self, message: str, advice: LazyAdvice = None, wrong: str | None = None, is_first: bool = False
    ) -> None:
        super().__init__(message)
        self.message, self.wrong, self.is_first = message, wrong, is_first
        self._advice = advice

    @property
    def advice(self) -> Advice | None:
        return self._advice() if callable(self._advice) else self._advice

    def advice_for(self, text: str) -> Advice | None:
        """The advice for the whole reference `text`."""
        advice = self.advice
        return advice.within(text) if isinstance(advice, Suggestion) else advice

    def seen_from(self, graph: str) -> NotFound:
        """The same error for a reader outside `graph`, the graph that was searched."""
        return NotFound(f"{self.message} in {graph}", self._advice, self.wrong) if self.is_first else self


def unknown_name(name: str, known: Callable[[], Iterable[str]]) -> NotFound:
    """The error for the first name of a reference, which is none of the names of its graph."""
    return NotFound(f"unknown name `{name}`", lambda: suggest(name, known()), name, is_first=True)


class NoReference(NotFound):
    """A text that is not a reference."""


class WithinModule(NotFound):
    """A name of something within a module, such as a parameter, where values are looked up."""


class Ambiguous(NotFound):
    """A short reference that matches several steps of nested graphs."""


class Members(Protocol):
    """A graph, or a draft of one, in which references are looked up."""

    def step(self, name: str) -> Step | None: ...
    def input(self, name: str) -> Input | None: ...
    def names(self) -> list[str]: ...


def split(text: str) -> tuple[list[str], int | None]:
    """The names of a reference, and its index. Raises `NoReference` if it cannot be parsed."""
    match = FORM.match(text.strip())
    if match is None:
        advice = "a reference is a name, or names separated by dots"
        if "*" in text:
            one = text.replace("*", "0")
            advice = f"`*` can only be the last name, as in `heads.*`; write a reference for each, such as `{one}`"
        raise NoReference(f"`{text}` is not a reference", advice)
    return match[1].split("."), None if match[2] is None else int(match[2])


def find(members: Members, text: str) -> Value:
    """The value that `text` refers to. Raises `NotFound`."""
    names, index = split(text)
    value = first(members, names)
    return value if index is None else _indexed(members, value, index)


def find_anywhere(graph: GraphPlan, text: str) -> Value:
    """`find`, or else the only step with that name or tag at any depth. Raises `NotFound`."""
    names, index = split(text)
    try:
        value = first(graph, names)
    except NotFound as problem:
        found = list(_everywhere(graph, names))
        if len(found) > 1:
            listed = ", ".join(f"`{value}`" for value in found[:4])
            raise Ambiguous(f"`{text}` is ambiguous, it matches {listed}", "write the full path") from None
        if not found:
            raise problem
        value = found[0]
    return value if index is None else _indexed(graph, value, index)


def names_value(graph: GraphPlan, text: str) -> bool:
    """Whether a reference refers to a value of the graph."""
    try:
        find_anywhere(graph, text)
    except NotFound:
        return False
    return True


def members(graph: GraphPlan, text: str) -> list[str]:
    """References to each branch, copy or output of what `text` refers to. Raises `NotFound` if it has none."""
    names = _members(graph, find_anywhere(graph, text))
    if not names:
        raise NotFound(f"`{text}` has no branches, copies or outputs", Suggestion(text, instead_of=f"{text}.*"))
    return [f"{text}.{name}" for name in names]


def _members(graph: GraphPlan, value: Value) -> list[str]:
    levels = [*levels_of(graph, value)]
    step, value = levels[-1].step, levels[-1].value
    if step is None or value.inner is not None or value.key is not None:
        return []
    if any(level.value.index is not None for level in levels):
        return []
    if step.repeat is not None and value.copy is None and not value.spot:
        return [str(copy) for copy in range(step.copy_count)]
    if not value.spot and len(step.parts) > 1:
        return [] if step.chooses else [name for name, _ in step.parts]
    applied = step.spots.get(value.spot)
    inner = None if applied is None else graph_of(applied)
    return [] if inner is None else [name for name, _ in inner.outputs if name]


def _everywhere(graph: GraphPlan, names: Sequence[str]) -> Iterator[Value]:
    for step in graph.steps:
        for spot, applied in step.spots.items():
            inner = graph_of(applied)
            if inner is None or _refusal(step, spot) is not None:
                continue
            is_here = inner.step(names[0]) is not None or inner.input(names[0]) is not None
            try:
                found = [first(inner, names)] if is_here else _everywhere(inner, names)
            except NotFound:
                found = _everywhere(inner, names)
            for value in found:
                yield Value(step.name, spot, inner=value)


def first(members: Members, names: Sequence[str]) -> Value:
    """Resolve names, the outermost first. Raises `NotFound`."""
    head, *rest = names
    step = members.step(head)
    if step is not None:
        return _inside(step, rest)
    if members.input(head) is None:
        raise unknown_name(head, members.names)
    if rest:
        raise NotFound(f"`{head}` is an input and has no member `{'.'.join(rest)}`")
    return Value(head)


@dataclass(frozen=True, slots=True)
class Way:
    """The result of following names into a step: the copy, the module at a spot, and the remaining names."""

    copy: int | None
    spot: str
    applied: Applied | None
    """None if the step has several branches, and no name selects one."""
    rest: tuple[str, ...]


def walk(step: Step, names: Sequence[str]) -> Way:
    """Follow names below the path of a step through its modules. Raises `NotFound`."""
    copy, spot, rest = None, "", list(names)
    if step.repeat is not None and rest and rest[0].isdigit():
        copy, count = int(rest.pop(0)), step.copy_count
        if copy >= count:
            message = f"copy `{copy}` of `{step.path}` is out of range: it has {count} copies"
            raise NotFound(message, f"the last is `{count - 1}`")
    spots = step.copy(copy).spots
    while rest and join(spot, rest[0]) in spots:
        spot = join(spot, rest.pop(0))
    return Way(copy, spot, spots.get(spot), tuple(rest))


def _inside(step: Step, names: Sequence[str]) -> Value:
    way = walk(step, names)
    refused = _refusal(step, way.spot)
    if refused is not None:
        raise refused
    here = Value(step.name, way.spot, copy=way.copy)
    if not way.rest:
        return here
    graph = None if way.applied is None else graph_of(way.applied)
    if graph is None:
        if step.record is not None and not way.spot and way.rest[0] in step.record.names and len(way.rest) == 1:
            return replace(here, key=way.rest[0])
        if way.applied is not None and is_opened(way.applied.target):
            return replace(here, inner=Value(".".join(way.rest)))
        raise _no_module(step, way)
    path = join(step.path, way.spot)
    outputs = dict(graph.outputs)
    if len(way.rest) == 1 and way.rest[0] in outputs:
        is_joined = bool(step.joins) and not way.spot  # then the value of the step differs from the output of its body
        return replace(here, inner=outputs[way.rest[0]]) if is_joined else replace(here, key=way.rest[0])
    if way.rest[0].startswith("_"):
        raise NotFound(f"`{way.rest[0]}` is private to `{path}`, like all names that begin with `_`")
    try:
        return replace(here, inner=first(graph, way.rest))
    except NotFound as problem:
        raise problem.seen_from(f"`{path}`") from None


def is_opened(module: object) -> bool:
    """Whether the modules inside of a module have values; which there are is known when it is built."""
    return isinstance(module, Call) and modules.is_opened(module.name)


def _refusal(step: Step, spot: str) -> NotFound | None:
    """The error for a branch of a switch, or of a gate with `top`, which has no value: it sees only some rows."""
    branch = spot.split(".")[0]
    if step.decision is None or len(step.parts) < 2 or branch not in dict(step.parts):
        return None
    what = "a switch runs a branch" if step.chooses else "a gate with `top` runs an expert"
    message = f"`{step.path}.{branch}` has no value: {what} only for the rows that its router selects"
    return NotFound(message, f"use `{step.path}`, the output of the selected branches, or `{step.path}.router`")


def _no_module(step: Step, way: Way) -> NotFound:
    """The error for an unknown name below a module of a step."""
    wrong, path = way.rest[0], join(step.path, way.spot)
    if way.applied is None:
        below = [name for name in step.spots if "." not in name]
        return NotFound(f"`{step.path}` has no branch `{wrong}`", suggest(wrong, below, "branches"), wrong)
    if step.record is not None and not way.spot:
        return NotFound(f"`{path}` has no output `{wrong}`", suggest(wrong, step.record.names, "outputs"), wrong)
    module = way.applied.target
    if isinstance(module, Chain):
        last = len(module.members) - 1
        message = f"the chain `{path}` has no module `{wrong}`"
        return NotFound(message, f"its {last + 1} modules are `{path}.0` to `{path}.{last}`")
    what = "a module object" if isinstance(module, Instance) else "a single module"
    element = f"write `{{from: {path}, through: Identity, take: {wrong}}}` for an element of its output"
    return WithinModule(f"`{path}` is {what} and has no member `{wrong}`", element if wrong.isdigit() else None)


def _indexed(members: Members, value: Value, index: int) -> Value:
    """Add the index to the innermost loop or map. Raises `NotFound`."""
    found = _at_innermost(members, value, index)
    if found is None:
        raise NotFound(f"`{value}` has no iterations to select from")
    return found


def _at_innermost(members: Members, value: Value, index: int) -> Value | None:
    step = members.step(value.member)
    if step is None:
        return None
    below = None if value.inner is None else graph_at(step, value)
    if value.inner is not None and below is not None:
        inner = _at_innermost(below, value.inner, index)
        if inner is not None:
            return replace(value, inner=inner)
    copies = not step.iterates and step.repeat is not None and value.copy is None
    if not step.iterates and not copies:
        return None
    count = step.repeat if copies else None if step.decision is not None else step.limit
    if count is not None and isinstance(count.value, int) and not -count.value <= index < count.value:
        total = f"{count.value} {'copies' if copies else 'iterations'}"
        message = f"index `[{index}]` of `{value}` is out of range: it has {total}"
        raise NotFound(message, f"the last is `[{count.value - 1}]`")
    if not copies:
        return replace(value, index=index)
    assert count is not None
    assert isinstance(count.value, int)
    return replace(value, copy=index % count.value)


class Level(NamedTuple):
    """A graph that a value leads through: its path with the numbers of copies, and the step and value in it.

    `step` is None for an input.
    """

    path: str
    graph: GraphPlan
    step: Step | None
    value: Value


def levels_of(graph: GraphPlan, value: Value) -> Iterator[Level]:
    """The graphs that a value leads through, outermost first. The last one has the member that gives it."""
    path = ""
    while True:
        step = graph.step(value.member)
        yield Level(path, graph, step, value)
        below = None if step is None or value.inner is None else graph_at(step, value)
        if step is None or value.inner is None or below is None:
            return
        path = join(path, step.path, "" if value.copy is None else str(value.copy), value.spot)
        graph, value = below, value.inner


def innermost(graph: GraphPlan, value: Value) -> Level:
    """The graph with the member that gives a value."""
    *_, last = levels_of(graph, value)
    return last


def place_of(graph: GraphPlan, value: Value) -> Place:
    """Where the member that gives a value is written."""
    level = innermost(graph, value)
    member = level.step or level.graph.input(level.value.member)
    return level.graph.place if member is None else member.place


def graph_at(step: Step, value: Value) -> GraphPlan | None:
    """The nested graph of an inner value; None if it is inside of a module with its own `forward`."""
    return graph_of(step.copy(value.copy).spots[value.spot])


def graph_of(applied: Applied) -> GraphPlan | None:
    """The mounted graph, or None for a module."""
    return applied.target.graph if isinstance(applied.target, Mount) else None


def record_of(members: Members, value: Value) -> Record | None:
    """The names in a value, if known."""
    step = members.step(value.member)
    if step is None:
        return None
    if value.inner is not None:
        below = graph_at(step, value)
        return None if below is None else record_of(below, value.inner)
    if value.key is not None:
        return None
    if value.spot:
        graph = graph_of(step.spots[value.spot])
        return Record(graph.fields) if graph is not None and graph.fields is not None else None
    is_the_bodys = len(step.parts) == 1 and not step.joins and step.take is None
    return step.record if is_the_bodys else None


@dataclass(frozen=True, slots=True)
class Found:
    """The module at a path. `home` is the path without the indices of copies; `applied` is None for all branches.

    `captures` are the values of the current graph that an inline graph reads besides its inputs.
    """

    path: str
    home: str
    applied: Applied | None
    captures: tuple[tuple[str, Value], ...] = ()
    several: NotFound | None = None
    """The error if it is not a single module."""


def find_module(members: Members, names: Sequence[str]) -> Found:
    """The single module at a path. Raises `NotFound`."""
    found = find_path(members, names)
    if found.several is not None:
        raise found.several
    return found


def find_path(members: Members, names: Sequence[str], above: str = "") -> Found:
    """The module or modules at a path; `above` is the path of the graph. Raises `NotFound`."""
    step = members.step(names[0])
    if step is None:
        if members.input(names[0]) is not None:
            raise NotFound(f"`{names[0]}` is an input, not a step with a module")

        def advice() -> Advice | None:
            return suggest(names[0], [name for name in members.names() if members.input(name) is None], "steps")

        where = f"step `{names[0]}` in `{above}`" if above else f"step `{names[0]}`"
        raise NotFound(f"there is no {'' if above else 'earlier '}{where}", advice, names[0])
    way = walk(step, names[1:])
    graph = None if way.applied is None else graph_of(way.applied)
    if way.rest and graph is None:
        raise _no_module(step, way)
    path = join(step.path, "" if way.copy is None else str(way.copy), way.spot)
    home = join(step.path, way.spot)
    if way.applied is not None and isinstance(way.applied.module, Shared):
        path, home = way.applied.module.path, way.applied.module.home
    several = _several(step, way, join(above, step.path))
    if not way.rest or graph is None:
        captures = () if way.applied is None else _captures(way.applied)
        return Found(path, home, way.applied, captures, several)
    found = find_path(graph, way.rest, join(above, path))
    around = Value(step.name, way.spot, copy=way.copy)
    captures = tuple((name, replace(around, inner=value.now)) for name, value in found.captures)
    return Found(join(path, found.path), join(home, found.home), found.applied, captures, several or found.several)


def _several(step: Step, way: Way, path: str) -> NotFound | None:
    """The error if names refer to several modules."""
    if step.repeat is not None and way.copy is None and not isinstance(step.body.module, Shared):
        copies = f"`{path}` is repeated; its copies are `{path}.0` to `{path}.{step.copy_count - 1}`"
        return NotFound(copies, Suggestion(join(path, "0", way.spot, *way.rest), join(path, way.spot, *way.rest)))
    if way.applied is None:
        return NotFound(f"`{path}` has several branches", Suggestion(f"{path}.{step.parts[0][0]}", path))
    if not way.spot and not way.rest and step.extras and isinstance(step.body.module, Chain):
        extra = f"`{path}.{step.extras[0].path.rpartition('.')[2]}`"
        advice = f"move the chain to a separate step, or write one of its modules: `{path}.0`"
        return NotFound(f"the chain `{path}` shares its path with {extra} and is not a single module", advice)
    return None


def _captures(applied: Applied) -> tuple[tuple[str, Value], ...]:
    graph = graph_of(applied)
    names = {given.name for given in graph.inputs if given.captured} if graph is not None else set()
    return tuple((name, value) for name, value in applied.using if name in names)
