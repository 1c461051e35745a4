"""A picture as a Mermaid flowchart, which Markdown of GitHub, GitLab and notebooks shows.

Members are numbered, so that no name is ever read as Mermaid; labels are in quotes, with entities for what quotes and
markup are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

from flowconf.draw.folding import folded
from flowconf.draw.heat import Heat
from flowconf.draw.members import Edge, Member
from flowconf.report import printable

ARROWS = {"stream": "-->", "kept": "-->", "reference": "-.->", "state": "-. previous .->"}
EMPTY = '""'
PLAIN = " .,_-+×→❄[]()=/:…Σ?"
FROZEN = "classDef frozen stroke-dasharray: 5 3"


def mermaid(whole: Member, depth: int | None = None, heat: Heat | None = None) -> str:
    """Draw a picture as a flowchart. `depth` is the number of levels of graphs to draw, 1 for the outermost only.

    Without it, what does not fit into a picture is folded, and a caption says so. `heat` adds its text to each member
    that it has.
    """
    picture = folded(whole, depth)
    numbers = {member.id: f"n{number}" for number, member in enumerate(picture.whole.walk())}
    caption = [f"  caption[{_label([picture.caption])}]"] if picture.caption else []
    members = _level(picture.whole, numbers, heat or {}, picture.ids, 1)
    return "\n".join(["flowchart TB", f"  {FROZEN}", *caption, *members]) + "\n"


def _level(parent: Member, numbers: Mapping[str, str], heat: Heat, ids: Set[str], depth: int) -> Iterator[str]:
    assert parent.inside is not None
    indent = "  " * depth
    for member in parent.inside.members:
        number = numbers[member.id]
        share = [heat[member.id][1]] if member.id in heat else []
        if member.inside is not None and member.id not in ids:
            yield f"{indent}subgraph {number}[{_label([*_lines(member, is_open=True), *share])}]"
            yield from _level(member, numbers, heat, ids, depth + 1)
            yield f"{indent}end"
        elif member.kind in ("input", "output"):
            yield f"{indent}{number}([{_label([member.name or member.kind, member.shape])}])"
        elif member.kind == "joint":
            yield f"{indent}{number}(({_label([member.name])}))"
        else:
            yield f"{indent}{number}[{_label([*_lines(member), *share])}]"
        if member.frozen:
            yield f"{indent}class {number} frozen"
    yield from (f"{indent}{_edge(edge, numbers)}" for edge in parent.inside.edges)


def _edge(edge: Edge, numbers: Mapping[str, str]) -> str:
    label = _label([edge.name, edge.shape])
    return f"{numbers[edge.source]} {ARROWS[edge.kind]}{f'|{label}|' if label != EMPTY else ''} {numbers[edge.target]}"


def _lines(member: Member, is_open: bool = False) -> list[str]:
    return [member.title, *([] if is_open else member.calls), *member.remarks]


def _label(lines: list[str]) -> str:
    """A label in quotes: every letter that Mermaid or HTML could read is an entity."""
    return f'"{"<br>".join(_escaped(line) for line in lines if line)}"'


def _escaped(text: str) -> str:
    def entity(letter: str) -> str:
        return letter if letter.isalnum() or letter in PLAIN else f"#{ord(letter)};"

    return "".join(map(entity, printable(text)))
