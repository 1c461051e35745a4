"""References: from `letter.read.at[2]` to a `Value` of the Plan, one name at a time.

The same walk serves a document's own references, the losses of a training config, and the Python interface.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flowconf.language.plan import Applied, Chain, GraphPlan, Input, Instance, Mount, Record, Shared, Step, Value, join
from flowconf.report import Advice, Suggestion, suggest

FORM = re.compile(r"^([A-Za-z_]\w*(?:\.\w+)*)(?:\[(-?\d{1,9})\])?$")


class NotFound(Exception):
    """A reference that names nothing. `wrong` is the part of it that does not, `advice` says what would."""

    def __init__(self, message: str, advice: Advice | None = None, wrong: str | None = None) -> None:
        super().__init__(message)
        self.message, self.advice, self.wrong = message, advice, wrong

    def advice_for(self, text: str) -> Advice | None:
        """The help for the whole reference `text`: what to write instead of all of it."""
        return self.advice.within(text) if isinstance(self.advice, Suggestion) else self.advice

    def seen_from(self, graph: str) -> NotFound:
        """The same for a reader outside of the graph that was searched, which is called `graph`."""
        return self


class NamesNothing(NotFound):
    """The first name of a reference stands for nothing in a graph."""

    def __init__(self, name: str, advice: Advice | None, graph: str | None = None) -> None:
        super().__init__(f"`{name}` names nothing {f'in {graph}' if graph else 'here'}", advice, name)
        self.name, self.graph = name, graph

    def seen_from(self, graph: str) -> NotFound:
        return self if self.graph else NamesNothing(self.name, self.advice, graph)


class Ambiguous(NotFound):
    """A short reference that fits several members of graphs further down."""


class Members(Protocol):
    """What a reference is looked up in: a graph, or one that is being resolved."""

    def step(self, name: str) -> Step | None: ...
    def input(self, name: str) -> Input | None: ...
    def names(self) -> list[str]: ...


@dataclass(frozen=True)
class Planned:
    """A finished graph as a place to look names up in."""

    graph: GraphPlan

    def step(self, name: str) -> Step | None:
        return self.graph.step(name)

    def input(self, name: str) -> Input | None:
        return self.graph.input(name)

    def names(self) -> list[str]:
        return visible_names(self.graph.inputs, self.graph.steps)


def visible_names(inputs: Sequence[Input], steps: Sequence[Step]) -> list[str]:
    """The names that a reference may begin with, in declared order."""
    names = [given.name for given in inputs]
    for step in steps:
        names += [name for name in (step.name, step.tag, step.path) if name]
    return list(dict.fromkeys(names))


def split(text: str) -> tuple[list[str], int | None]:
    """The names of a reference and its index. Raises `NotFound` when it is not of that form."""
    match = FORM.match(text.strip())
    if match is None:
        raise NotFound(f"`{text}` is not a reference", "a reference is a name, or names joined by dots")
    return match[1].split("."), None if match[2] is None else int(match[2])


def find(members: Members, text: str) -> Value:
    """What `text` refers to among `members`. Raises `NotFound`."""
    names, index = split(text)
    value = first(members, names)
    return value if index is None else _indexed(members, value, index)


def find_anywhere(graph: GraphPlan, text: str) -> Value:
    """`find`, or else the one member of that name or tag anywhere below. Raises `NotFound`."""
    names, index = split(text)
    try:
        value = first(Planned(graph), names)
    except NotFound as problem:
        found = list(_everywhere(graph, names))
        if len(found) > 1:
            listed = ", ".join(f"`{value}`" for value in found[:4])
            raise Ambiguous(f"`{text}` stands for {len(found)} things: {listed}", "write the whole path") from None
        if not found:
            raise problem
        value = found[0]
    return value if index is None else _indexed(Planned(graph), value, index)


def names_value(graph: GraphPlan, text: str) -> bool:
    """Whether a reference names a value of the graph."""
    try:
        find_anywhere(graph, text)
    except NotFound:
        return False
    return True


def _everywhere(graph: GraphPlan, names: Sequence[str]) -> Iterator[Value]:
    for step in graph.steps:
        for spot, applied in step.spots.items():
            inner = graph_of(applied)
            if inner is None or _refusal(step, spot) is not None:
                continue
            try:
                yield Value(step.name, spot, inner=first(Planned(inner), names))
            except NotFound:
                for value in _everywhere(inner, names):
                    yield Value(step.name, spot, inner=value)


def first(members: Members, names: Sequence[str]) -> Value:
    """Resolve names from the outermost on. Raises `NotFound`."""
    head, *rest = names
    step = members.step(head)
    if step is not None:
        return _inside(step, rest)
    if members.input(head) is None:
        raise NamesNothing(head, suggest(head, members.names()))
    if rest:
        raise NotFound(f"`{head}` is an input, and `{'.'.join(rest)}` cannot be reached in it")
    return Value(head)


@dataclass(frozen=True, slots=True)
class Way:
    """How far names lead inside of a step: to one of its copies, to the module at a spot, and which are left over."""

    copy: int | None
    spot: str
    applied: Applied | None
    """None where the step has several branches, and no name says which."""
    rest: tuple[str, ...]


def walk(step: Step, names: Sequence[str]) -> Way:
    """Follow names below a step's path as far as its own modules go. Raises `NotFound`."""
    copy, spot, spots, rest = None, "", step.spots, list(names)
    if step.repeat is not None and rest and rest[0].isdigit():
        copy = int(rest.pop(0))
        count = step.repeat.value
        if isinstance(count, int) and copy >= count:
            raise NotFound(f"`{step.path}` has {count} copies, and no `{copy}`", f"the last is `{count - 1}`")
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
        raise _no_module(step, way)
    path = join(step.path, way.spot)
    outputs = dict(graph.outputs)
    if len(way.rest) == 1 and way.rest[0] in outputs:
        is_joined = bool(step.joins) and not way.spot  # then the step's value is not what its body gives
        return replace(here, inner=outputs[way.rest[0]]) if is_joined else replace(here, key=way.rest[0])
    if way.rest[0].startswith("_"):
        raise NotFound(f"`{way.rest[0]}` is internal to `{path}`: names that begin with `_` are not seen from outside")
    try:
        return replace(here, inner=first(Planned(graph), way.rest))
    except NotFound as problem:
        raise problem.seen_from(f"`{path}`") from None


def _refusal(step: Step, spot: str) -> NotFound | None:
    """A branch of a switch has no value of its own: it sees the rows that its router sends there."""
    branch = spot.split(".")[0]
    if not step.chooses or branch not in dict(step.parts):
        return None
    message = f"`{step.path}.{branch}` may not have run, or for some rows only: a switch runs what its router chooses"
    return NotFound(message, f"`{step.path}` is what the chosen branches give, `{step.path}.router` the choice")


def _no_module(step: Step, way: Way) -> NotFound:
    """The name after a step's own modules leads nowhere."""
    wrong, path = way.rest[0], join(step.path, way.spot)
    if way.applied is None:
        below = [name for name in step.spots if "." not in name]
        return NotFound(f"`{step.path}` has no branch `{wrong}`", suggest(wrong, below, "branches"), wrong)
    module = way.applied.target
    if isinstance(module, Chain):
        last = len(module.members) - 1
        message = f"`{path}` is a chain of {last + 1} modules, and `{wrong}` is none of them"
        return NotFound(message, f"they are `{path}.0` to `{path}.{last}`")
    what = "a module made outside" if isinstance(module, Instance) else "one module"
    return NotFound(f"`{path}` is {what}, and nothing in it is called `{wrong}`")


def _indexed(members: Members, value: Value, index: int) -> Value:
    """Put the index where the innermost iteration is. Raises `NotFound`."""
    found = _at_innermost(members, value, index)
    if found is None:
        raise NotFound(f"`{value}` has one value, and no iterations to pick from")
    return found


def _at_innermost(members: Members, value: Value, index: int) -> Value | None:
    step = members.step(value.member)
    if step is None:
        return None
    if value.inner is not None:
        inner = _at_innermost(Planned(graph_at(step, value)), value.inner, index)
        if inner is not None:
            return replace(value, inner=inner)
    copies = not step.iterates and step.repeat is not None and value.copy is None
    if not step.iterates and not copies:
        return None
    count = step.repeat if copies else None if step.decision is not None else step.limit
    if count is not None and isinstance(count.value, int) and not -count.value <= index < count.value:
        raise NotFound(
            f"`{value}` has {count.value} {'copies' if copies else 'iterations'}, and no `[{index}]`",
            f"the last is `[{count.value - 1}]`",
        )
    if not copies:
        return replace(value, index=index)
    assert count is not None
    assert isinstance(count.value, int)
    return replace(value, copy=index % count.value)


def graph_at(step: Step, value: Value) -> GraphPlan:
    """The graph that an inner value lies in."""
    graph = graph_of(step.spots[value.spot])
    assert graph is not None
    return graph


def graph_of(applied: Applied) -> GraphPlan | None:
    """The graph that stands there, None where a module does."""
    return applied.target.graph if isinstance(applied.target, Mount) else None


def record_of(members: Members, value: Value) -> Record | None:
    """The names that a value is known to hold."""
    step = members.step(value.member)
    if step is None:
        return None
    if value.inner is not None:
        return record_of(Planned(graph_at(step, value)), value.inner)
    if value.key is not None:
        return None
    if value.spot:
        graph = graph_of(step.spots[value.spot])
        return Record(graph.fields) if graph is not None and graph.fields is not None else None
    is_the_bodys = len(step.parts) == 1 and not step.joins and step.take is None
    return step.record if is_the_bodys else None


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at a path. `home` is that path without the numbers of copies; `applied` is None for all branches.

    `captures` are the values of the graph at hand that the module, a graph written inline, reads besides its inputs.
    """

    path: str
    home: str
    applied: Applied | None
    captures: tuple[tuple[str, Value], ...] = ()
    several: NotFound | None = None
    """Why it is not one module."""


def find_module(members: Members, names: Sequence[str]) -> Found:
    """The one module at a path. Raises `NotFound`."""
    found = find_path(members, names)
    if found.several is not None:
        raise found.several
    return found


def find_path(members: Members, names: Sequence[str], above: str = "") -> Found:
    """What stands at a path, be it one module or several; `above` is the path of the graph. Raises `NotFound`."""
    step = members.step(names[0])
    if step is None:
        if members.input(names[0]) is not None:
            raise NotFound(f"`{names[0]}` is an input, and only the module of a step is used again")
        advice = suggest(names[0], [name for name in members.names() if members.input(name) is None], "steps")
        where = f"no step of `{above}`" if above else "no earlier step here"
        raise NotFound(f"`{names[0]}` is {where}", advice, names[0])
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
    found = find_path(Planned(graph), way.rest, join(above, path))
    around = Value(step.name, way.spot, copy=way.copy)
    captures = tuple((name, replace(around, inner=value.now)) for name, value in found.captures)
    return Found(join(path, found.path), join(home, found.home), found.applied, captures, several or found.several)


def _several(step: Step, way: Way, path: str) -> NotFound | None:
    """Why what names lead to is not one module."""
    if step.repeat is not None and way.copy is None and not isinstance(step.body.module, Shared):
        copies = f"`{path}` is repeated, and its copies are `{path}.0` to `{path}.{step.repeat.value - 1}`"  # type: ignore[operator]
        return NotFound(copies, Suggestion(join(path, "0", way.spot, *way.rest), join(path, way.spot, *way.rest)))
    if way.applied is None:
        return NotFound(f"`{path}` has several branches", Suggestion(f"{path}.{step.parts[0][0]}", path))
    if not way.spot and not way.rest and step.extras and isinstance(step.body.module, Chain):
        message = f"the chain at `{path}` stands beside `{path}.{step.extras[0].path.rpartition('.')[2]}`"
        advice = f"give the chain a step of its own, or write one of its members: `{path}.0`"
        return NotFound(f"{message}, and is not one module", advice)
    return None


def _captures(applied: Applied) -> tuple[tuple[str, Value], ...]:
    graph = graph_of(applied)
    names = {given.name for given in graph.inputs if given.captured} if graph is not None else set()
    return tuple((name, value) for name, value in applied.using if name in names)
