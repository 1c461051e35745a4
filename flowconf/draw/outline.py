"""A picture as text for a terminal: a tree of the members, with what each of them computes, gives and reads.

No line is wider than the terminal: what does not fit into a column is wrapped, and deep levels are numbered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from textwrap import wrap

from flowconf.draw.heat import Heat
from flowconf.draw.members import Level, Member

WIDTH = 80
"""The columns of a file, or of a terminal whose size is not known."""
ROOMY, NARROWEST = 16, 8
"""The columns that a text gets if there is room for all, and at least."""


@dataclass(frozen=True)
class Row:
    """A member: its title after the lines of the tree, what it computes and gives, and its numbers."""

    lead: str
    below: str
    """The indentation of further lines of the title."""
    title: str
    computes: str = ""
    gives: str = ""
    count: str = ""
    heat: str = ""

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        return self.lead + self.title, self.computes, self.gives, self.count, self.heat


def outline(whole: Member, depth: int | None = None, heat: Heat | None = None, width: int = WIDTH) -> str:
    """The members as a tree. `depth` is the number of levels of graphs to show, 1 for the outermost only.

    `heat` adds its text to each member that it has. No line has more than `width` columns, as far as the numbers of
    parameters and the times leave room.
    """
    heat = heat or {}
    top = Row("", "", whole.name or "graph", whole.source_name, "", _count(whole), _heat(whole, heat))
    rows = [top, *_level(whole, "", 1, depth, heat, width)]
    widths = _fitting([max(len(row.cells[column]) for row in rows) for column in range(5)], width)
    return "".join(f"{line}\n" for row in rows for line in _lines(row, widths))


def _fitting(widths: list[int], width: int) -> list[int]:
    """The widths of the columns, of which the texts are made narrower until all fit, titles last."""
    widths = [*widths]
    for columns, least in (((1, 2), ROOMY), ((0,), ROOMY), ((0, 1, 2), NARROWEST)):
        while sum(widths) + 2 * sum(map(bool, widths[1:])) > width:
            widest = max(columns, key=lambda column: widths[column])
            if widths[widest] <= least:
                break
            widths[widest] -= 1
    return widths


def _lines(row: Row, widths: list[int]) -> Iterator[str]:
    """The lines of a row: the first one, and those with what does not fit into it."""
    room = max(NARROWEST, widths[0] - len(row.lead))
    columns = [_wrapped(row.title, room), _wrapped(row.computes, widths[1]), _wrapped(row.gives, widths[2])]
    for number, (title, *texts) in enumerate(zip_longest(*columns, fillvalue="")):
        first = (row.below if number else row.lead) + title
        numbers = ("", "") if number else (row.count, row.heat)
        cells = [text.ljust(width) for text, width in zip([first, *texts], widths, strict=False)]
        cells += [text.rjust(width) for text, width in zip(numbers, widths[3:], strict=True)]
        yield "  ".join(cell for cell, width in zip(cells, widths, strict=True) if width or cell).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, max(NARROWEST, width), break_on_hyphens=False) if len(text) > width else [text]


def _level(parent: Member, indent: str, number: int, depth: int | None, heat: Heat, width: int) -> Iterator[Row]:
    inside = parent.inside or Level()
    reads = _reads(inside)
    if len(indent) > width // 3:
        indent = f"[{number}] "
    shown = [member for member in inside.members if member.name and member.kind != "joint"]
    for member in shown:
        is_last = member is shown[-1]
        branch, below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        row = Row(indent + branch, indent + below, member.title, _computes(member, reads[member.id]), _gives(member))
        yield replace(row, count=_count(member), heat=_heat(member, heat))
        if member.inside is not None and depth != 1:
            deeper = None if depth is None else depth - 1
            yield from _level(member, indent + below, number + 1, deeper, heat, width)


def _computes(member: Member, reads: list[str]) -> str:
    calls = " >> ".join(member.calls) or member.source_name
    return ", ".join(part for part in (calls, *member.remarks, *reads) if part)


def _reads(level: Level) -> dict[str, list[str]]:
    """Member -> what it reads besides the stream of the member before it."""
    names = {member.id: member.name for member in level.members}
    before = _before(level)
    found: dict[str, list[str]] = {member.id: [] for member in level.members}
    for edge in level.edges:
        if edge.kind == "stream" and not edge.part and before[edge.target] == edge.source:
            continue
        if not names[edge.source]:  # where branches begin
            continue
        value = ".".join(name for name in (names[edge.source], edge.part) if name)
        how = {"state": "the previous", "kept": "plus"}.get(edge.kind, "with" if edge.argument else "from")
        found[edge.target].append(f"{how} {value}")
    return found


def _before(level: Level) -> dict[str, str]:
    """Member -> the one before it that gives the stream; empty for the first."""
    found, last = {}, ""
    for member in level.members:
        found[member.id] = last
        if member.verb != "fork":
            last = member.id
    return found


def _gives(member: Member) -> str:
    return f"→ {member.shape}" if member.shape else ""


def _heat(member: Member, heat: Heat) -> str:
    return heat[member.id][1] if member.id in heat else ""


def _count(member: Member) -> str:
    return f"{member.parameters:,}" if member.parameters and not member.reuses else ""
