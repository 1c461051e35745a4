"""The Plan: an immutable, ordered description of a graph, made by `resolve` and read by everything after it.

Every name is resolved and every number known here, but nothing is built: no torch below this line of the
road. A path is local to the graph that holds it; joining paths down the tree gives the names that users see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import ClassVar, TypeVar

from flowconf.language.arguments import Call, Literal
from flowconf.report import NOWHERE, Diagnostic, Place, nearest


@dataclass(frozen=True, slots=True)
class Instance:
    """A module object that a Python document holds where a call may stand."""

    module: object
    place: Place = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return f"<{type(self.module).__name__}>"


@dataclass(frozen=True, slots=True)
class Shared:
    """A module that stands elsewhere too: `path` is where in this graph, `module` what it is.

    `home` is the path without the numbers of repeated steps' copies, which are all made alike.
    """

    path: str
    module: Call | Chain | Mount | Instance
    place: Place = field(default=NOWHERE, compare=False)
    home: str = ""

    def __str__(self) -> str:
        return f"reuse {self.path}"


@dataclass(frozen=True, slots=True)
class Record:
    """The names that a value of several parts holds: a dict's keys, or the attributes of a NamedTuple (`named`)."""

    names: tuple[str, ...]
    named: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """Something that a forward pass holds: an input or step of this graph, or a value on the way to a step's.

    `member` is the local name. `spot` is the path, below the step's, of a module whose output is meant: a branch, a
    member of a chain, a router; empty for the step itself. `copy` is one of a repeated step's copies (None: the last).
    `inner` goes into the graph that stands there, `key` picks one of several values, and `index` one iteration of a
    loop or map (None: the last, or all slices). `recurrent`: the value of the previous call.
    `sliced`: one slice of it for each turn of the loop that reads it.
    """

    member: str
    spot: str = ""
    key: str | None = None
    inner: Value | None = None
    copy: int | None = None
    index: int | None = None
    recurrent: bool = False
    sliced: bool = False
    place: Place = field(default=NOWHERE, compare=False)

    @property
    def name(self) -> str:
        """The last name of the reference, which is the argument it fills unless another is given."""
        return self.inner.name if self.inner else self.key or self.spot.rpartition(".")[2] or self.member

    @property
    def is_part(self) -> bool:
        """Whether it is something on the way to the step's value, and not that value."""
        return bool(self.spot) or self.key is not None or self.inner is not None

    @property
    def innermost_index(self) -> int | None:
        """The index, at whatever depth it stands."""
        return self.index if self.inner is None or self.index is not None else self.inner.innermost_index

    @property
    def now(self) -> Value:
        """The whole of the same value, of the call that is running."""
        return replace(self, recurrent=False, sliced=False) if self.recurrent or self.sliced else self

    def __str__(self) -> str:
        copy = None if self.copy is None else str(self.copy)
        last = None if self.inner is None else str(self.inner)
        text = ".".join(name for name in (self.member, copy, self.spot, self.key, last) if name)
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
        """The path at which the module itself stands, for all copies of a repeated step."""
        return self.module.home if isinstance(self.module, Shared) else self.path


@dataclass(frozen=True)
class Step:
    """One member of a flow: what steps of every verb say, and the facts that each verb declares.

    `parts` holds the body under `body`, or the branches under their names. What only one verb says stands in its own
    class below: a module beside the body or branches is a field of type `Applied`, under the name that it has below the
    step's path, a number is one of type `Literal`, a reference one of type `Value`.
    """

    verb: ClassVar[str] = ""
    carries_stream: ClassVar[bool] = True
    """Whether its value is the stream of the next step."""
    joins: ClassVar[str] = ""
    """The sign by which what its body gives is joined with the stream; empty where its value is what its body gives."""
    weighs: ClassVar[bool] = False
    """Whether its value is a sum of what its branches give, weighed by its router."""
    chooses: ClassVar[bool] = False
    """Whether its router chooses the branch that runs, for each row."""
    feeds_back: ClassVar[bool] = False
    """Whether its body runs several times, each time on what it gave before; its value is what it gives last."""
    collects: ClassVar[bool] = False
    """Whether its body runs on each slice of the stream; its value is put together of all that it gives."""
    evident: ClassVar[bool] = False
    """Whether its picture says what it does without the verb."""

    name: str
    path: str
    stream: Value
    parts: tuple[tuple[str, Applied], ...] = ()
    record: Record | None = None
    """What the body's value is known to hold."""
    stream_record: Record | None = None
    """What the stream is known to hold."""
    tag: str | None = None
    take: int | str | None = None
    repeat: Literal | None = None
    place: Place = field(default=NOWHERE, compare=False)
    body_place: Place = field(default=NOWHERE, compare=False)
    places: tuple[tuple[str, Place], ...] = field(default=(), compare=False)

    @property
    def iterates(self) -> bool:
        """Whether the body runs once for each of several iterations or slices."""
        return self.feeds_back or self.collects

    @property
    def limit(self) -> Literal | None:
        """How often the body runs, or runs at most, as far as the document says."""
        return None

    @property
    def along(self) -> int | None:
        """The dimension of the slices that the step goes over."""
        return None

    @property
    def decision(self) -> str | None:
        """The function of generated source by which values decide what runs, None where they do not."""
        return None

    @property
    def merged(self) -> str | None:
        """The word for how the branches' values become one, where that is no module."""
        return None

    @property
    def body(self) -> Applied:
        return self.parts[0][1]

    @property
    def reader(self) -> Applied:
        """The module that takes what `using` brings; where all branches do, the first."""
        return self.body

    @property
    def takes_each(self) -> bool:
        """Whether `take` picks from what the body gives each time, rather than from what the step gives at the end.

        A loop or map over a graph with several outputs gives them all at the end.
        """
        body = self.body.target
        gathers = self.iterates and isinstance(body, Mount) and body.graph.fields is not None
        return self.take is not None and (bool(self.joins) or self.iterates) and not gathers

    def place_of(self, key: str) -> Place:
        """Where the value of a key of the step is written; the step itself when the document does not say it."""
        return dict(self.places).get(key, self.place)

    # what its verb adds

    @cached_property
    def own(self) -> dict[str, object]:
        """What only steps of this verb say."""
        return {one.name: getattr(self, one.name) for one in fields(self)[len(fields(Step)) :]}

    @property
    def modules_beside(self) -> dict[str, Applied]:
        """The modules below the step's path beside its body or branches, by the last name: a skip, a router."""
        return {name: value for name, value in self.own.items() if isinstance(value, Applied)}

    @property
    def counts(self) -> dict[str, Literal]:
        """The numbers that the step's statements need, by key."""
        return {name: value for name, value in self.own.items() if isinstance(value, Literal)}

    # all of its modules and values

    @property
    def extras(self) -> list[Applied]:
        """The modules that stand below the path of a step with a single body beside that."""
        return list(self.modules_beside.values()) if len(self.parts) == 1 else []

    def beside(self) -> dict[str, Applied]:
        """The modules below the step's path, by the last name: branches or experts, and those of the other keys."""
        return (dict(self.parts) if len(self.parts) > 1 else {}) | self.modules_beside

    @cached_property
    def spots(self) -> dict[str, Applied]:
        """Every module of the step by its path below the step's own: the body under "", members of chains as well."""
        found: dict[str, Applied] = {}
        body = {"": self.body} if len(self.parts) == 1 else {}
        for name, applied in (body | self.beside()).items():
            found[name] = applied
            if isinstance(applied.target, Chain):
                found |= {join(name, str(i)): member for i, member in enumerate(applied.target.members)}
        return found

    def applied(self) -> Iterator[Applied]:
        """Every module of the step, in the order in which they are built."""
        yield from dict(self.parts).values()
        yield from self.modules_beside.values()

    def reads(self) -> Iterator[Value]:
        """Every value that the step needs, the stream first."""
        yield self.stream
        for applied in self.applied():
            yield from _using(applied)

    def slices_of(self) -> list[Value]:
        """What the step goes over, a slice in each iteration."""
        return list(dict.fromkeys(value for value in _using(self.body) if value.sliced))


@dataclass(frozen=True, kw_only=True)
class ThroughStep(Step):
    """The stream goes through a module."""

    verb: ClassVar[str] = "through"
    evident: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class AlsoStep(Step):
    """What a module makes of the stream is added to it, or to what `skip` makes of it."""

    verb: ClassVar[str] = "also"
    joins: ClassVar[str] = "+"
    evident: ClassVar[bool] = True
    skip: Applied | None = None


@dataclass(frozen=True, kw_only=True)
class ForkStep(Step):
    """A module reads the stream, which goes on unchanged."""

    verb: ClassVar[str] = "fork"
    carries_stream: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class SplitStep(Step):
    """All branches read the stream, and what they give is merged."""

    verb: ClassVar[str] = "split"
    merge: str | Applied
    dim: int = 1

    @property
    def merged(self) -> str | None:
        return self.merge if isinstance(self.merge, str) else None


@dataclass(frozen=True, kw_only=True)
class RoutedStep(Step):
    """A router says what is done with the branches."""

    router: Applied

    @property
    def reader(self) -> Applied:
        return self.router


@dataclass(frozen=True, kw_only=True)
class GateStep(RoutedStep):
    """All experts run; a router weighs what they give."""

    verb: ClassVar[str] = "gate"
    weighs: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class SwitchStep(RoutedStep):
    """A router chooses the branch that runs."""

    verb: ClassVar[str] = "switch"
    chooses: ClassVar[bool] = True

    @property
    def decision(self) -> str | None:
        return "route"


@dataclass(frozen=True, kw_only=True)
class LoopStep(Step):
    """A module is applied again and again: so many `times`, or once for each slice along `dim` of what it goes over.

    With a `condition`, which is tested before the body ("while") or after it ("until"), at most so many times.
    """

    verb: ClassVar[str] = "loop"
    feeds_back: ClassVar[bool] = True
    times: Literal | None = None
    condition: Applied | None = None
    halt: str | None = None
    dim: int | None = None

    @property
    def limit(self) -> Literal | None:
        return self.times

    @property
    def along(self) -> int | None:
        return self.dim

    @property
    def decision(self) -> str | None:
        return None if self.condition is None else "halts"


@dataclass(frozen=True, kw_only=True)
class MapStep(Step):
    """A module is applied to each slice along `dim` of the stream, or to each of so many equal `slices` of its rows.

    `over` is what the document calls the stream under that key. `batched`: all slices in one call.
    """

    verb: ClassVar[str] = "map"
    collects: ClassVar[bool] = True
    over: Value | None = None
    dim: int = 1
    batched: bool = False
    slices: Literal | None = None

    @property
    def limit(self) -> Literal | None:
        return self.slices

    @property
    def along(self) -> int | None:
        return self.dim


@dataclass(frozen=True, kw_only=True)
class GraphStep(Step):
    """A graph stands here."""

    verb: ClassVar[str] = "graph"
    evident: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class ReuseStep(Step):
    """An earlier module once more, with the same weights."""

    verb: ClassVar[str] = "reuse"


StepT = TypeVar("StepT", bound=Step)


def with_verb(step: Step, kind: type[StepT], **own: object) -> StepT:
    """A step of a verb with what `step` says, and what only that verb does."""
    return kind(**{one.name: getattr(step, one.name) for one in fields(Step)} | own)


def with_values(step: Step, change: Callable[[Value], Value]) -> Step:
    """The step with `change` on every value that it reads."""

    def applied(one: Applied) -> Applied:
        using = tuple((name, change(value)) for name, value in one.using)
        module = one.module
        if isinstance(module, Chain):
            module = Chain(tuple(applied(member) for member in module.members))
        elif isinstance(module, Shared) and isinstance(module.module, Chain):
            module = replace(module, module=Chain(tuple(applied(member) for member in module.module.members)))
        return replace(one, module=module, using=using)

    own = {name: applied(module) for name, module in step.modules_beside.items()}
    read = {name: change(value) for name, value in step.own.items() if isinstance(value, Value)}
    parts = tuple((name, applied(part)) for name, part in step.parts)
    return replace(step, stream=change(step.stream), parts=parts, **own, **read)  # type: ignore[arg-type]


def _using(applied: Applied) -> Iterator[Value]:
    for _, value in applied.using:
        yield value
    if isinstance(applied.target, Chain):
        for member in applied.target.members:
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
    places: tuple[tuple[str, Place], ...] = field(default=(), compare=False)
    """Where `at`, `sha256` and each old prefix of `rename` (as `rename.OLD`) are written."""


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
    output_places: tuple[tuple[str, Place], ...] = field(default=(), compare=False)
    """Where the names of the outputs are written."""
    document: object = field(default=None, compare=False)
    place: Place = field(default=NOWHERE, compare=False)
    warnings: tuple[Diagnostic, ...] = field(default=(), compare=False)
    """What is probably not meant, for the outermost graph."""

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The names of a graph's outputs when it yields a dict, None when it yields one value."""
        return tuple(name for name, _ in self.outputs) if len(self.outputs) > 1 else None

    def misnamed(self, wanted: str, taken: Collection[str]) -> Place | None:
        """Where an output is named that was probably to be called `wanted`: it is none of those that are `taken`."""
        free = {name: place for name, place in self.output_places if name not in taken}
        return free.get(nearest(wanted, free) or "") or (next(iter(free.values())) if len(free) == 1 else None)

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
            if step.decision is not None:
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
