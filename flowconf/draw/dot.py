"""A picture as DOT text: a cluster for each graph that is drawn, a node for each other member, an edge for each value.

Solid edges are the stream, dashed edges references, and dotted edges values of the previous iteration or call. A long
graph is drawn in columns; a value that goes to another column is drawn as two short edges, to and from a name, so that
no edge crosses the picture. The output is deterministic. Labels are plain text, because the bundled renderer does not
support HTML labels.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from math import sqrt

from flowconf.draw.escaping import Attributes, Lines, attributes, link, quoted
from flowconf.draw.folding import MOST, Folded, folded
from flowconf.draw.members import Edge, Level, Member
from flowconf.report import shortened

FONT = "Helvetica,Arial,sans-serif"
INK, GREY, ICE = "#1f2933", "#5f6c7b", "#1c74a8"
DEFAULTS = {
    "graph": {"rankdir": "TB", "fontname": FONT, "fontsize": "11", "fontcolor": INK, "bgcolor": "white"}
    | {"nodesep": "0.35", "ranksep": "0.38", "pad": "0.2", "labeljust": "l"},
    "node": {"fontname": FONT, "fontsize": "10.5", "fontcolor": INK, "shape": "box", "style": "rounded,filled"}
    | {"fillcolor": "white", "color": GREY, "penwidth": "1", "margin": "0.14,0.07", "height": "0.32"},
    "edge": {"fontname": FONT, "fontsize": "9", "fontcolor": GREY, "color": "#52606d", "arrowsize": "0.6"},
}
COLOURS = {
    "loop": {"color": "#6d4bb8", "fillcolor": "#f6f2fd", "bgcolor": "#faf8fe"},
    "map": {"color": "#96650a", "fillcolor": "#fff7e8", "bgcolor": "#fffcf5"},
    "fork": {"color": "#207a4d", "fillcolor": "#edf8f1"},
    "switch": {"color": "#b03a55", "fillcolor": "#fdf1f3"},
    "gate": {"color": "#b03a55", "fillcolor": "#fdf1f3"},
}
"""The colours of verbs; their words are in the labels."""
FROZEN = {"color": ICE, "fillcolor": "#e9f3fa", "bgcolor": "#f1f8fc"}
CLUSTER = {"color": "#b8c1cc", "bgcolor": "#fafbfc", "style": "rounded", "penwidth": "1.1"}
FOLDED = {"peripheries": "2"}
COPIES = {"shape": "box3d", "style": "filled"}
PILL = {"shape": "box", "style": "filled", "fillcolor": "#f0f2f5", "color": "#f0f2f5", "fontsize": "9.5"}
ELSEWHERE = PILL | {"fillcolor": "white", "color": "white", "fontcolor": GREY}
POINT = {"shape": "point", "width": "0.07", "color": GREY}
JOINT = {"shape": "circle", "fillcolor": "#f0f2f5", "width": "0.3", "height": "0.3", "margin": "0.02"}
WIDE_JOINT = {"shape": "box", "fillcolor": "#f0f2f5", "margin": "0.08,0.03"}
MARKS = {
    "added": {"color": "#2f9e44", "penwidth": "2.4"},
    "changed": {"color": "#e8890c", "penwidth": "2.4"},
    "moved": {"color": "#1971c2", "penwidth": "2.4"},
    "resized": {"color": "#9c36b5", "penwidth": "1.6"},
    "removed": {"color": "#c92a2a", "fontcolor": "#c92a2a", "fillcolor": "#fff5f5", "style": "rounded,filled,dashed"},
}
EDGES = {
    "stream": {},
    "kept": {"color": "#9aa5b1"},
    "reference": {"style": "dashed", "color": GREY},
    "state": {"style": "dotted", "color": "#6d4bb8", "penwidth": "1.4", "dir": "back"},
}
CAPTION = {"labelloc": "t", "labeljust": "l", "fontcolor": GREY}
QUICK = {"nslimit": "2", "nslimit1": "2"}
"""How Graphviz arranges many members within seconds: it tries fewer places."""
COLUMN, CHAIN = 700, 300
"""The height of a column, in points, by which the number of columns is chosen, and that of a chain, which is narrow."""


def dot(
    whole: Member,
    marks: Mapping[str, str] | None = None,
    heat: Mapping[str, tuple[float, str]] | None = None,
    depth: int | None = None,
    notes: Mapping[str, str] | None = None,
) -> str:
    """Draw a picture as DOT text.

    `marks` colours members by their change: "added", "changed", "moved", "resized", or "removed" for steps that no
    longer exist. `notes` adds a line to members. `heat` colours members by a share between 0 and 1, and adds its text.
    `depth` is the number of levels of graphs to draw, 1 for the outermost only; each deeper graph is one node. Without
    it, what does not fit into a picture is folded, and a caption says so.
    """
    return _Drawing(folded(whole, depth), marks or {}, heat or {}, notes or {}).text()


class _Drawing:
    def __init__(
        self, picture: Folded, marks: Mapping[str, str], heat: Mapping[str, tuple[float, str]], notes: Mapping[str, str]
    ) -> None:
        self.picture, self.marks, self.heat, self.notes = picture, marks, heat, notes
        self.touched = set(marks) | {path.rpartition(".")[0] for path, kind in marks.items() if kind == "removed"}
        self.lines: list[str] = []
        self.edges: list[str] = []
        self.filled: dict[str, set[str]] = {}
        """The inputs of each member that references fill."""

    def text(self) -> str:
        whole, caption = self.picture.whole, self.picture.caption
        for kind, defaults in DEFAULTS.items():
            self.write(1, f"{kind} {attributes(defaults)}")
        self.level(whole, 1)
        if caption:
            self.write(1, f"graph {attributes({'label': Lines([caption], 'l'), **CAPTION})}")
        if len(self.lines) > MOST:
            self.write(1, f"graph {attributes(QUICK)}")
        return "\n".join([f"digraph {quoted(whole.name)} {{", *self.lines, *self.edges, "}"]) + "\n"

    def write(self, depth: int, text: str) -> None:
        self.lines.append("  " * depth + text)

    # Members

    def level(self, parent: Member, depth: int) -> None:
        """Draw the members inside of a member, and the edges between them; nested outputs are drawn as edges only."""
        assert parent.inside is not None
        known = {member.id: member for member in parent.inside.members}
        given = {edge.target: edge for edge in parent.inside.edges if known[edge.target].kind == "output"}
        for edge in parent.inside.edges:
            if edge.argument:
                self.filled.setdefault(edge.target, set()).add(edge.argument)
        for member in parent.inside.members:
            if member.kind != "output" or depth == 1:
                self.member(member, depth)
        for path, kind in self.marks.items():
            if kind == "removed" and path.rpartition(".")[0] == parent.id:
                removed = Member(id=path, name=path.rpartition(".")[2], notes=("removed",))
                self.node(removed, depth, self.label(removed), MARKS[kind])
        column = self.columns(parent.inside)
        for edge in parent.inside.edges:
            if depth > 1 and edge.source in given:
                edge = replace(edge, source=given[edge.source].source, part=given[edge.source].part)
            if column[edge.source] == column[edge.target] or edge.kind == "state":
                self.edge(edge, known, depth, [edge.name, "" if _shows_shape(known[edge.source]) else edge.shape])
            elif edge.target not in given or depth == 1:
                self.jump(edge, known, depth)

    def member(self, member: Member, depth: int) -> None:
        if member.kind in ("input", "output"):
            label = [" ".join(filter(None, (member.name or member.kind, member.shape)))]
            self.node(member, depth, *((label, PILL) if member.name or depth == 1 else ([""], POINT)))
        elif member.kind == "joint":
            self.node(member, depth, [member.name], JOINT if len(member.name) == 1 else WIDE_JOINT)
        elif self.is_open(member):
            self.cluster(member, depth)
        else:
            self.card(member, depth)

    def card(self, member: Member, depth: int) -> None:
        style = COLOURS.get(member.verb, {}) | (COPIES if member.repeat else {})
        if member.frozen:
            style |= FROZEN | {"style": f"{style.get('style', 'rounded,filled')},dashed"}
        style |= FOLDED if member.inside is not None else {}
        self.node(member, depth, self.label(member), style | self.look(member))
        if member.verb == "loop":
            self.edges.append(
                f"  {quoted(member.id)} -> {quoted(member.id)} {attributes(EDGES['state'] | {'dir': 'forward'})}"
            )

    def is_open(self, member: Member) -> bool:
        return member.inside is not None and member.id not in self.picture.ids

    def node(self, member: Member, depth: int, label: list[str], style: Mapping[str, str]) -> None:
        shown = {name: value for name, value in style.items() if name != "bgcolor"}
        self.write(depth, f"{quoted(member.id)} {attributes({'label': Lines(label)} | shown | link(member.place))}")

    def cluster(self, member: Member, depth: int) -> None:
        style = CLUSTER | {key: value for key, value in COLOURS.get(member.verb, {}).items() if key != "fillcolor"}
        if member.frozen:
            style |= {"color": ICE, "bgcolor": FROZEN["bgcolor"], "style": "rounded,dashed", "penwidth": "1.5"}
        elif member.repeat:
            style |= {"peripheries": "2"}
        self.write(depth, f"subgraph {quoted(f'cluster {member.id}')} {{")
        look = {key: value for key, value in self.look(member).items() if key != "fillcolor"}
        label = {"label": Lines(self.label(member, is_open=True), "l")}
        self.write(depth + 1, f"graph {attributes(label | style | look | link(member.place))}")
        self.level(member, depth + 1)
        self.write(depth, "}")

    def look(self, member: Member) -> dict[str, str]:
        is_touched = (
            bool(self.touched)
            and member.id in self.picture.ids
            and any(one.id in self.touched for one in member.walk())
        )
        style = dict(MARKS.get(self.marks.get(member.id, "changed" if is_touched else ""), {}))
        if member.id in self.heat:
            style["fillcolor"] = warm(self.heat[member.id][0])
        return style

    def label(self, member: Member, is_open: bool = False) -> list[str]:
        lines = [_title(member)]
        lines += [] if is_open else [shortened(call, 56) for call in member.calls]
        lines += member.remarks
        if member.checkpoint is not None:
            source = member.checkpoint.path or member.checkpoint.config or member.checkpoint.hub or ""
            lines.append(f"weights: {source}" + (f" at {member.checkpoint.at}" if member.checkpoint.at else ""))
        if member.parameters and not member.reuses:
            lines.append(f"{member.parameters:,} parameters")
        lines += [self.notes[member.id]] if member.id in self.notes else []
        if member.id in self.heat:
            lines.append(self.heat[member.id][1])
        return lines

    # Edges

    def edge(self, edge: Edge, known: Mapping[str, Member], depth: int, label: list[str]) -> None:
        """Draw a value between the nodes that give and take it, which may be inside of the edge's ends.

        `label` is its name and its shape; of a value that is taken apart, only the name is shown. A value of the
        previous iteration is drawn from its target, which is above it.
        """
        targets = self.targets(known[edge.target], edge, depth)
        texts = [f" {text} " for text in (label if len(targets) == 1 else label[:1]) if text]
        ends = [
            (source, target)
            for target in targets
            for source in self.sources(known[edge.source], edge.part or (target if len(targets) > 1 else ""))
        ]
        for number, (source, target) in enumerate(ends):
            style: Attributes = EDGES[edge.kind] | ({"label": Lines(texts)} if texts and not number else {})
            source, target = (target, source) if edge.kind == "state" else (source, target)
            self.edges.append(f"  {quoted(source)} -> {quoted(target)}{f' {attributes(style)}' if style else ''}")

    def jump(self, edge: Edge, known: Mapping[str, Member], depth: int) -> None:
        """Draw a value that goes to another column: to the name of its target there, and from its own name here."""
        source, target = known[edge.source], known[edge.target]
        number = len(self.edges)
        leaves = Member(id=f"{source.id} to {target.id} {number}", name=f"→ {target.name or target.kind}")
        enters = Member(id=f"{target.id} from {source.id} {number}", name=f"{source.name or source.kind} →")
        for end in (leaves, enters):
            self.node(end, depth, [end.name], ELSEWHERE)
        ends = {**known, leaves.id: leaves, enters.id: enters}
        self.edge(replace(edge, target=leaves.id, argument=""), ends, depth, [])
        self.edge(replace(edge, source=enters.id, part=""), ends, depth, [edge.name, edge.shape])
        first = next(iter(known.values()))
        if depth > 1 and first.kind == "input":  # a column begins below it
            self.edges.append(f"  {quoted(first.id)} -> {quoted(enters.id)} {attributes({'style': 'invis'})}")

    def sources(self, member: Member, part: str) -> list[str]:
        """The nodes that give a part of a member: that of the member, or those of its outputs.

        The id of an input that is filled replaces that of the output with its name.
        """
        if not self.is_open(member) and member.kind != "output":
            return [member.id]
        inside = member.inside or Level()
        known = {inner.id: inner for inner in inside.members}
        part = part.rpartition(" ")[2]
        name = part.partition(".")[0].partition("[")[0]
        within = known.get(f"{member.id}.{name}") if name else None
        if within is not None:
            return self.sources(within, part.partition(".")[2])
        outputs = [inner for inner in inside.members if inner.kind == "output"]
        named = [inner for inner in outputs if inner.name == name] or outputs
        given = [edge for inner in named for edge in inside.edges if edge.target == inner.id]
        found = [node for edge in given for node in self.sources(known[edge.source], edge.part)]
        return list(dict.fromkeys(found)) or [inside.members[-1].id]

    def targets(self, member: Member, edge: Edge, depth: int) -> list[str]:
        """The nodes that take a value: that of the member, or its inputs that the edge fills."""
        if member.kind == "output" and depth > 1:
            return []
        if not self.is_open(member):
            return [member.id]
        inside = member.inside or Level()
        inputs = [inner for inner in inside.members if inner.kind == "input"]
        if edge.kind == "reference" or edge.argument:
            return [inner.id for inner in inputs if inner.name == edge.argument] or [inner.id for inner in inputs[:1]]
        if not inputs:
            return self.targets(inside.members[0], edge, depth + 1)
        given = self.filled.get(member.id, set())
        return [inner.id for inner in inputs if inner.name not in given] or [inputs[0].id]

    # Columns

    def columns(self, level: Level) -> dict[str, int]:
        """Member -> the column that it is drawn in.

        A long graph is cut where no edge but the stream crosses, if possible.
        """
        steps, tops, crossing = _steps(level), self.tops(level), _crossing(level)
        number = {member.id: index for index, member in enumerate(steps)}
        count = _count(tops[-1], crossing)
        height = tops[-1] / count
        cuts: list[int] = []
        for column in range(1, count):
            low, high = (bisect(tops, (column + shift) * height) for shift in (-0.4, 0.4))
            ideal = column * height
            near = [at for at in range(low, high) if 0 < at < len(steps)]
            costs = [abs(tops[at] - ideal) + COLUMN * crossing[at] for at in near]
            cuts += [near[costs.index(min(costs))]] if near else []
        found = {member.id: bisect(cuts, number[member.id]) for member in steps}
        return found | {edge.target: found[edge.source] for edge in level.edges if edge.target not in number}

    def tops(self, level: Level) -> list[float]:
        """About where each member of a level begins below the one before it, in points, and where the last one ends."""
        return list(accumulate((self.height(member) for member in _steps(level)), initial=0.0))

    def height(self, member: Member) -> float:
        """About how tall a member is drawn, in points."""
        if member.inside is not None and self.is_open(member):
            whole = self.tops(member.inside)[-1]
            return 50 + whole / _count(whole, _crossing(member.inside))
        return 85 + 13 * len(member.calls) if member.kind in ("step", "part", "range") else 60


def _steps(level: Level) -> list[Member]:
    """The members of a level in the order in which they are drawn."""
    return [member for member in level.members if member.kind != "output"]


def _crossing(level: Level) -> Counter[int]:
    """Position -> the number of edges that pass between the member there and the one before it."""
    number = {member.id: index for index, member in enumerate(_steps(level))}
    changes: Counter[int] = Counter()
    for edge in level.edges:
        if edge.source in number and edge.target in number:
            changes[number[edge.source] + 1] += 1
            changes[number[edge.target] + 1] -= 1
    last = max(changes, default=0)
    return Counter(dict(enumerate(accumulate(changes[at] for at in range(last + 1)))))


def _count(height: float, crossing: Counter[int]) -> int:
    """The number of columns for a level of a height; in a chain, a single edge passes between two members."""
    return max(1, round(sqrt(height / (CHAIN if max(crossing.values(), default=0) <= 1 else COLUMN))))


def _shows_shape(member: Member) -> bool:
    return member.kind == "input" and bool(member.shape)


def _title(member: Member) -> str:
    """The name with the verb, unless the drawing shows it, the number of iterations and copies, and the tag."""
    verb = "" if member.verb in ("through", "graph") else member.verb
    times = f"× {member.times}" if member.times else ""
    name = f"{member.name} × {member.repeat}" if member.repeat else member.name
    source = f"({member.source_name})" if member.source_name else ""
    tag = f"‹{member.tag}›" if member.tag else ""
    frozen = {"all": "❄ frozen", "params": "❄ parameters frozen", "no": "thawed"}.get(member.setting, "")
    return "  ".join(part for part in (verb, name, times, source, tag, frozen) if part)


def warm(share: float) -> str:
    """The colour of a share between 0 (white) and 1 (red), on a square-root scale that separates small shares."""
    height = min(1.0, max(0.0, share)) ** 0.5
    green, blue = round(255 - 150 * height), round(255 - 185 * height)
    return f"#ff{green:02x}{blue:02x}"
