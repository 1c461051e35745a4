"""The model of a picture: members, the edges between them, and the level of members inside a member.

A level is one graph, or the branches of one step. Edges connect members of the same level, so that each level is laid
out by itself. Every form of picture is made from these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flowconf.language.settings import Checkpoint
from flowconf.report import NOWHERE, Place


@dataclass(frozen=True)
class Edge:
    """A value that goes from one member of a level to another one.

    `kind` is "stream", "reference" (an argument besides the stream), "state" (the value of the previous iteration or
    call) or "kept" (the stream that a residual is added to). `part` is what is read of the source, if it is not its
    value; `argument` the argument that a reference fills; `shape` that of the value, if it is known.
    """

    source: str
    target: str
    kind: str = "stream"
    part: str = ""
    argument: str = ""
    shape: str = ""

    @property
    def name(self) -> str:
        """The part and the argument, as far as they are not evident."""
        evident = self.argument in ("", (self.part or self.source).split("[")[0].split(".")[-1].split(" ")[-1])
        return " as ".join(name for name in (self.part, "" if evident else self.argument) if name)


@dataclass(frozen=True)
class Level:
    """Members in declared order, and the edges between them."""

    members: tuple[Member, ...] = ()
    edges: tuple[Edge, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Member:
    """One box of a picture.

    `id` is unique in the picture; for a step it is its path. `kind` is "graph" (the whole), "step", "input", "output",
    "part" (a branch, a router, a skip, a member of a chain), "module" (inside of a module of a package or project), or
    "joint", where values meet; `name` of a joint is its sign. `calls` are written with values (`Linear(784, 128)`), and
    `written` are those of the document if they differ (`Linear(784, width)`). Numbers of parameters include everything
    inside, and all copies.
    """

    id: str
    kind: str = "step"
    name: str = ""
    verb: str = ""
    calls: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    source_name: str = ""
    """The graph that is mounted here (`fbrl/letter`)."""
    params: tuple[tuple[str, str], ...] = ()
    """The parameters of the mounted graph: name, value."""
    shape: str = ""
    tag: str = ""
    repeat: int = 0
    """The number of copies in series."""
    times: str = ""
    """How often a body runs, or what it runs over."""
    notes: tuple[str, ...] = ()
    parameters: int = 0
    trainable: int = 0
    tensors: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """The parameters of this member itself: name, shape."""
    frozen: str = ""
    """"all" or "params", by the nearest setting."""
    setting: str = ""
    """`frozen` if it is set here."""
    reuses: str = ""
    """The path of the module that is applied once more."""
    checkpoint: Checkpoint | None = None
    relations: tuple[str, ...] = ()
    """Shared parameters, such as `weight is embedded.weight`."""
    place: Place = NOWHERE
    home: str = ""
    """The generated class in which the member has its lines."""
    inside: Level | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """The verb unless it is a plain one, the name, how often it runs or is copied, the tag, a sign if frozen."""
        verb = self.kind if self.kind in ("input", "output") else self.verb
        verb = "" if verb in ("through", "graph") else verb
        times = f"× {self.times or self.repeat}" if self.times or self.repeat else ""
        tag = f"‹{self.tag}›" if self.tag else ""
        return " ".join(part for part in (verb, self.name, times, tag, "❄" if self.frozen else "") if part)

    @property
    def remarks(self) -> list[str]:
        """The module that it reuses, what it runs over, and what its parameters are besides its own."""
        return [*([f"the module of {self.reuses}"] if self.reuses else []), *self.notes, *self.relations]

    def walk(self) -> Iterator[Member]:
        """This member and all inside of it, the outer ones first."""
        yield self
        for member in self.inside.members if self.inside is not None else ():
            yield from member.walk()
