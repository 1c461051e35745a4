"""Selectors: texts that name parameters or modules of a graph, such as `encoder.**.norm:bias`.

A selector is a path, which means all below it; in a path, `*` is any one name and `**` any number of names. A kind may
follow: `:bias`, `:norm`, `:embedding` or `:matrix`. The empty path is the whole graph. A path through a repeated step
without a number means all copies.

A `Tree` finds what a selector means among dotted names, without torch; which kinds a parameter has is determined where
the modules are (`graph.kinds`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from flowconf.language.paths import join
from flowconf.language.plan import Applied, GraphPlan, Mount, Shared
from flowconf.report import Advice, Available, Suggestion, nearest

KINDS = ("bias", "norm", "embedding", "matrix")
ONE, ANY = "*", "**"
MOST = 100
"""The maximum number of names in a selector."""
S = TypeVar("S")
T = TypeVar("T")
Kinds = Mapping[str, Collection[str]]
"""Parameter -> its kinds."""


class SelectorError(ValueError):
    """A text that is not a selector."""

    def __init__(self, message: str, advice: Advice | None) -> None:
        super().__init__(message)
        self.message, self.advice = message, advice


@dataclass(frozen=True)
class Selector:
    """A parsed selector: the names of its path, with `*` and `**`, and its kind."""

    names: tuple[str, ...]
    kind: str | None = None

    def __str__(self) -> str:
        return ".".join(self.names) + (f":{self.kind}" if self.kind else "")

    @property
    def is_path(self) -> bool:
        """Whether it is a plain path, without wildcards and kind."""
        return self.kind is None and ONE not in self.names and ANY not in self.names

    @property
    def head(self) -> tuple[str, ...]:
        """The names before the first wildcard."""
        first = next((number for number, name in enumerate(self.names) if name in (ONE, ANY)), len(self.names))
        return self.names[:first]


def parse(text: str) -> Selector:
    """The selector that a text describes. Raises `SelectorError`."""
    path, colon, kind = text.partition(":")
    if colon and kind not in KINDS:
        close = nearest(kind, KINDS)
        known = Available("kinds", tuple(f":{one}" for one in KINDS))
        meant = Suggestion(f"{path}:{close}", instead_of=text) if close else known
        raise SelectorError(f"unknown kind `:{kind}` in `{text}`", meant)
    names = tuple(path.split(".")) if path else ()
    if len(names) > MOST:
        raise SelectorError(f"`{text[:40]}...` has {len(names):,} names, the maximum is {MOST}", None)
    for name in names:
        if "*" in name and name not in (ONE, ANY):
            message = f"`{name}` in `{text}` is not a name: `*` cannot be a part of one"
            raise SelectorError(message, "write `*` for any one name, `**` for any number of names")
        if not name or re.search(r"\s", name):
            advice = "write names separated by dots, and optionally a kind such as `:bias`"
            raise SelectorError(f"`{text}` is not a selector", advice)
    return Selector(names, kind or None)


def with_kind(selector: Selector) -> Selector | None:
    """A selector whose last name is a kind, with that kind: `bias` is `**:bias`."""
    *above, last = selector.names or ("",)
    return Selector(tuple(above) or (ANY,), last) if selector.kind is None and last in KINDS else None


@dataclass
class _Node:
    """The module or parameter at a path."""

    path: str = ""
    children: dict[str, _Node] = field(default_factory=dict)
    is_name: bool = False
    graph: GraphPlan | None = None
    repeated: bool = False
    lent: dict[str, _Node | None] = field(default_factory=dict)
    """The nodes of modules that the surrounding graph shares with this one, by the names that they have here."""

    def below(self, names: Iterable[str]) -> _Node | None:
        """The node at the end of these names, without those that only the plan knows."""
        node: _Node | None = self
        for name in names:
            node = node.children.get(name) if node is not None else None
        return node

    def child(self, name: str) -> _Node | None:
        """The node of a name: of a module or parameter, or of the name, tag or `reuse` of a step."""
        step = self.graph.step(name) if self.graph is not None else None
        if step is None:
            return self.children.get(name)
        if step.path not in self.children and isinstance(step.body.module, Shared):
            return self.reached(step.body.module.path)
        return self.children.get(step.path)

    def reached(self, path: str) -> _Node | None:
        """The node of a path of this graph, which may begin with a module of the surrounding one."""
        first, *rest = path.split(".")
        node = self.lent[first] if first in self.lent else self.child(first)
        for name in rest:
            node = node.child(name) if node is not None else None
        return node

    def all_names(self) -> Iterator[str]:
        """The names at and below this node."""
        if self.is_name:
            yield self.path
        for child in self.children.values():
            yield from child.all_names()


class Tree:
    """The names of the parameters or modules of a graph, with what its plan knows of them."""

    def __init__(self, plan: GraphPlan, names: Iterable[str]) -> None:
        self.names = list(names)
        self.positions = {name: number for number, name in enumerate(self.names)}
        self.root = _Node()
        for name in self.names:
            node = self.root
            for part in name.split(".") if name else ():
                node = node.children.setdefault(part, _Node(join(node.path, part)))
            node.is_name = True
        _annotate(self.root, plan)

    def select(self, selector: Selector, kinds: Kinds | None = None) -> list[str]:
        """The names at and below the path of a selector that have its kind, in the order of the tree."""
        found = {name for node in self._nodes(selector) for name in node.all_names()}
        if selector.kind is not None:
            found = {name for name in found if selector.kind in (kinds or {}).get(name, ())}
        return sorted(found, key=self.positions.__getitem__)

    def paths(self, selector: Selector) -> list[str]:
        """The paths that the path of a selector matches, the outermost ones only."""
        return list(dict.fromkeys(node.path for node in self._nodes(selector)))

    def instead(self, selector: Selector, kinds: Kinds | None = None) -> Advice | None:
        """The advice for a selector that selects nothing: the kinds at its path, or the most similar selector."""
        there = self.select(replace(selector, kind=None))
        if there:
            has = [f"`:{kind}`" for kind in KINDS if any(kind in (kinds or {}).get(name, ()) for name in there)]
            return f"the parameters there are {' and '.join(has)}" if has else None
        close = next((other for other in self._similar(selector) if self.select(other, kinds)), None)
        return Suggestion(str(close), instead_of=str(selector)) if close is not None else None

    def _similar(self, selector: Selector) -> Iterator[Selector]:
        """Selectors with one part replaced, removed or added."""
        names, kind = selector.names, selector.kind
        for number, name in enumerate(names):
            if name not in (ONE, ANY):
                above = self._nodes(Selector(names[:number]))
                deep = number > 0 and names[number - 1] == ANY
                close = nearest(name, [child for node in above for child in _visible(node, deep)])
                if close is not None:
                    yield Selector((*names[:number], close, *names[number + 1 :]), kind)
        if names and names[0] != ANY:
            yield Selector((ANY, *names), kind)
        of_kind = with_kind(selector)
        if of_kind is not None:
            yield of_kind
        for number in range(1, len(names)):
            if ANY not in names[number - 1 : number + 1]:
                yield Selector((*names[:number], ANY, *names[number:]), kind)

    def _nodes(self, selector: Selector) -> list[_Node]:
        """The outermost nodes that match all names of a selector."""
        found: list[_Node] = []
        _match(self.root, {0}, selector.names, found, {})
        return found


def _match(
    node: _Node, positions: set[int], names: tuple[str, ...], found: list[_Node], visited: dict[int, set[int]]
) -> None:
    """Add the outermost nodes at and below `node` that match the rest of `names` from one of some positions."""
    for position in sorted(positions):
        while position < len(names) and names[position] == ANY:
            position += 1
            positions.add(position)
    if len(names) in positions:
        found.append(node)
        return
    seen = visited.setdefault(id(node), set())
    if positions <= seen:
        return
    seen |= positions
    following: dict[int, tuple[_Node, set[int]]] = {}

    def goes(child: _Node | None, position: int) -> None:
        if child is not None:
            following.setdefault(id(child), (child, set()))[1].add(position)

    for position in positions:
        name = names[position]
        copies = node.repeated and name not in (ONE, ANY) and not name.isdigit()
        if copies or name == ANY:
            for child in node.children.values():
                goes(child, position)
        elif name == ONE:
            for child in node.children.values():
                goes(child, position + 1)
        else:
            goes(node.child(name), position + 1)
    for child, reached in following.values():
        _match(child, reached, names, found, visited)


def _visible(node: _Node, deep: bool) -> Iterator[str]:
    """The names that can follow a node in a selector; `deep`: at any depth."""
    for name, child in node.children.items():
        yield name
        if deep or (node.repeated and name.isdigit()):
            yield from _visible(child, deep)
    if node.graph is not None:
        yield from (step.name for step in node.graph.steps if node.child(step.name) is not None)


def _annotate(node: _Node, plan: GraphPlan) -> None:
    """Note the graphs and repeated steps of a plan at the nodes of their paths."""
    node.graph = plan
    for step in plan.steps:
        here = node.children.get(step.path)
        if here is None:
            continue
        here.repeated = step.repeat is not None
        for applied in step.applied():
            if isinstance(applied.module, Mount):
                rest = applied.path.split(".")[1:]
                for copy in here.children.values() if here.repeated else (here,):
                    mounted = copy.below(rest)
                    if mounted is not None:
                        mounted.lent = {mine: node.reached(theirs) for mine, theirs in applied.module.shares}
                        _annotate(mounted, applied.module.graph)


def first_that_fits(selected: Mapping[S, Iterable[T]]) -> dict[T, S]:
    """Selected item -> the first of some selectors that selects it."""
    found: dict[T, S] = {}
    for selector, things in selected.items():
        for thing in things:
            found.setdefault(thing, selector)
    return found


def copies(plan: GraphPlan, names: Iterable[str]) -> dict[str, str]:
    """All parameters of a graph, and for each the name without the numbers of copies, which are `names`."""
    return {full: name for name in names for full in _copies(plan, name.split("."))}


def _copies(plan: GraphPlan, names: list[str]) -> Iterator[str]:
    """The full names of one without the numbers of copies."""
    step = plan.step(names[0])
    if step is None:
        yield ".".join(names)
        return
    if step.copies and len(names) > 1:
        copy = step.copies[int(names[1])]
        yield from (join(names[0], rest) for rest in _below(copy.applied(), names) or [".".join(names[1:])])
        return
    numbers = [str(number) for number in range(step.copy_count)] if step.repeat is not None else [""]
    below = _below(step.applied(), names)
    for rest in below if below is not None else [".".join(names[1:])]:
        for number in numbers:
            yield join(names[0], number, rest)


def _below(applied: Iterable[Applied], names: list[str]) -> list[str] | None:
    """The full names below a step, for a name in a graph that it mounts."""
    for one in applied:
        path, module = one.path.split("."), one.module
        if isinstance(module, Mount) and names[: len(path)] == path and len(names) > len(path):
            above = ".".join(path[1:])
            return [join(above, rest) for rest in _copies(module.graph, names[len(path) :])]
    return None
