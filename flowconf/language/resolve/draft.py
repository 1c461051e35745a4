"""A graph that is being resolved: the names defined so far, and the values captured from the outer graphs."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field, replace

from flowconf.language import references
from flowconf.language.arguments import Literal
from flowconf.language.plan import Input, Step, Value, names_of
from flowconf.language.references import Found, NotFound
from flowconf.language.settings import Adapter, Link, Setting
from flowconf.report import Place
from flowconf.report.origins import Document, Path


class Params(dict[str, Literal]):
    """The parameters of one document, and the names of those that are used."""

    def __init__(self, given: dict[str, Literal]) -> None:
        super().__init__(given)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Literal:
        found = super().__getitem__(name)
        self.used.add(name)
        return found


@dataclass
class Draft:
    """A graph document that is being resolved to a Plan.

    `around` is the draft of the document that contains an inline body. `captures` are values of outer graphs that
    became inputs, `shares` modules of outer graphs (own name -> their path). `failed` are the steps with errors.
    """

    path: Path
    title: str
    scope: ChainMap[str, Literal]
    around: Draft | None
    inputs: list[Input]
    stream: Value
    members: dict[str, Place] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    set_first: dict[tuple[str, str], Setting] = field(default_factory=dict)
    """The first setting of each path and key."""
    links: dict[tuple[str, str], Link] = field(default_factory=dict)
    """Tied parameters and members that follow others, by key and name; `home` is empty until all members are known."""
    adapters: list[Adapter] = field(default_factory=list)
    captures: dict[str, Value] = field(default_factory=dict)
    shares: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    named: dict[str, Step] = field(default_factory=dict)
    awaited: dict[str, Place] = field(default_factory=dict)
    """References to later steps, as written."""

    def add(self, step: Step) -> None:
        """Add the next step, which references can now refer to."""
        self.steps.append(step)
        for name in step.names:
            self.named.setdefault(name, step)

    def numbered(self, index: str, number: int) -> tuple[Draft, Params]:
        """This graph for one copy of a repeated step, whose number is the parameter `index`, and that parameter.

        Settings and the like are not shared with this draft, everything else is.
        """
        own = Params({index: Literal(number, index)})
        return replace(self, scope=scope_of(own, self), settings=[], set_first={}, links={}, adapters=[]), own

    def add_settings(self, copy: Draft) -> None:
        """Add the settings and the like of a copy of a repeated step."""
        self.settings += copy.settings
        self.links |= copy.links
        self.adapters += copy.adapters

    def step(self, name: str) -> Step | None:
        return self.named.get(name)

    def input(self, name: str) -> Input | None:
        return next((given for given in self.inputs if given.name == name and not given.captured), None)

    def names(self) -> list[str]:
        own = [given.name for given in self.inputs if not given.captured] + names_of(self.steps)
        return list(dict.fromkeys([*own, *(self.around.names() if self.around else [])]))

    def known(self) -> list[str]:
        """All names of this and the outer graphs, including those of steps that are not resolved yet."""
        own = [*self.names(), *self.members]
        return list(dict.fromkeys([*own, *(self.around.known() if self.around else [])]))

    def find(self, text: str) -> Value:
        """The value of a reference, in this or the outer graphs. Raises `NotFound`."""
        try:
            return references.find(self, text)
        except NotFound:
            if self.around is None or references.split(text)[0][0] in self.members:
                raise
        try:
            return self._captured(self.around.find(text), self.around)
        except NotFound as problem:
            if problem.wrong is None or problem.wrong != references.split(text)[0][0]:
                raise
            raise references.unknown_name(problem.wrong, self.known) from None

    def later(self, text: str, place: Place) -> Value:
        """The value in the previous call of a step, in this or the outer graphs, that is not resolved yet.

        It is identified by `text` until its graph is resolved.
        """
        names, _ = references.split(text)
        if names[0] in self.members:
            self.awaited[text] = place
            return Value(text, recurrent=True, place=place)
        assert self.around is not None
        return self._captured(self.around.later(text, place), self.around)

    def _captured(self, outer: Value, around: Draft) -> Value:
        """A value of the graph around as an input of this one."""
        name = str(outer).replace(".", "_").replace("[", "_").replace("]", "").replace("-", "last_")
        while name in self.members and self.captures.get(name) != outer:
            name += "_"
        if name not in self.captures:
            self.captures[name] = outer
            given = around.input(outer.member)
            shape = given.shape if given is not None else None
            self.inputs.append(Input(name, shape, captured=True, place=outer.place))
        return Value(name)

    def find_module(self, text: str, name: str) -> Found:
        """The module at `text`; a module of an outer graph is shared as `name`. Raises `NotFound`."""
        parts, _ = references.split(text)
        try:
            return references.find_module(self, parts)
        except NotFound:
            if self.around is None or self.step(parts[0]) is not None:
                raise
        free = name
        while free in self.around.members:
            free += "_"
        found = self.around.find_module(text, free)
        known = next((mine for mine, theirs in self.shares.items() if theirs == found.path), name)
        self.shares.setdefault(known, found.path)
        captures = tuple((name, self._captured(value, self.around)) for name, value in found.captures)
        return replace(found, path=known, home=known, captures=captures)

    def hand_on(self, path: str) -> None:
        """Give links to members of the graph around to it; `path` is the path of this graph there."""
        if self.around is not None:
            moved = {
                key: replace(link, path=f"{path}.{link.path}") for key, link in self.links.items() if not link.home
            }
            self.around.links |= {(key, link.name): link for (key, _), link in moved.items()}

    def is_broken(self, name: str) -> bool:
        """Whether `name` is a step, in this or the outer graphs, with an error in it or below it."""
        return name in self.failed or (self.around is not None and self.around.is_broken(name))

    def comes_later(self, name: str) -> bool:
        """Whether `name` is a step, in this or the outer graphs, that is not resolved yet."""
        if self.step(name) is not None or self.input(name) is not None:
            return False
        return name in self.members or (self.around is not None and self.around.comes_later(name))

    def removal(self, name: str, document: Document) -> tuple[str, Place] | None:
        """The name of a removed member, in this or the outer graphs, and the place of its null."""
        flow = document.at((*self.path, "flow"))
        if isinstance(flow, dict) and name in flow and flow[name] is None:
            return name, document.origins.value((*self.path, "flow", name))
        return self.around.removal(name, document) if self.around is not None else None


def scope_of(params: Params, around: Draft | None) -> ChainMap[str, Literal]:
    """The parameters visible in a document: its own before those of the outer graphs."""
    return ChainMap(params, *(around.scope.maps if around is not None else ()))
