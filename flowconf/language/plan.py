"""The Plan: an immutable, ordered description of a graph, made by `resolve` and read by everything after it.

Every name is resolved and every number known here, but nothing is built: no torch below this line of the
road. A path is local to the graph that holds it; joining paths down the tree gives the names that users see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from flowconf.diagnostics import NOWHERE, Place

Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in a call: what it is, and how it was written in terms of the document's parameters."""

    value: Scalar | tuple[object, ...]
    text: str
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Hole:
    """`_`: an input size that the arriving shape fills in."""

    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list in a call that holds more than plain values."""

    items: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A module to construct: a registered name with its arguments."""

    name: str
    args: tuple[Argument, ...] = ()
    kwargs: tuple[tuple[str, Argument], ...] = ()
    place: Place = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        shown = [show(argument) for argument in self.args]
        shown += [f"{name}={show(argument)}" for name, argument in self.kwargs]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


Argument = Literal | Hole | Call | Sequence


def show(argument: Argument) -> str:
    """An argument as it would be written in a document."""
    match argument:
        case Literal(text=text):
            return text
        case Hole():
            return "_"
        case Sequence(items):
            return f"[{', '.join(show(item) for item in items)}]"
        case Call():
            return str(argument)


@dataclass(frozen=True, slots=True)
class Instance:
    """A module object that a Python document holds where a call may stand."""

    module: object
    place: Place = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return f"<{type(self.module).__name__}>"


@dataclass(frozen=True, slots=True)
class Shared:
    """A module that stands elsewhere too: `path` is where in this graph, `module` what it is."""

    path: str
    module: Call | Chain | Mount | Instance
    place: Place = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return f"reuse {self.path}"


@dataclass(frozen=True, slots=True)
class Value:
    """Something that a forward pass holds: an input or step of this graph, or a value inside one of its graphs.

    `member` is the local name. `entry` picks one of several outputs or a branch, `inner` goes into the graph that
    the step mounts, and `index` picks one iteration (None: the last). `recurrent`: the value of the previous call.
    `sliced`: one slice of it for each turn of the loop that reads it.
    """

    member: str
    entry: str | None = None
    inner: Value | None = None
    index: int | None = None
    recurrent: bool = False
    sliced: bool = False
    place: Place = field(default=NOWHERE, compare=False)

    @property
    def name(self) -> str:
        """The last name of the reference, which is the argument it fills unless another is given."""
        return self.inner.name if self.inner else self.entry or self.member

    def __str__(self) -> str:
        text = self.member
        if self.inner:
            text += f".{self.inner}"
        elif self.entry:
            text += f".{self.entry}"
        return text if self.index is None else f"{text}[{self.index}]"


@dataclass(frozen=True, slots=True)
class Mount:
    """A graph that stands inside another: its plan, its parameters, and the modules that it shares with its parent."""

    graph: GraphPlan
    params: tuple[tuple[str, Literal], ...] = ()
    shares: tuple[tuple[str, str], ...] = ()
    place: Place = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return self.graph.source_name or self.graph.label


@dataclass(frozen=True, slots=True)
class Chain:
    """`A >> B`: the members one after the other."""

    members: tuple[Applied, ...]

    def __str__(self) -> str:
        return " >> ".join(str(member.module) for member in self.members)


Module = Call | Chain | Mount | Shared | Instance


@dataclass(frozen=True, slots=True)
class Applied:
    """A module at a path of this graph and the keyword arguments that its call takes besides the stream."""

    path: str
    module: Module
    using: tuple[tuple[str, Value], ...] = ()

    @property
    def target(self) -> Call | Chain | Mount | Instance:
        """The module itself, also where it is one that stands elsewhere."""
        return self.module.module if isinstance(self.module, Shared) else self.module

    @property
    def home(self) -> str:
        """The path at which the module itself stands."""
        return self.module.path if isinstance(self.module, Shared) else self.path


@dataclass(frozen=True, slots=True)
class Step:
    """One member of a flow. `parts` holds the body under `body`, or the branches under their names."""

    name: str
    path: str
    verb: str
    stream: Value
    parts: tuple[tuple[str, Applied], ...]
    fields: tuple[str, ...] | None = None
    stream_fields: tuple[str, ...] | None = None
    tag: str | None = None
    take: int | str | None = None
    repeat: Literal | None = None
    skip: Applied | None = None
    router: Applied | None = None
    condition: Applied | None = None
    halt: str | None = None
    times: Literal | None = None
    merge: str | Applied | None = None
    dim: int | None = None
    over: Value | None = None
    batched: bool = False
    slices: Literal | None = None
    place: Place = field(default=NOWHERE, compare=False)
    body_place: Place = field(default=NOWHERE, compare=False)
    places: tuple[tuple[str, Place], ...] = field(default=(), compare=False)

    @property
    def body(self) -> Applied:
        return self.parts[0][1]

    def place_of(self, key: str) -> Place:
        """Where the value of a key of the step is written; the step itself when the document does not say it."""
        return dict(self.places).get(key, self.place)

    def slices_of(self) -> list[Value]:
        """What a loop goes over, a slice in each turn."""
        return list(dict.fromkeys(value for value in _using(self.body) if value.sliced))

    @property
    def iterates(self) -> bool:
        """Whether the body runs once for each of several iterations, slices or copies."""
        return self.verb in ("loop", "map") or self.repeat is not None

    @property
    def extras(self) -> list[Applied]:
        """The modules that stand below the step's path beside its body: a skip, a condition."""
        return [extra for extra in (self.skip, self.condition) if extra is not None]

    def beside(self) -> dict[str, Applied]:
        """The modules below the step's path, by the last name: branches or experts, and those of the other keys."""
        branches = dict(self.parts) if len(self.parts) > 1 else {}
        merge = self.merge if isinstance(self.merge, Applied) else None
        others = {"skip": self.skip, "router": self.router, "condition": self.condition, "merge": merge}
        return branches | {name: applied for name, applied in others.items() if applied is not None}

    @property
    def takes_each(self) -> bool:
        """Whether `take` picks from what the body gives each time, rather than from what the step gives at the end.

        A loop or map over a graph with several outputs gives them all at the end.
        """
        body = self.body.target
        carries = self.verb in ("loop", "map") and isinstance(body, Mount) and body.graph.fields is not None
        return self.take is not None and self.verb in ("also", "loop", "map") and not carries

    def applied(self) -> Iterator[Applied]:
        """Every module of the step, in the order in which they are built."""
        for _, part in self.parts:
            yield part
        for extra in (self.skip, self.router, self.condition):
            if extra is not None:
                yield extra
        if isinstance(self.merge, Applied):
            yield self.merge

    def reads(self) -> Iterator[Value]:
        """Every value that the step needs, the stream first."""
        yield self.over if self.over is not None else self.stream
        for applied in self.applied():
            yield from _using(applied)


def _using(applied: Applied) -> Iterator[Value]:
    for _, value in applied.using:
        yield value
    if isinstance(applied.module, Chain):
        for member in applied.module.members:
            yield from _using(member)


@dataclass(frozen=True, slots=True)
class Input:
    """A named input; `shape` holds sizes as numbers and symbols (`B`) as text, or None when nothing is said."""

    name: str
    shape: tuple[int | str, ...] | None = None
    dtype: str = "float32"
    captured: bool = False
    place: Place = field(default=NOWHERE, compare=False)
    places: tuple[Place, ...] = field(default=(), compare=False)
    """Where each size is written."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the weights of a subgraph come from; exactly one of `path` and `config` is given."""

    path: str | None = None
    config: str | None = None
    at: str | None = None
    rename: tuple[tuple[str, str], ...] = ()
    missing: str = "error"
    unused: str = "warn"
    sha256: str | None = None
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Start:
    """How one parameter starts: a call from `torch.nn.init`, a number, a list, or a scale of what was drawn."""

    parameter: str
    how: Call | Literal
    scale: float | None = None
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a document says about the modules at a path. `frozen` is "all", "params" or "no"."""

    path: str
    frozen: str | None = None
    checkpoint: Checkpoint | None = None
    init: tuple[Start, ...] = ()
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True)
class GraphPlan:
    """One graph document, resolved."""

    label: str
    params: tuple[tuple[str, Literal], ...]
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[tuple[str, Value], ...]
    settings: tuple[Setting, ...] = ()
    shares: tuple[str, ...] = ()
    source_name: str | None = None
    inline: bool = False
    document: object = field(default=None, compare=False)
    place: Place = field(default=NOWHERE, compare=False)

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The names of a graph's outputs when it yields a dict, None when it yields one value."""
        return tuple(name for name, _ in self.outputs) if len(self.outputs) > 1 else None

    def step(self, name: str) -> Step | None:
        """The step called or tagged `name`, or mounted under that label."""
        return self._named.get(name)

    @cached_property
    def _named(self) -> dict[str, Step]:
        found: dict[str, Step] = {}
        for step in self.steps:
            for name in (step.name, step.path, step.tag):
                if name is not None:
                    found.setdefault(name, step)
        return found

    def step_at(self, path: str) -> Step | None:
        """The innermost step at or above a path."""
        step = self.step(path.partition(".")[0])
        for applied in step.applied() if step is not None else ():
            if isinstance(applied.module, Mount) and path.startswith(f"{applied.path}."):
                return applied.module.graph.step_at(path[len(applied.path) + 1 :]) or step
        return step

    def input(self, name: str) -> Input | None:
        return next((given for given in self.inputs if given.name == name), None)

    def deciding(self, prefix: str = "") -> Iterator[tuple[str, Step]]:
        """The steps of the tree that run different modules for different values, with their full paths."""
        for step in self.steps:
            if step.verb == "switch" or step.condition is not None:
                yield join(prefix, step.path), step
        for path, mount in self.mounts():
            yield from mount.graph.deciding(join(prefix, path))

    def mounts(self) -> Iterator[tuple[str, Mount]]:
        """Every graph that stands directly below, with its path."""
        for step in self.steps:
            for applied in step.applied():
                if isinstance(applied.module, Mount):
                    yield applied.path, applied.module

    def all_settings(self, prefix: str = "") -> Iterator[tuple[str, Setting]]:
        """Every setting of the tree with its full path, outer ones first."""
        for setting in self.settings:
            yield join(prefix, setting.path), setting
        for path, mount in self.mounts():
            yield from mount.graph.all_settings(join(prefix, path))


def join(*parts: str) -> str:
    """Paths joined by dots; empty parts say nothing."""
    return ".".join(part for part in parts if part)
