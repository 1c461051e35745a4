"""A Plan as DOT text: a cluster for each graph, a node for each step, an edge for each value.

Solid edges are the stream, dashed edges the arguments of `using`, and dotted edges values of the previous iteration or
call. The output is deterministic. Labels are plain text, because the bundled renderer does not support HTML labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from flowconf.draw.escaping import Lines, attributes, link, quoted
from flowconf.language.plan import (
    Applied,
    Chain,
    GraphPlan,
    Input,
    LoopStep,
    MapStep,
    Mount,
    Shared,
    SplitStep,
    Step,
    Value,
    join,
)
from flowconf.language.settings import Checkpoint
from flowconf.report import NOWHERE, Place

Ends = Callable[[], tuple[str, ...]]
"""The nodes that produce a value. Called after all nodes exist, because a reference may be to a later step."""

FONT = "Helvetica,Arial,sans-serif"
INK, GREY, ICE = "#1f2933", "#7b8794", "#4a8fc1"
GRAPH_DEFAULTS = {
    "graph": {"rankdir": "TB", "fontname": FONT, "fontsize": "11", "fontcolor": INK, "bgcolor": "white"}
    | {"nodesep": "0.35", "ranksep": "0.38", "pad": "0.2", "labeljust": "l"},
    "node": {"fontname": FONT, "fontsize": "10.5", "fontcolor": INK, "shape": "box", "style": "rounded,filled"}
    | {"fillcolor": "white", "color": GREY, "penwidth": "1", "margin": "0.14,0.07", "height": "0.32"},
    "edge": {"fontname": FONT, "fontsize": "9", "fontcolor": GREY, "color": "#52606d", "arrowsize": "0.6"},
}
STEP_STYLES = {
    "aside": {"fillcolor": "#edf8f1", "color": "#3f9c6c"},
    "again": {"fillcolor": "#f6f2fd", "color": "#8061c0"},
    "slices": {"fillcolor": "#fff7e8", "color": "#c58a1c", "shape": "box3d", "style": "filled"},
    "repeat": {"shape": "box3d", "style": "filled"},
    "router": {
        "fillcolor": "#fdf1f3",
        "color": "#c0566b",
        "shape": "hexagon",
        "style": "filled",
        "margin": "0.01,0.03",
    },
}
JOINT_STYLE = {"shape": "circle", "fillcolor": "#f0f2f5", "width": "0.3", "height": "0.3", "margin": "0.02"}
FOLDED_STYLE = {"shape": "box", "style": "rounded,filled", "peripheries": "2"}
INPUT_STYLE = {"shape": "box", "style": "filled", "fillcolor": "#f0f2f5", "color": "#f0f2f5", "fontsize": "9.5"}
CLUSTER_STYLES = {
    "plain": {"color": "#b8c1cc", "bgcolor": "#fafbfc"},
    "again": {"color": "#8061c0", "bgcolor": "#faf8fe"},
    "slices": {"color": "#c58a1c", "bgcolor": "#fffcf5"},
}
FROZEN_STYLE = {"color": ICE, "fillcolor": "#e9f3fa", "bgcolor": "#f1f8fc"}
MARK_STYLES = {
    "added": {"color": "#2f9e44", "penwidth": "2.4"},
    "changed": {"color": "#e8890c", "penwidth": "2.4"},
    "moved": {"color": "#1971c2", "penwidth": "2.4"},
    "resized": {"color": "#9c36b5", "penwidth": "1.6"},
    "removed": {"color": "#c92a2a", "fontcolor": "#c92a2a", "fillcolor": "#fff5f5", "style": "rounded,filled,dashed"},
}
USING = {"style": "dashed", "color": GREY}
AGAIN = {"style": "dotted", "color": "#8061c0", "penwidth": "1.4", "constraint": "false"}
MERGE_SIGNS = {"add": "+", "mul": "×"}


def dot(
    plan: GraphPlan,
    shapes: Mapping[str, str] | None = None,
    marks: Mapping[str, str] | None = None,
    heat: Mapping[str, tuple[float, str]] | None = None,
    depth: int | None = None,
) -> str:
    """Draw `plan` as DOT text.

    `shapes` adds output shapes, by label path. `marks` colours steps by their change: "added", "changed", "moved",
    "resized", or "removed" for steps that no longer exist. `heat` colours steps by a share between 0 and 1, and adds
    its text. `depth` is the number of levels of graphs to draw, 1 for the outermost only; each deeper graph is one
    node.
    """
    return _Drawing(plan, shapes or {}, marks or {}, heat or {}, depth).text()


@dataclass
class _DrawnGraph:
    """Resolves the references of one graph to the nodes of its inputs, steps, branches and nested graphs."""

    plan: GraphPlan
    prefix: str
    shares: Mapping[str, str]
    values: dict[tuple[str, str | None], Ends] = field(default_factory=dict)
    children: dict[tuple[str, str | None], _DrawnGraph] = field(default_factory=dict)

    def ends(self, value: Value) -> tuple[str, ...]:
        """The nodes that produce `value`; if it has no separate node, those of its whole step."""
        step = self.plan.step(value.member)
        name = step.name if step else value.member
        first = value.spot.split(".")[0]
        part = first if first and not first.isdigit() else None
        child = self.children.get((name, part))
        if child is not None and value.inner is not None:
            return child.ends(value.inner)
        if child is not None and value.key is not None:
            for output, inner in child.plan.outputs:
                if output == value.key:
                    return child.ends(inner)
        found = self.values.get((name, part)) or self.values[name, None]
        return found()

    def full(self, path: str) -> str:
        """The path from the root of a module of this graph, or of one shared by an outer graph."""
        return self.shares.get(path) or join(self.prefix, path)

    def outputs(self) -> tuple[str, ...]:
        """The nodes that produce the graph's outputs, without duplicates."""
        return tuple(dict.fromkeys(node for _, value in self.plan.outputs for node in self.ends(value)))

    def looks_ahead(self, step: Step, value: Value) -> bool:
        """Whether `value` is the output of a later step, or of `step` itself, in the previous call."""
        target = self.plan.step(value.member)
        order = [other.name for other in self.plan.steps]
        return target is not None and order.index(target.name) >= order.index(step.name)


class _Drawing:
    def __init__(
        self,
        plan: GraphPlan,
        shapes: Mapping[str, str],
        marks: Mapping[str, str],
        heat: Mapping[str, tuple[float, str]],
        deepest: int | None,
    ) -> None:
        self.plan = plan
        self.deepest = deepest
        self.shapes = shapes
        self.marks = marks
        self.heat = heat
        settings = [(_of_all_copies(path), setting) for path, setting in plan.all_settings()]
        self.frozen = {path: setting.frozen for path, setting in settings if setting.frozen}
        self.checkpoints = {path: setting.checkpoint for path, setting in settings if setting.checkpoint}
        self.shared: dict[str, dict[str, str]] = {}
        for tie in plan.all_ties():
            self.shared.setdefault(_of_all_copies(tie.path), {})[tie.parameter] = f"{tie.parameter} is {tie.other}"
        for follow in plan.all_follows():
            text = f"follows {follow.home}, decay {follow.decay:g}"
            self.shared.setdefault(_of_all_copies(follow.path), {})[""] = text
        self.lines: list[str] = []
        self.edges: list[tuple[Ends, str, dict[str, str]]] = []
        self.depth = 1

    def text(self) -> str:
        for kind, defaults in GRAPH_DEFAULTS.items():
            self.write(f"{kind} {attributes(defaults)}")
        scope = self.graph(self.plan, "", {}, {})
        for name, value in self.plan.outputs:
            node = f"output {name}"
            label = name if len(self.plan.outputs) > 1 else "output"
            step = self.plan.step(value.member)
            self.node(node, [label], INPUT_STYLE, step.place if step and not value.place.file else value.place)
            self.edge(_later(scope, value), node, {})
        return "\n".join([f"digraph {quoted(self.plan.label)} {{", *self.lines, *self.edge_lines(), "}"]) + "\n"

    def edge_lines(self) -> Iterator[str]:
        for ends, target, more in self.edges:
            for source in ends():
                yield f"  {quoted(source)} -> {quoted(target)}{f' {attributes(more)}' if more else ''}"

    # Output

    def write(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def node(self, name: str, label: list[str], style: Mapping[str, str], place: Place) -> tuple[str, ...]:
        self.write(f"{quoted(name)} {attributes({'label': Lines(label)} | dict(style) | link(place))}")
        return (name,)

    def edge(self, ends: Ends, target: str, style: dict[str, str]) -> None:
        self.edges.append((ends, target, style))

    def is_frozen(self, path: str) -> str | None:
        """How the modules at `path` are frozen, by the nearest setting at or above it."""
        while True:
            if path in self.frozen:
                return None if self.frozen[path] == "no" else self.frozen[path]
            if not path:
                return None
            path = path.rpartition(".")[0]

    def mark(self, path: str) -> str:
        """The text for a freeze setting at `path` itself; everything below it is only coloured."""
        above = self.is_frozen(path.rpartition(".")[0]) if path else None
        words = {"all": "  ❄ frozen", "params": "  ❄ parameters frozen", "no": "  thawed" if above else ""}
        return words[self.frozen[path]] if path in self.frozen else ""

    # Graphs and steps

    def graph(self, plan: GraphPlan, prefix: str, given: Mapping[str, Ends], shares: Mapping[str, str]) -> _DrawnGraph:
        scope = _DrawnGraph(plan, prefix, shares)
        for entry in plan.inputs:
            if entry.captured and entry.name in given:
                scope.values[entry.name, None] = given[entry.name]
                continue
            node = f"{prefix} input {entry.name}".strip()
            scope.values[entry.name, None] = _fixed(self.node(node, _input_label(entry), INPUT_STYLE, entry.place))
            if entry.name in given:
                self.edge(given[entry.name], node, {} if entry is plan.inputs[0] else USING)
        for step in plan.steps:
            self.step(scope, step)
        for path, kind in self.marks.items():
            if kind == "removed" and path.rpartition(".")[0] == prefix:
                self.node(path, [path.rpartition(".")[2], "removed"], MARK_STYLES[kind], NOWHERE)
        return scope

    def step(self, scope: _DrawnGraph, step: Step) -> None:
        stream = _later(scope, step.stream)
        if len(step.parts) > 1:
            after = self.branches(scope, step, stream)
        else:
            after = self.applied(scope, step, None, step.body, stream)
            if step.joins:
                after = self.residual(scope, step, stream, after)
        if step.iterates:
            for name, condition in step.modules_beside.items():
                self.applied(scope, step, name, condition, after, "router")
        if step.carries_stream:
            scope.values[step.name, None] = after
        else:
            scope.values.setdefault((step.name, None), after)

    def residual(self, scope: _DrawnGraph, step: Step, stream: Ends, after: Ends) -> Ends:
        kept = stream
        for name, skip in step.modules_beside.items():
            kept = self.applied(scope, step, name, skip, stream)
        joint = self.joint(scope, step, step.joins)
        self.edge(after, joint, {})
        self.edge(kept, joint, {} if step.modules_beside else {"color": "#9aa5b1"})
        return _fixed((joint,))

    def branches(self, scope: _DrawnGraph, step: Step, stream: Ends) -> Ends:
        ends = {name: self.applied(scope, step, name, part, stream) for name, part in step.parts}
        for name, end in ends.items():
            scope.values[step.name, name] = end
        merge = step.modules_beside.get("merge")
        if merge is not None:
            merged: list[Ends] = list(ends.values())
            return self.applied(scope, step, "merge", merge, _all(merged))
        joint = self.joint(scope, step, _joint_sign(step))
        for end in ends.values():
            self.edge(end, joint, {})
        for name, one in step.modules_beside.items():
            router = self.applied(scope, step, name, one, stream, "router")
            self.edge(router, joint, USING | {"label": "weights" if step.weighs else "picks"})
        return _fixed((joint,))

    def joint(self, scope: _DrawnGraph, step: Step, sign: str) -> str:
        name = f"{join(scope.prefix, step.path)} joint"
        style = JOINT_STYLE if len(sign) == 1 else JOINT_STYLE | {"shape": "box", "margin": "0.08,0.03"}
        self.node(name, [sign], style, step.place)
        return name

    # Modules

    def applied(
        self, scope: _DrawnGraph, step: Step, part: str | None, applied: Applied, stream: Ends, kind: str | None = None
    ) -> Ends:
        """Draw one module of a step and its incoming edges; returns the nodes that produce its output."""
        path = join(scope.prefix, applied.path)
        module = applied.module
        folded = isinstance(module, Mount) and self.depth == self.deepest
        if isinstance(module, Mount) and not folded:
            return self.mount(scope, step, part, applied, module, stream)
        if isinstance(module, Chain) and any(isinstance(member.module, Mount) for member in module.members):
            for member in module.members:
                stream = self.applied(scope, step, part, member, stream, kind)
            return stream
        main = part is None
        kind = kind or (_kind(step) if main else "plain")
        style = dict(STEP_STYLES.get(kind) or (STEP_STYLES["repeat"] if step.repeat is not None and main else {}))
        frozen = self.is_frozen(path)
        if frozen:
            style |= {"fillcolor": FROZEN_STYLE["fillcolor"], "color": ICE}
        style |= MARK_STYLES.get(self.marks.get(path, ""), {}) | (FOLDED_STYLE if folded else {})
        if isinstance(module, Mount):
            label = self.heading(step, part, path, module) + _entries(module.graph)
        else:
            label = [_title(step, part) + self.mark(path), *_call_lines(scope, applied)]
            label += _counts(step) if main else []
            label += self.shared.get(path, {}).values()
        if main and path in self.shapes:
            label.append(f"→ {self.shapes[path]}")
        if path in self.heat:
            label.append(self.heat[path][1])
            style |= {"fillcolor": warm(self.heat[path][0])}
        self.node(path, label, style, step.body_place if main else step.place)
        self.edge(stream, path, {})
        self.using(scope, step, applied, path)
        if main and step.feeds_back:
            self.edge(_fixed((path,)), path, AGAIN)
        return _fixed((path,))

    def using(self, scope: _DrawnGraph, step: Step, applied: Applied, node: str) -> None:
        members = applied.module.members if isinstance(applied.module, Chain) else ()
        for one in (applied, *members):
            for argument, value in one.using:
                style = AGAIN if scope.looks_ahead(step, value) else USING
                named = {} if argument == value.name else {"label": argument}
                self.edge(_later(scope, value), node, style | named)

    def mount(
        self, scope: _DrawnGraph, step: Step, part: str | None, applied: Applied, module: Mount, stream: Ends
    ) -> Ends:
        path = join(scope.prefix, applied.path)
        frozen = self.is_frozen(path)
        kind = _kind(step) if part is None else "plain"
        style = dict(CLUSTER_STYLES.get(kind, CLUSTER_STYLES["plain"])) | {"style": "rounded", "penwidth": "1.1"}
        if frozen:
            style |= {"color": ICE, "bgcolor": FROZEN_STYLE["bgcolor"], "style": "rounded,dashed", "penwidth": "1.5"}
        style |= MARK_STYLES.get(self.marks.get(path, ""), {})
        title = self.heading(step, part, path, module)
        if path in self.heat:
            title.append(self.heat[path][1])
        self.write(f"subgraph {quoted(f'cluster {path}')} {{")
        self.depth += 1
        place = module.graph.place if module.graph.place.file else module.place
        self.write(f"graph {attributes({'label': Lines(title, 'l')} | style | link(place))}")
        shares = {mine: scope.full(theirs) for mine, theirs in module.shares}
        child = self.graph(module.graph, path, _given(scope, step, applied, module.graph, stream), shares)
        self.depth -= 1
        self.write("}")
        scope.children[step.name, part] = child
        if kind == "again":
            self.again(child, path)
        return child.outputs

    def heading(self, step: Step, part: str | None, path: str, module: Mount) -> list[str]:
        """The heading of a nested graph, whether it is drawn or folded into one node."""
        title = [_cluster_title(step, part, module) + self.mark(path)]
        title += _counts(step) if part is None else []
        title += self.shared.get(path, {}).values()
        if path in self.checkpoints:
            title.append(f"weights: {_source(self.checkpoints[path])}")
        return title

    def again(self, child: _DrawnGraph, path: str) -> None:
        """Draw the edges between iterations: each output to the input of its name, a single one to the first input."""
        inputs = [entry.name for entry in child.plan.inputs if not entry.captured]
        single = len(child.plan.outputs) == 1
        for name, value in child.plan.outputs:
            target = inputs[0] if single and inputs else name
            if target in inputs:
                self.edge(_later(child, value), f"{path} input {target}", AGAIN)


def _given(scope: _DrawnGraph, step: Step, applied: Applied, graph: GraphPlan, stream: Ends) -> dict[str, Ends]:
    """The nodes that produce each input of a mounted graph."""
    given: dict[str, Ends] = {}
    names = [entry.name for entry in graph.inputs]
    if step.stream_record is not None and not step.collects and len(names) > 1:
        for name in step.stream_record.names:
            given[name] = _later(scope, replace(step.stream, key=name))
    elif names:
        given[names[0]] = stream
    for argument, value in applied.using:
        given[argument] = _later(scope, value)
    return given


def _later(scope: _DrawnGraph, value: Value) -> Ends:
    return lambda: scope.ends(value)


def _fixed(nodes: tuple[str, ...]) -> Ends:
    return lambda: nodes


def _all(ends: list[Ends]) -> Ends:
    return lambda: tuple(node for end in ends for node in end())


def warm(share: float) -> str:
    """The colour of a share between 0 (white) and 1 (red), on a square-root scale that separates small shares."""
    height = min(1.0, max(0.0, share)) ** 0.5
    green, blue = round(255 - 150 * height), round(255 - 185 * height)
    return f"#ff{green:02x}{blue:02x}"


# Labels


def _kind(step: Step) -> str:
    """How a step is drawn."""
    if step.iterates:
        return "again" if step.feeds_back else "slices"
    return "plain" if step.carries_stream else "aside"


def _joint_sign(step: Step) -> str:
    """What stands where the branches of a step meet."""
    if isinstance(step, SplitStep):
        return f"{MERGE_SIGNS.get(step.merged or '', step.merged)} {step.dim}"
    return "Σ" if step.weighs else "?"


def _title(step: Step, part: str | None) -> str:
    return f"{step.name}.{part}" if part is not None else _named(step, step.name)


def _cluster_title(step: Step, part: str | None, module: Mount) -> str:
    name = module.graph.label or step.name
    name = _named(step, name) if part is None else name
    return f"{name}  ({module.graph.source_name})" if module.graph.source_name else name


def _named(step: Step, name: str) -> str:
    """The name with the verb, unless the drawing shows it, the number of iterations, and the tag."""
    verb = "" if step.evident else f"{step.verb}  "
    is_counted = step.feeds_back and step.decision is None
    times = f"  × {step.limit.text}" if is_counted and step.limit is not None else ""
    tag = f"  ‹{step.tag}›" if step.tag else ""
    return f"{verb}{name}{times}{tag}"


def _call_lines(scope: _DrawnGraph, applied: Applied) -> list[str]:
    """The calls of the module, one line for each call of a chain."""
    if isinstance(applied.module, Shared):
        return [f"the module of {scope.full(applied.module.path)}"]
    members = applied.module.members if isinstance(applied.module, Chain) else (applied,)
    return [_shortened(str(member.module)) for member in members]


def _counts(step: Step) -> list[str]:
    """What the body runs over, how often it runs, and which element of its output is taken."""
    lines = []
    if isinstance(step, MapStep):
        over = str(step.over) if step.over is not None else "the stream"
        cut = f"{step.slices.text} slices of" if step.slices is not None else f"each along axis {step.dim} of"
        lines.append(f"{cut} {over}")
    lines += [f"each along axis {step.along} of {value}" for value in step.slices_of()]
    if isinstance(step, LoopStep) and step.condition is not None:
        most = f", at most {step.times.text} times" if step.times is not None else ""
        lines.append(f"{step.halt} {step.condition.module}{most}")
    if step.repeat is not None:
        lines.append(f"{step.repeat.text} copies in series{f', {step.index} from 0' if step.index else ''}")
    if step.take is not None:
        lines.append(f"takes {step.take}")
    return lines


def _of_all_copies(path: str) -> str:
    """The path of a step that is drawn once for all of its copies."""
    return ".".join(name for name in path.split(".") if not name.isdigit())


def _entries(graph: GraphPlan) -> list[str]:
    return [line for entry in graph.inputs if not entry.captured for line in _input_label(entry)]


def _input_label(entry: Input) -> list[str]:
    if entry.shape is None:
        return [entry.name]
    shape = f"[{', '.join(str(size) for size in entry.shape)}]"
    return [f"{entry.name}  {shape}" + ("" if entry.dtype == "float32" else f"  {entry.dtype}")]


def _source(checkpoint: Checkpoint) -> str:
    source = checkpoint.path or checkpoint.config or ""
    return source if checkpoint.at is None else f"{source} at {checkpoint.at}"


def _shortened(text: str, most: int = 56) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
