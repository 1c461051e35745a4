"""References: from `letter.read.at[2]` to a `Value` of the Plan, one name at a time.

The same walk serves a document's own references, the losses of a training config, and the Python interface.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flowconf.diagnostics import suggest
from flowconf.language.plan import Applied, Chain, GraphPlan, Input, Instance, Module, Mount, Shared, Step, Value

FORM = re.compile(r"^([A-Za-z_]\w*(?:\.\w+)*)(?:\[(-?\d{1,9})\])?$")


class NotFound(Exception):
    """A reference that names nothing. `wrong` is the part of it that does not, `help` says what would."""

    def __init__(self, message: str, help: str | None = None, wrong: str | None = None) -> None:
        super().__init__(message)
        self.message, self.help, self.wrong = message, help, wrong

    def advice(self, text: str) -> str | None:
        """The help for the whole reference `text`: what to write instead of all of it."""
        if self.help is None or self.wrong is None or not self.help.startswith("write `"):
            return self.help
        close = self.help.removeprefix("write `").removesuffix("`")
        whole = re.sub(rf"(?<![^.]){re.escape(self.wrong)}(?![^.\[])", close, text.strip(), count=1)
        return f"write `{whole}`"


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
    try:
        return find(Planned(graph), text)
    except NotFound as problem:
        names, index = split(text)
        found = list(_everywhere(graph, names))
        if len(found) > 1:
            listed = ", ".join(f"`{value}`" for value in found[:4])
            raise NotFound(f"`{text}` stands for {len(found)} things: {listed}", "write the whole path") from None
        if not found:
            raise problem
        return found[0] if index is None else _indexed(Planned(graph), found[0], index)


def names_value(graph: GraphPlan, text: str) -> bool:
    """Whether a reference names a value of the graph."""
    try:
        find_anywhere(graph, text)
    except NotFound:
        return False
    return True


def _everywhere(graph: GraphPlan, names: Sequence[str]) -> Iterator[Value]:
    for step in graph.steps:
        for branch, applied in step.parts:
            inner = _graph_of(applied.module)
            if inner is None:
                continue
            field = branch if len(step.parts) > 1 else None
            try:
                yield Value(step.name, field, first(Planned(inner), names))
            except NotFound:
                for value in _everywhere(inner, names):
                    yield Value(step.name, field, value)


def first(members: Members, names: Sequence[str]) -> Value:
    """Resolve names from the outermost on. Raises `NotFound`."""
    head, *rest = names
    step = members.step(head)
    if step is not None:
        return _inside(step, rest)
    if members.input(head) is None:
        raise NotFound(f"`{head}` names nothing here", suggest(head, members.names()), head)
    if rest:
        raise NotFound(f"`{head}` is an input, and `{'.'.join(rest)}` cannot be reached in it")
    return Value(head)


def _inside(step: Step, rest: Sequence[str]) -> Value:
    if not rest:
        return Value(step.name)
    branch: str | None = None
    applied = step.body
    if len(step.parts) > 1:
        branch, parts = rest[0], dict(step.parts)
        if branch not in parts:
            raise NotFound(f"`{step.path}` has no branch `{branch}`", suggest(branch, parts, "branches"), branch)
        if step.verb == "switch":
            raise NotFound(f"`{step.path}.{branch}` may not have run: a switch runs only what its router chooses")
        if len(rest) == 1:
            return Value(step.name, branch)
        applied, rest = parts[branch], rest[1:]
    graph = _graph_of(applied.module)
    if graph is None:
        raise NotFound(f"`{applied.path}` is one module, and nothing in it is called `{rest[0]}`")
    if len(rest) == 1 and branch is None and rest[0] in dict(graph.outputs):
        return Value(step.name, rest[0])
    if rest[0].startswith("_"):
        raise NotFound(
            f"`{rest[0]}` is internal to `{applied.path}`: names that begin with `_` are not seen from outside"
        )
    try:
        return Value(step.name, branch, first(Planned(graph), rest))
    except NotFound as problem:
        message = problem.message.replace(" names nothing here", f" names nothing in `{applied.path}`")
        raise NotFound(message, problem.help, problem.wrong) from None


def _indexed(members: Members, value: Value, index: int) -> Value:
    """Put the index where the innermost iteration is."""
    step = members.step(value.member)
    if value.inner is not None and step is not None:
        graph = _graph_of(part(step, value.entry).module)
        assert graph is not None
        try:
            return replace(value, inner=_indexed(Planned(graph), value.inner, index))
        except NotFound:
            pass
    if step is None or not step.iterates:
        raise NotFound(f"`{value}` has one value, and no iterations to pick from")
    count = (step.times if step.verb == "loop" else step.repeat) if step.condition is None else None
    if count is not None and isinstance(count.value, int) and not -count.value <= index < count.value:
        raise NotFound(
            f"`{value}` has {count.value} iterations, and no `[{index}]`", f"the last is `[{count.value - 1}]`"
        )
    return replace(value, index=index)


def part(step: Step, branch: str | None) -> Applied:
    """The step's body, or one of its branches."""
    return dict(step.parts)[branch] if branch is not None and len(step.parts) > 1 else step.body


def _graph_of(module: Module) -> GraphPlan | None:
    if isinstance(module, Shared):
        return _graph_of(module.module)
    return module.graph if isinstance(module, Mount) else None


def fields_of(members: Members, value: Value) -> tuple[str, ...] | None:
    """The names that a dict value holds, None for a value that is not known to be a dict."""
    step = members.step(value.member)
    if step is None:
        return None
    if value.inner is not None:
        graph = _graph_of(part(step, value.entry).module)
        assert graph is not None
        return fields_of(Planned(graph), value.inner)
    return None if value.entry is not None else step.fields


def find_module(members: Members, names: Sequence[str]) -> tuple[str, Applied]:
    """The module at a path, and that path in full. Raises `NotFound`."""
    step = members.step(names[0])
    if step is None:
        advice = suggest(names[0], members.names(), "names")
        raise NotFound(f"`{names[0]}` is no earlier step here", advice, names[0])
    rest, home = list(names[1:]), step.path
    if step.repeat is not None and not isinstance(step.body.module, Shared):
        home = f"{home}.{_copy(step, rest)}"
    beside = step.beside()
    if rest and rest[0] in beside:
        home = f"{home}.{rest[0]}"
        return _descend(home, beside[rest.pop(0)], rest)
    if len(step.parts) > 1:
        raise NotFound(f"`{home}` has several branches", f"write `{home}.{next(iter(beside))}`")
    if not rest and step.extras and isinstance(step.body.module, Chain):
        message = f"the chain at `{home}` stands beside `{step.extras[0].path}`, and is not one module"
        raise NotFound(message, f"give the chain a step of its own, or write one of its members: `{home}.0`")
    return _descend(home, step.body, rest)


def _copy(step: Step, rest: list[str]) -> str:
    """The number of a copy of a repeated step, taken off the names that follow the step's."""
    count = step.repeat.value if step.repeat is not None else None
    if rest and rest[0].isdigit() and isinstance(count, int) and int(rest[0]) < count:
        return rest.pop(0)
    what = f"`{step.path}` is repeated, and its copies are `{step.path}.0` to `{step.path}.{count - 1}`"  # type: ignore[operator]
    raise NotFound(what, f"write `{'.'.join([step.path, '0', *rest])}`")


def _descend(path: str, applied: Applied, rest: list[str]) -> tuple[str, Applied]:
    """What stands at `rest` below the module at `path`."""
    home = applied.module.path if isinstance(applied.module, Shared) else path
    if not rest:
        return home, applied
    module = applied.target
    if isinstance(module, Chain) and rest[0].isdigit() and int(rest[0]) < len(module.members):
        return _descend(f"{home}.{rest[0]}", module.members[int(rest[0])], rest[1:])
    if isinstance(module, Mount):
        try:
            inner, found = find_module(Planned(module.graph), rest)
        except NotFound as problem:
            message = problem.message.replace(" is no earlier step here", f" is no step of `{path}`")
            raise NotFound(message, problem.help, problem.wrong) from None
        return f"{home}.{inner}", found
    what = "a module made outside" if isinstance(module, Instance) else "one module"
    raise NotFound(f"`{path}` is {what}, and nothing in it is called `{rest[0]}`")
