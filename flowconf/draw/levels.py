"""From a Plan to the members of a picture, level by level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any, TypeGuard

from flowconf.draw.calls import calls_of, value_text
from flowconf.draw.facts import Facts, SourceClass
from flowconf.draw.members import Edge, Level, Member
from flowconf.language.changing import in_words
from flowconf.language.paths import above, join, parents
from flowconf.language.plan import (
    Applied,
    Chain,
    GraphPlan,
    Input,
    LoopStep,
    MapStep,
    Module,
    Mount,
    Shared,
    SplitStep,
    Step,
    Value,
    using,
)
from flowconf.language.references import is_opened
from flowconf.language.settings import Adapter, Setting
from flowconf.report import NOWHERE, Diagnostic, PathError, Place, suggest

MERGE_SIGNS = {"add": "+", "mul": "×"}
NO_CLASS = SourceClass(())


def picture(plan: GraphPlan, facts: Facts | None = None, opened: bool = False) -> Member:
    """The whole graph as one member of kind "graph"; with `facts`, its shapes, parameters and source.

    `opened`: with the modules inside of those of packages and projects.
    """
    return _Picture(plan, facts or Facts(), opened).whole()


@dataclass(frozen=True)
class _Graph:
    """One graph of the tree: its plan, its path, its generated class, and the modules shared with outer graphs."""

    plan: GraphPlan
    path: str = ""
    home: str = ""
    shares: Mapping[str, str] = field(default_factory=dict)

    def full(self, path: str) -> str:
        """The path from the root of a module of this graph, or of one shared by an outer graph."""
        return self.shares.get(path) or join(self.path, path)

    def id_of(self, value: Value) -> str:
        """The member of this level that gives a value."""
        step = self.plan.step(value.member)
        return f"{self.path} input {value.member}".strip() if step is None else join(self.path, step.path)

    def part_of(self, value: Value) -> str:
        """The name of the part that is read, below the member that gives it."""
        names = (value.spot, value.key, None if value.inner is None else str(value.inner))
        text = ".".join(name for name in names if name)
        return text if value.index is None else f"{text}[{value.index}]"


class _Picture:
    def __init__(self, plan: GraphPlan, facts: Facts, opened: bool) -> None:
        self.plan = plan
        self.facts = facts
        self.modules: dict[str, list[str]] = {}
        """Path -> the paths of the modules inside of it."""
        for path in facts.modules if opened else ():
            self.modules.setdefault(path.rpartition(".")[0], []).append(path)
        self.settings: dict[str, Setting] = {}
        for path, setting in plan.all_settings():
            self.settings[path] = _laid_over(self.settings.get(path), setting)
        self.tied = {tie.name for tie in plan.all_ties()}
        self.followers = {follow.path for follow in plan.all_follows()}
        self.relations: dict[str, list[str]] = {}
        for tie in plan.all_ties():
            self.relations.setdefault(drawn(tie.path), []).append(f"{tie.parameter} is {tie.other}")
        for follow in plan.all_follows():
            text = f"follows {follow.home}, decay {in_words(follow.decay)}"
            self.relations.setdefault(drawn(follow.path), []).append(text)
        self.repeats: dict[str, int] = {}
        self.shared: set[str] = set()
        for prefix, graph in plan.graphs():
            for step in graph.steps:
                if step.repeat is not None and not step.copies:
                    self.repeats[join(prefix, step.path)] = step.copy_count
                applied = (one for copy in (step, *step.copies) for one in copy.applied())
                self.shared |= {join(prefix, one.path) for one in applied if isinstance(one.module, Shared)}
        self.adapters = {adapter.name for adapter in plan.all_adapters()}
        for adapter in plan.all_adapters():
            self.relate(adapter)

    def relate(self, adapter: Adapter) -> None:
        """Note an adapter at the members that it extends, with the copies of a repeat if it does not extend all."""
        text = f"+ {adapter.name}({', '.join(f'{name}={value_text(value.value)}' for name, value in adapter.args)})"
        copies: dict[str, dict[str, None]] = {}
        for path in adapter.paths:
            copies.setdefault(drawn(path), {})[self.copy_of(path)] = None
        for path, found in copies.items():
            names = path.split(".")
            count = prod(self.repeats.get(".".join(names[: number + 1]), 1) for number in range(len(names)))
            some = f" in copy {', '.join(found)}" if len(found) < count else ""
            self.relations.setdefault(path, []).append(text + some)

    def copy_of(self, path: str) -> str:
        """The numbers of the copies of repeats that a path leads through."""
        found, before = [], ""
        for name in path.split("."):
            if name.isdigit() and before in self.repeats:
                found.append(name)
            before = f"{drawn(before)}.{name}".lstrip(".")  # the number of a copy is followed by that of a chain
        return ".".join(found)

    def whole(self) -> Member:
        plan = self.plan
        inside = self.level(_Graph(plan, home=self.facts.main))
        return Member(
            id="",
            kind="graph",
            name=plan.label,
            source_name=plan.source_name or "",
            params=tuple((name, value_text(value.value)) for name, value in plan.params),
            place=plan.place,
            inside=inside,
            **self.set_at(""),
            **self.counted("", inside),
        )

    # Graphs

    def level(self, graph: _Graph) -> Level:
        """The members of a graph: its inputs, its steps, and its outputs."""
        members = [self.input(graph, entry) for entry in graph.plan.inputs]
        edges: list[Edge] = []
        for step in graph.plan.steps:
            members.append(self.step(graph, step))
            edges += self.edges(graph, step)
        single = len(graph.plan.outputs) == 1
        for name, value in graph.plan.outputs:
            output = f"{graph.path} output {name}".strip()
            given = graph.plan.step(value.member)
            place = value.place if given is None or value.place.file else given.place
            members.append(Member(id=output, kind="output", name="" if single else name, place=place))
            edges.append(self.edge(graph, value, output))
        return Level(tuple(members), tuple(edges))

    def input(self, graph: _Graph, entry: Input) -> Member:
        shape = self.facts.shapes.get(join(graph.path, entry.name)) or entry.declared
        notes = ["from the graph around it"] if entry.captured else []
        notes += [] if entry.dtype == "float32" else [entry.dtype]
        return Member(
            id=f"{graph.path} input {entry.name}".strip(),
            kind="input",
            name=entry.name,
            shape=shape,
            notes=tuple(notes),
            place=entry.place,
        )

    def edge(self, graph: _Graph, value: Value, target: str, kind: str = "stream", argument: str = "") -> Edge:
        shape = self.shape_of(graph, value)
        kind = "state" if value.recurrent else kind
        return Edge(graph.id_of(value), target, kind, graph.part_of(value), argument, shape)

    def shape_of(self, graph: _Graph, value: Value) -> str:
        """The shape of a value, or of a part of one; empty if it is not known."""
        path = join(graph.path, value.member)
        if value.spot or value.index is not None or value.copy is not None:
            return ""
        if value.inner is None:
            whole = self.facts.shapes.get(path, "")
            return whole if value.key is None else _parts(whole).get(value.key, "")
        inner, step = value.inner, graph.plan.step(value.member)
        if isinstance(step, MapStep) or inner.is_part or value.key is not None:
            return ""
        return self.facts.shapes.get(join(path, inner.member), "")

    def edges(self, graph: _Graph, step: Step) -> Iterator[Edge]:
        """The values that a step reads, without duplicates."""
        target = join(graph.path, step.path)
        yield self.edge(graph, step.stream, target)
        seen = set()
        for applied in step.applied():
            for argument, value in using(applied):
                if (argument, value) not in seen:
                    seen.add((argument, value))
                    yield self.edge(graph, value, target, "reference", argument)

    # Steps

    def step(self, graph: _Graph, step: Step) -> Member:
        path = join(graph.path, step.path)
        if step.copies:
            return self.copies(graph, step, path)
        body = self.module(graph, step.body) if len(step.parts) == 1 else {}
        inside = body.pop("inside", None)
        if self.has_parts(step):
            inside = self.parts(graph, step, path)
        elif step.joins and _has_stream(inside):
            inside = _joined(inside, path, step)
        elif step.feeds_back and isinstance(step.body.module, Mount):
            inside = _fed_back(inside, step.body.module.graph, path)
        settings = self.set_at(path)
        if "reuses" in body:
            settings["frozen"] = settings["frozen"] or self.frozen_at(body["reuses"])
        return Member(
            id=path,
            name=step.name,
            verb=step.verb,
            shape=self.facts.shapes.get(join(graph.path, step.name), ""),
            tag=step.tag or "",
            repeat=self.repeats.get(path, 0),
            times=value_text(step.limit.value) if step.feeds_back and step.limit and step.decision is None else "",
            notes=tuple(_notes(step)),
            place=step.place,
            home=graph.home,
            inside=inside,
            **body,
            **settings,
            **self.counted(path, inside),
        )

    def copies(self, graph: _Graph, step: Step, path: str) -> Member:
        """A repeated step whose copies differ: the copies in series."""
        numbered = enumerate(step.copies)
        members = [
            self.step(graph, replace(copy, name=str(number), repeat=None, tag=None)) for number, copy in numbered
        ]
        ids = [member.id for member in members]
        inside = Level(tuple(members), tuple(Edge(*two) for two in pairwise(ids)))
        return Member(
            id=path,
            name=step.name,
            shape=self.facts.shapes.get(join(graph.path, step.name), ""),
            tag=step.tag or "",
            repeat=len(members),
            notes=(f"{step.index} from 0 to {len(members) - 1}",),
            place=step.place,
            home=graph.home,
            inside=inside,
            **self.set_at(path),
            **self.counted(path, inside),
        )

    @staticmethod
    def has_parts(step: Step) -> bool:
        """Whether a step has several modules, which its box shows."""
        beside = [] if step.iterates else list(step.modules_beside.values())
        return len(step.parts) > 1 or bool(beside)

    def module(self, graph: _Graph, applied: Applied) -> dict[str, Any]:
        """The fields of a member that its module determines."""
        module = applied.module
        if isinstance(module, Mount):
            return self.mount(graph, applied, module)
        fields: dict[str, Any] = {"reuses": graph.full(module.path)} if isinstance(module, Shared) else {}
        if isinstance(module, Chain) and any(map(self.unfolds, module.members)):
            fields["inside"] = self.chain(graph, module)
        elif self.unfolds(applied):
            fields["inside"] = self.modules_in(join(graph.path, applied.path))
        if isinstance(applied.target, Mount):
            return fields | {"source_name": str(applied.target)}
        calls = calls_of(applied, lambda path: self.facts.holes.get(join(graph.path, path), ()))
        target = applied.target
        written = tuple(str(one.module) for one in target.members) if isinstance(target, Chain) else (str(target),)
        return fields | {"calls": calls, "written": () if written == calls else written}

    def unfolds(self, applied: Applied) -> bool:
        """Whether there is something inside of a module: a graph, or modules of a package or project."""
        return isinstance(applied.module, Mount) or (bool(self.modules) and is_opened(applied.module))

    def modules_in(self, path: str) -> Level | None:
        """The modules inside of that at a path, in declared order. What goes from one to another is not known."""
        members = [
            Member(
                id=inner,
                kind="module",
                name=inner.rpartition(".")[2],
                calls=(self.facts.modules[inner],),
                shape=self.facts.shapes.get(inner, ""),
                frozen=self.frozen_at(inner),
                relations=tuple(f"+ {name}" for name in self.adapters if join(inner, name) in self.facts.modules),
                inside=inside,
                **self.counted(inner, inside),
            )
            for inner in self.modules.get(path, ())
            for inside in (self.modules_in(inner),)
        ]
        return Level(tuple(members)) if members else None

    def mount(self, graph: _Graph, applied: Applied, module: Mount) -> dict[str, Any]:
        path = join(graph.path, applied.path)
        shares = {mine: graph.full(theirs) for mine, theirs in module.shares}
        children = self.facts.classes.get(graph.home, NO_CLASS).children
        home = children.get(applied.path) or children.get(applied.path.rpartition(".")[0], "")
        given = dict(module.graph.params) | dict(module.params)
        return {
            "source_name": module.graph.source_name or "",
            "params": tuple((name, value_text(value.value)) for name, value in given.items()),
            "inside": self.level(_Graph(module.graph, path, home, shares)),
        }

    def chain(self, graph: _Graph, chain: Chain) -> Level:
        """The members of a chain that has graphs in it."""
        members = [self.part(graph, member, member.path.rpartition(".")[2]) for member in chain.members]
        ids = [member.id for member in members]
        return Level(tuple(members), tuple(Edge(*two) for two in pairwise(ids)))

    def parts(self, graph: _Graph, step: Step, path: str) -> Level:
        """The branches of a step, and the modules beside them: a router, a skip, a merge."""
        entry, joint = f"{path} entry", f"{path} joint"
        taken = self.shape_of(graph, step.stream)
        merge = step.modules_beside.get("merge")
        sign = "" if merge is not None else _joint_sign(step)
        members = [Member(id=entry, kind="input", place=step.place)]
        edges: list[Edge] = []
        named = {"" if len(step.parts) == 1 else name: part for name, part in step.parts}
        for name, applied in (named | step.modules_beside).items():
            member = self.part(graph, applied, name or "body", id=join(path, name) if name else f"{path} body")
            members.append(member)
            if applied is merge:
                joint = member.id
                continue
            edges.append(Edge(entry, member.id, shape=taken))
            weighs = "weights" if step.weighs else "picks"
            if name == "router":
                edges.append(Edge(member.id, joint, "reference", argument=weighs, shape=member.shape))
            else:
                edges.append(Edge(member.id, joint, shape=member.shape))
        if merge is None:
            members.append(Member(id=joint, kind="joint", name=sign, place=step.place))
        if len(step.parts) == 1:
            members[1] = _without(members[1], [member for member in members[2:] if member.kind == "part"])
        return Level(tuple(members), tuple(edges))

    def part(self, graph: _Graph, applied: Applied, name: str, id: str = "") -> Member:
        path, body = join(graph.path, applied.path), self.module(graph, applied)
        return Member(
            id=id or path,
            kind="part",
            name=name,
            shape=self.facts.shapes.get(path, ""),
            place=_place_of(applied.module),
            home=graph.home,
            **body,
            **self.set_at(path),
            **self.counted(path, body.get("inside")),
        )

    # Facts by path

    def set_at(self, path: str) -> dict[str, Any]:
        """The fields of a member that the settings at and above its path determine."""
        setting = self.settings.get(path)
        frozen = self.frozen_at(path)
        written = "" if setting is None else setting.frozen or ""
        thawed = written == "no" and not self.frozen_at(path.rpartition(".")[0])
        checkpoint = None if setting is None else setting.checkpoint
        set_here = "" if thawed else written
        relations = tuple(self.relations.get(drawn(path), ()))
        return {"frozen": frozen, "setting": set_here, "checkpoint": checkpoint, "relations": relations}

    def frozen_at(self, path: str) -> str:
        """How the modules at `path` are frozen, by the nearest setting at or above it; adapters never are."""
        if not self.adapters.isdisjoint(path.split(".")):
            return ""
        settings = (self.settings.get(one) for one in above(path))
        nearest = next((setting.frozen for setting in settings if setting is not None and setting.frozen), "no")
        return "" if nearest == "no" else nearest

    def counted(self, path: str, inside: Level | None) -> dict[str, Any]:
        """The fields of a member that the parameters at and below its path determine."""
        total, trainable = self.counts.get(path, (0, 0))
        own = self.own_tensors.get(path, ())
        tensors = tuple(tensor for tensor in own if inside is None or "." not in tensor[0])
        return {"parameters": total, "trainable": trainable, "tensors": tensors}

    @cached_property
    def own_tensors(self) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
        """The tensors at and below each path, with their names relative to it."""
        found: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
        for tensor, shape in self.facts.parameters.items():
            for path in parents(tensor):
                found.setdefault(path, []).append((tensor[len(path) :].lstrip("."), shape))
        return found

    @cached_property
    def counts(self) -> dict[str, tuple[int, int]]:
        """The numbers of all and of trainable parameters below each path, with all copies."""
        found: dict[str, tuple[int, int]] = {}
        for tensor, shape in self.facts.parameters.items():
            above = list(parents(tensor))
            if tensor in self.tied or not self.shared.isdisjoint(above):
                continue
            size = prod(shape) * prod(self.repeats.get(path, 1) for path in above)
            trained = 0 if self.is_untrained(tensor, above) else size
            for path in above:
                total, trainable = found.get(path, (0, 0))
                found[path] = total + size, trainable + trained
        return found

    def is_untrained(self, tensor: str, above: list[str]) -> bool:
        if self.facts.untrained is not None:
            return tensor in self.facts.untrained
        return bool(self.frozen_at(tensor)) or not self.followers.isdisjoint(above)


def _parts(shape: str) -> dict[str, str]:
    """The parts of a shape such as `{hidden: [B, 128], at: [B, 2]}` by name."""
    depth, start = 0, 1
    found: dict[str, str] = {}
    for at, letter in enumerate(shape if shape.startswith("{") else ""):
        depth += (letter in "[({") - (letter in "])}")
        if depth == 0 or (depth == 1 and letter == ","):
            name, _, text = shape[start:at].strip().partition(": ")
            found[name], start = text, at + 1
    return found


def _place_of(module: Module) -> Place:
    """Where a module was written; that of a chain begins with its first member."""
    if isinstance(module, Chain):
        return _place_of(module.members[0].module)
    place = getattr(module, "place", None)
    return place if isinstance(place, Place) else NOWHERE


def _without(body: Member, beside: Iterable[Member]) -> Member:
    """The body of a step, whose path is above the modules beside it, without their parameters."""
    for other in beside:
        prefix = f"{other.name}."
        body = replace(
            body,
            parameters=body.parameters - other.parameters,
            trainable=body.trainable - other.trainable,
            tensors=tuple(tensor for tensor in body.tensors if not tensor[0].startswith(prefix)),
        )
    return body


def drawn(path: str) -> str:
    """A path without the numbers of copies and of members of chains."""
    return ".".join(name for name in path.split(".") if not name.isdigit())


def part_at(whole: Member, path: str) -> Member:
    """The graph at a path as a separate picture; copies of a repeat have the same one. Raises `PathError`."""
    members = {member.id: member for member in whole.walk()}
    part = members.get(path) or members.get(drawn(path))
    if part is None or part.inside is None:
        message = f"there is no `{path}` in the graph" if part is None else f"`{path}` is not a graph"
        graphs = [name for name, one in members.items() if name and one.inside is not None]
        raise PathError(
            Diagnostic(
                "FC0701", message, NOWHERE, path, advice=suggest(path, graphs, "graphs") or "it contains no graphs"
            )
        )
    return replace(part, kind="graph")


def _laid_over(before: Setting | None, setting: Setting) -> Setting:
    """Two settings of one path, of which the inner one takes precedence key by key."""
    if before is None:
        return setting
    return replace(before, frozen=setting.frozen or before.frozen, checkpoint=setting.checkpoint or before.checkpoint)


def _joined(level: Level, path: str, step: Step) -> Level:
    """The level of a residual's body: its output is added to its stream."""
    joint = Member(id=f"{path} joint", kind="joint", name=step.joins, place=step.place)
    if level.members[0].kind == "part":  # a chain
        entry, first, last = Member(id=f"{path} entry", kind="input"), level.members[0], level.members[-1]
        ends = Edge(entry.id, first.id), Edge(last.id, joint.id)
        level = Level((entry, *level.members), (*level.edges, *ends))
    outputs = {member.id for member in level.members if member.kind == "output"}
    inputs = [member for member in level.members if member.kind == "input"]
    edges = [replace(edge, target=joint.id) if edge.target in outputs else edge for edge in level.edges]
    kept = [Edge(inputs[0].id, joint.id, "kept")] if inputs else []
    return Level((*(member for member in level.members if member.id not in outputs), joint), (*edges, *kept))


def _has_stream(inside: Level | None) -> TypeGuard[Level]:
    """Whether it is known what goes from member to member."""
    return inside is not None and bool(inside.edges)


def _fed_back(level: Level, plan: GraphPlan, path: str) -> Level:
    """The level of a loop's body: each output is the next input of its name, a single one the first input."""
    inputs = [entry.name for entry in plan.inputs if not entry.captured]
    edges = list(level.edges)
    for name, _ in plan.outputs:
        target = inputs[0] if len(plan.outputs) == 1 and inputs else name
        if target in inputs:
            edges.append(Edge(f"{path} output {name}", f"{path} input {target}", "state"))
    return Level(level.members, tuple(edges))


def _joint_sign(step: Step) -> str:
    """The text where the branches of a step meet."""
    if isinstance(step, SplitStep):
        sign = MERGE_SIGNS.get(step.merged or "", step.merged or "")
        return f"{sign} {step.dim}" if step.merged in ("cat", "stack") else sign
    return step.joins or ("Σ" if step.weighs else "?")


def _notes(step: Step) -> Iterable[str]:
    """Notes: what the body runs over, what ends it, and which element of its output is taken."""
    if isinstance(step, MapStep):
        over = str(step.over) if step.over is not None else "the stream"
        cut = (
            f"{value_text(step.slices.value)} slices of" if step.slices is not None else f"each along dim {step.dim} of"
        )
        yield f"{cut} {over}"
    yield from (f"each along dim {step.along} of {value}" for value in step.slices_of())
    if isinstance(step, LoopStep) and step.condition is not None:
        most = f", at most {value_text(step.times.value)} times" if step.times is not None else ""
        yield f"{step.halt} {step.condition.module}{most}"
    if step.take is not None:
        yield f"takes {step.take}"
