"""The Plan: an immutable, ordered description of a graph, made by `resolve` and read by everything after it.

All names are resolved and all numbers are known, but nothing is built, and torch is not imported. Paths are local to
their graph; joined down the tree they are the paths that users see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from flowconf.language.arguments import Call, Literal
from flowconf.language.paths import above, join
from flowconf.language.settings import Adapter, Follow, Setting, Tie
from flowconf.language.signatures import names_in
from flowconf.report import NOWHERE, Diagnostic, Place


@dataclass(frozen=True, slots=True)
class Instance:
    """A module object in a Python document, instead of a call."""

    module: object
    place: Place = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return f"<{type(self.module).__name__}>"


@dataclass(frozen=True, slots=True)
class Shared:
    """A reused module: `path` is its path in this graph.

    `home` is the path without the indices of repeated copies, which are all constructed alike.
    """

    path: str
    module: Call | Chain | Mount | Instance
    place: Place = field(default=NOWHERE, compare=False)
    home: str = ""

    def __str__(self) -> str:
        return f"reuse {self.path}"


@dataclass(frozen=True, slots=True)
class Record:
    """The names of the parts of a value: the keys of a dict, or the fields of a NamedTuple (`named`)."""

    names: tuple[str, ...]
    named: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a forward pass: an input or step of this graph, or an intermediate value of a step.

    `member` is the local name. `spot` is the path, relative to the step, of the module that returns the value: a
    branch, a member of a chain, a router; empty for the step itself. `copy` is the copy of a repeated step (None: the
    last). `inner` is a value in the nested graph at the spot, `key` selects one of several values, and `index` one
    iteration of a loop or map (None: the last, or all slices). `recurrent`: the value of the previous call.
    `sliced`: one slice in each iteration of the loop that reads it.
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
        """The last name of the reference, which is the default argument that it fills."""
        return self.inner.name if self.inner else self.key or self.spot.rpartition(".")[2] or self.member

    @property
    def is_part(self) -> bool:
        """Whether it is an intermediate value or a part of a step, not its value."""
        return bool(self.spot) or self.key is not None or self.inner is not None

    @property
    def now(self) -> Value:
        """The whole value in the current call."""
        return replace(self, recurrent=False, sliced=False) if self.recurrent or self.sliced else self

    def __str__(self) -> str:
        copy = None if self.copy is None else str(self.copy)
        last = None if self.inner is None else str(self.inner)
        text = ".".join(name for name in (self.member, copy, self.spot, self.key, last) if name)
        return text if self.index is None else f"{text}[{self.index}]"


@dataclass(frozen=True, slots=True)
class Mount:
    """A nested graph: its plan, its parameters, and the modules that it shares with its parent."""

    graph: GraphPlan
    params: tuple[tuple[str, Literal], ...] = ()
    shares: tuple[tuple[str, str], ...] = ()
    place: Place = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return self.graph.source_name or self.graph.label


@dataclass(frozen=True, slots=True)
class Chain:
    """`A >> B`: the members in sequence."""

    members: tuple[Applied, ...]

    def __str__(self) -> str:
        return " >> ".join(str(member.module) for member in self.members)


Module = Call | Chain | Mount | Shared | Instance


@dataclass(frozen=True, slots=True)
class Applied:
    """A module at a path of this graph, and its arguments besides the stream."""

    path: str
    module: Module
    using: tuple[tuple[str, Value], ...] = ()

    @property
    def target(self) -> Call | Chain | Mount | Instance:
        """The module itself, also for a reused one."""
        return self.module.module if isinstance(self.module, Shared) else self.module

    @property
    def home(self) -> str:
        """The path of the definition of the module, without the indices of repeated copies."""
        return self.module.home if isinstance(self.module, Shared) else self.path


@dataclass(frozen=True)
class Step:
    """One step of a flow: the fields common to all verbs, and the properties that each verb declares.

    `parts` has the body under `body`, or the branches under their names. Fields of a single verb are in its class
    below: a module beside the body or branches is an `Applied`, with its name below the path of the step, a number is
    a `Literal`, and a reference a `Value`.
    """

    verb: ClassVar[str] = ""
    carries_stream: ClassVar[bool] = True
    """Whether its value is the stream of the next step."""
    joins: ClassVar[str] = ""
    """The operator that combines the output of the body with the stream; empty if the value is that output."""
    weighs: ClassVar[bool] = False
    """Whether its value is the sum of its branches, weighted by the router."""
    chooses: ClassVar[bool] = False
    """Whether its router selects the branch that runs, for each row."""
    feeds_back: ClassVar[bool] = False
    """Whether its body runs several times on its own output; its value is the last output."""
    collects: ClassVar[bool] = False
    """Whether its body runs on each slice of the stream; its value combines all outputs."""

    name: str
    path: str
    stream: Value
    parts: tuple[tuple[str, Applied], ...] = ()
    record: Record | None = None
    """The names in the output of the body, if known."""
    stream_record: Record | None = None
    """The names in the stream, if known."""
    tag: str | None = None
    take: int | str | None = None
    repeat: Literal | None = None
    index: str | None = None
    """The parameter that has the number of each copy of a repeated step."""
    copies: tuple[Step, ...] = ()
    """With an `index`, every copy at its path (`block.0`), with the values of its number; this step is the first."""
    place: Place = field(default=NOWHERE, compare=False)
    body_place: Place = field(default=NOWHERE, compare=False)
    places: tuple[tuple[str, Place], ...] = field(default=(), compare=False)

    @property
    def names(self) -> list[str]:
        """Its name, its tag and its label, by which references can begin."""
        return [name for name in (self.name, self.tag, self.path) if name]

    @property
    def iterates(self) -> bool:
        """Whether the body runs once for each of several iterations or slices."""
        return self.feeds_back or self.collects

    @property
    def copy_count(self) -> int:
        """The number of copies in series, 1 for a step that is not repeated."""
        count = 1 if self.repeat is None else self.repeat.value
        assert isinstance(count, int)
        return count

    @property
    def limit(self) -> Literal | None:
        """The number of iterations, or the maximum, if the document declares it."""
        return None

    @property
    def along(self) -> int | None:
        """The dimension of the slices that the step iterates over."""
        return None

    @property
    def decision(self) -> str | None:
        """The function in generated source that decides at run time what runs, or None."""
        return None

    @property
    def merged(self) -> str | None:
        """The name of the merge of the branches, if it is not a module."""
        return None

    @property
    def body(self) -> Applied:
        return self.parts[0][1]

    @property
    def reader(self) -> Applied:
        """The module that receives the arguments of `using`; the first branch, if all do."""
        return self.body

    @property
    def takes_each(self) -> bool:
        """Whether `take` selects from every output of the body, rather than from the final value of the step.

        A loop or map over a graph with several outputs returns all of them at the end.
        """
        body = self.body.target
        gathers = self.iterates and isinstance(body, Mount) and body.graph.fields is not None
        return self.take is not None and (bool(self.joins) or self.iterates) and not gathers

    def copy(self, number: int | None) -> Step:
        """One copy of a repeated step; without an index, all are alike."""
        return self if number is None or not self.copies else self.copies[number]

    def by_index(self, literal: Literal | None) -> bool:
        """Whether a number of the step differs between its copies."""
        return literal is not None and self.index in names_in(literal.text)

    def place_of(self, key: str) -> Place:
        """The place of the value of a key of the step, or of the step if the key is not written."""
        return dict(self.places).get(key, self.place)

    # fields of the verb

    @cached_property
    def own(self) -> dict[str, object]:
        """The fields of this verb."""
        return {one.name: getattr(self, one.name) for one in fields(self)[len(_COMMON) :]}

    @cached_property
    def modules_beside(self) -> dict[str, Applied]:
        """Modules besides the body or branches, by name: a skip, a router."""
        return {name: value for name, value in self.own.items() if isinstance(value, Applied)}

    @property
    def counts(self) -> dict[str, Literal]:
        """The numbers in the statements of the step, by key."""
        return {name: value for name, value in self.own.items() if isinstance(value, Literal)}

    # all modules and values

    @property
    def extras(self) -> list[Applied]:
        """The modules besides the body of a step with a single body."""
        return list(self.modules_beside.values()) if len(self.parts) == 1 else []

    def beside(self) -> dict[str, Applied]:
        """The modules below the path of the step, by name: branches or experts, and those of other keys."""
        return (dict(self.parts) if len(self.parts) > 1 else {}) | self.modules_beside

    @cached_property
    def spots(self) -> dict[str, Applied]:
        """All modules of the step by relative path, including members of chains; the body is ""."""
        found: dict[str, Applied] = {}
        body = {"": self.body} if len(self.parts) == 1 else {}
        for name, applied in (body | self.beside()).items():
            found[name] = applied
            if isinstance(applied.target, Chain):
                found |= {join(name, str(i)): member for i, member in enumerate(applied.target.members)}
        return found

    def applied(self) -> Iterator[Applied]:
        """All modules of the step, in the order in which they are built."""
        yield from (applied for _, applied in self.parts)
        yield from self.modules_beside.values()

    @cached_property
    def reads(self) -> tuple[Value, ...]:
        """All values that the step reads, the stream first."""
        return self.stream, *(value for applied in self.applied() for _, value in using(applied))

    def with_modules(self, change: Callable[[Applied], Applied]) -> Step:
        """The same step with other modules, in all of its copies."""
        parts = tuple((name, change(part)) for name, part in self.parts)
        beside: dict[str, Any] = {name: change(part) for name, part in self.modules_beside.items()}
        return replace(self, parts=parts, copies=tuple(copy.with_modules(change) for copy in self.copies), **beside)

    def slices_of(self) -> list[Value]:
        """The values that the step iterates over by slice."""
        return list(dict.fromkeys(value for _, value in using(self.body) if value.sliced))


@dataclass(frozen=True, kw_only=True)
class ThroughStep(Step):
    """Applies a module to the stream."""

    verb: ClassVar[str] = "through"


@dataclass(frozen=True, kw_only=True)
class AlsoStep(Step):
    """Adds the output of a module to the stream, or to the output of `skip`."""

    verb: ClassVar[str] = "also"
    joins: ClassVar[str] = "+"
    skip: Applied | None = None


@dataclass(frozen=True, kw_only=True)
class ForkStep(Step):
    """Applies a module without changing the stream."""

    verb: ClassVar[str] = "fork"
    carries_stream: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class SplitStep(Step):
    """Applies all branches to the stream, and merges their outputs."""

    verb: ClassVar[str] = "split"
    merge: str | Applied
    dim: int = 1

    @property
    def merged(self) -> str | None:
        return self.merge if isinstance(self.merge, str) else None


@dataclass(frozen=True, kw_only=True)
class RoutedStep(Step):
    """A step with branches and a router."""

    router: Applied

    @property
    def reader(self) -> Applied:
        return self.router


@dataclass(frozen=True, kw_only=True)
class GateStep(RoutedStep):
    """Runs all experts, or the `top` ones of each row; a router weights their outputs."""

    verb: ClassVar[str] = "gate"
    weighs: ClassVar[bool] = True
    top: Literal | None = None

    @property
    def decision(self) -> str | None:
        return None if self.top is None else "top_experts"


@dataclass(frozen=True, kw_only=True)
class SwitchStep(RoutedStep):
    """Runs the branch that a router selects."""

    verb: ClassVar[str] = "switch"
    chooses: ClassVar[bool] = True

    @property
    def decision(self) -> str | None:
        return "route"


@dataclass(frozen=True, kw_only=True)
class LoopStep(Step):
    """Applies a module repeatedly: a number of `times`, or once for each slice along `dim` of the `over` values.

    With a `condition`, tested before the body ("while") or after it ("until"), `times` is the maximum.
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
    """Applies a module to each slice along `dim` of the stream, or to a number of equal `slices` of its rows.

    `over` is the stream as written in the document. `batched`: all slices in one call.
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
    """Mounts a graph."""

    verb: ClassVar[str] = "graph"


@dataclass(frozen=True, kw_only=True)
class ReuseStep(Step):
    """Applies an earlier module again, with the same weights."""

    verb: ClassVar[str] = "reuse"


def names_of(steps: Iterable[Step]) -> list[str]:
    """The names, tags and labels of some steps."""
    return list(dict.fromkeys(name for step in steps for name in step.names))


StepT = TypeVar("StepT", bound=Step)


def with_verb(step: Step, kind: type[StepT], **own: object) -> StepT:
    """A step of a verb with the fields of `step`, and those of the verb."""
    return kind(**{name: getattr(step, name) for name in _COMMON} | own)


_COMMON = tuple(one.name for one in fields(Step))


def using(applied: Applied) -> Iterator[tuple[str, Value]]:
    """The arguments of a module, and of the members of a chain, besides the stream."""
    yield from applied.using
    for member in applied.target.members if isinstance(applied.target, Chain) else ():
        yield from using(member)


@dataclass(frozen=True, slots=True)
class Input:
    """A named input; `shape` has integers and symbols (`B`), or is None if it is not declared."""

    name: str
    shape: tuple[int | str, ...] | None = None
    dtype: str = "float32"
    captured: bool = False
    place: Place = field(default=NOWHERE, compare=False)
    places: tuple[Place, ...] = field(default=(), compare=False)
    """The place of each size."""

    @property
    def declared(self) -> str:
        """Its shape as text, such as `[B, 128]`; empty if it is not declared."""
        return "" if self.shape is None else f"[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class GraphPlan:
    """A resolved graph document."""

    label: str
    params: tuple[tuple[str, Literal], ...]
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[tuple[str, Value], ...]
    settings: tuple[Setting, ...] = ()
    ties: tuple[Tie, ...] = ()
    follows: tuple[Follow, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    shares: tuple[str, ...] = ()
    source_name: str | None = None
    inline: bool = False
    output_places: tuple[tuple[str, Place], ...] = field(default=(), compare=False)
    """The places of the names of the outputs."""
    document: object = field(default=None, compare=False)
    place: Place = field(default=NOWHERE, compare=False)
    warnings: tuple[Diagnostic, ...] = field(default=(), compare=False)
    """Warnings, for the outermost graph."""

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The names of the outputs of a graph that returns a dict, None for a single output."""
        return tuple(name for name, _ in self.outputs) if len(self.outputs) > 1 else None

    def step(self, name: str) -> Step | None:
        """The step with the name, tag or label `name`."""
        return self._named.get(name)

    @cached_property
    def _named(self) -> dict[str, Step]:
        return {name: step for step in reversed(self.steps) for name in step.names}  # the first step of a name

    def step_at(self, path: str) -> Step | None:
        """The innermost step at or above a path."""
        step, inner = self.step(path.partition(".")[0]), self.mount_above(path)
        return step if inner is None else inner[1].step_at(path[len(inner[0]) + 1 :]) or step

    def mount_above(self, path: str) -> tuple[str, GraphPlan] | None:
        """The directly nested graph that contains what is at a path, with its own path."""
        at = next((at for at in above(path) if at != path and at in self._mounted), None)
        return None if at is None else (at, self._mounted[at])

    @cached_property
    def _mounted(self) -> dict[str, GraphPlan]:
        return dict(self.nested) | {path: mount.graph for path, mount in self.mounts()}

    def input(self, name: str) -> Input | None:
        return next((given for given in self.inputs if given.name == name), None)

    def names(self) -> list[str]:
        """The names that a reference can begin with, in declared order."""
        return list(dict.fromkeys([*(given.name for given in self.inputs), *names_of(self.steps)]))

    def deciding(self, prefix: str = "") -> Iterator[tuple[str, Step]]:
        """The steps of the tree that decide at run time what runs, with their full paths."""
        for step in self.steps:
            if step.decision is not None:
                yield join(prefix, step.path), step
        for path, mount in self.mounts():
            yield from mount.graph.deciding(join(prefix, path))

    def mounts(self) -> Iterator[tuple[str, Mount]]:
        """All directly nested graphs, with their paths."""
        applied = (one for step in self.steps for one in step.applied())
        return ((one.path, one.module) for one in applied if isinstance(one.module, Mount))

    def all_settings(self) -> Iterator[tuple[str, Setting]]:
        """All settings of the tree with their full paths, outer ones first."""
        return ((join(path, setting.path), setting) for path, graph in self.graphs() for setting in graph.settings)

    def all_ties(self) -> Iterator[Tie]:
        """All tied parameters of the tree with their full paths, those of outer graphs first."""
        return (tie.below(path) for path, graph in self.graphs() for tie in graph.ties)

    def all_follows(self) -> Iterator[Follow]:
        """All members of the tree that follow another one, with their full paths, those of outer graphs first."""
        return (follow.below(path) for path, graph in self.graphs() for follow in graph.follows)

    def all_adapters(self) -> Iterator[Adapter]:
        """All adapters of the tree, with their full paths, those of outer graphs first."""
        return (adapter.below(path) for path, graph in self.graphs() for adapter in graph.adapters)

    def freezing(self) -> dict[str, Setting]:
        """The `frozen` settings of the tree, by path; adapters are trained wherever they are (`**.lora`)."""
        found = {path: setting for path, setting in self.all_settings() if setting.frozen is not None}
        trained = {f"**.{adapter.name}": adapter.place for adapter in self.all_adapters()}
        return found | {path: Setting(path, "no", place=place) for path, place in trained.items()}

    def graphs(self) -> Iterator[tuple[str, GraphPlan]]:
        """This graph and all nested ones with their paths, outer ones first; one for each copy with an index."""
        pending = [("", self)]
        while pending:
            path, graph = pending.pop()
            yield path, graph
            pending += [(join(path, below), inner) for below, inner in reversed(graph.nested)]

    @cached_property
    def nested(self) -> list[tuple[str, GraphPlan]]:
        """All directly nested graphs with their paths; one for each copy with an index."""
        copies = (copy for step in self.steps for copy in step.copies or (step,))
        applied = (applied for copy in copies for applied in copy.applied())
        return [(one.path, one.module.graph) for one in applied if isinstance(one.module, Mount)]
