"""A picture as text for a terminal: a tree of the members, with what each of them computes, gives and reads."""

from __future__ import annotations

from collections.abc import Iterator

from flowconf.draw.heat import Heat
from flowconf.draw.members import Level, Member

LONGEST = 60
Row = tuple[str, str, str, str, str]


def outline(whole: Member, depth: int | None = None, heat: Heat | None = None) -> str:
    """The members as a tree. `depth` is the number of levels of graphs to show, 1 for the outermost only.

    `heat` adds its text to each member that it has.
    """
    heat = heat or {}
    top = whole.name or "graph", whole.source_name, "", _count(whole), _heat(whole, heat)
    rows: list[Row] = [top, *_level(whole, "", depth, heat)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "".join(f"{_line(row, widths)}\n" for row in rows)


def _line(row: Row, widths: list[int]) -> str:
    *texts, count, heat = row
    cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
    return "  ".join([*cells, count.rjust(widths[3]), heat.rjust(widths[4])]).rstrip()


def _level(parent: Member, indent: str, depth: int | None, heat: Heat) -> Iterator[Row]:
    inside = parent.inside or Level()
    reads = _reads(inside)
    shown = [member for member in inside.members if member.name and member.kind != "joint"]
    for member in shown:
        is_last = member is shown[-1]
        branch, below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        computes = _computes(member, reads[member.id])
        yield indent + branch + member.title, computes, _gives(member), _count(member), _heat(member, heat)
        if member.inside is not None and depth != 1:
            yield from _level(member, indent + below, None if depth is None else depth - 1, heat)


def _computes(member: Member, reads: list[str]) -> str:
    calls = " >> ".join(member.calls) or member.source_name
    calls = calls if len(calls) <= LONGEST else calls[: LONGEST - 1] + "…"
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
