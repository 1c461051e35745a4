"""Pictures of many members: graphs are folded, and long ones divided into ranges, until the rest can be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from flowconf.draw.members import Edge, Level, Member

MOST = 300
"""The most members in a picture without a chosen depth; Graphviz arranges them within seconds."""
LONGEST = 100
"""The steps of a graph in such a picture; a longer one is divided into ranges."""


@dataclass(frozen=True)
class Folded:
    """A picture, and the ids of the members whose inside is not drawn."""

    whole: Member
    ids: frozenset[str]
    caption: str = ""
    """A note on what is left out without being asked for."""


def folded(whole: Member, depth: int | None = None) -> Folded:
    """Fold what is below `depth` levels of graphs; without a depth, what does not fit into a picture."""
    if depth is not None:
        return Folded(whole, frozenset(_below(whole, depth)))
    count = sum(1 for _ in whole.walk()) - 1
    if count <= MOST:
        return Folded(whole, frozenset())
    whole = _divided(whole)
    drawn = _fitting(whole)
    ids = frozenset(one.id for one in whole.walk() if one.inside is not None and one.id not in drawn)
    shown = sum(len(one.inside.members) for one in whole.walk() if one.id in drawn and one.inside is not None)
    return Folded(whole, ids, f"{shown:,} boxes for {count:,} members: those with a double border are folded")


def _below(member: Member, depth: int) -> Iterator[str]:
    if member.inside is None:
        return
    if depth == 0:
        yield member.id
    for inner in member.inside.members:
        yield from _below(inner, max(0, depth - 1))


def _fitting(whole: Member) -> set[str]:
    """The ids of the members that are drawn with their inside: the outer ones first, as long as there is room."""
    found: set[str] = set()
    room, level = MOST, [whole]
    while level:
        opened = []
        for member in level:
            size = len(member.inside.members) if member.inside is not None else 0
            if member is whole or (0 < size <= room and member.kind != "range"):
                room -= size
                opened.append(member)
        found |= {member.id for member in opened}
        level = [inner for member in opened if member.inside is not None for inner in member.inside.members]
    return found


def _divided(member: Member) -> Member:
    """A member with its long graphs divided into ranges."""
    if member.inside is None:
        return member
    members = [_divided(inner) for inner in member.inside.members]
    steps = [inner for inner in members if inner.kind == "step"]
    edges = list(member.inside.edges)
    if len(steps) > LONGEST:
        size = ceil(len(steps) / LONGEST)
        parts = [steps[first : first + size] for first in range(0, len(steps), size)]
        home = {step.id: number for number, part in enumerate(parts) for step in part}
        ranges = [_range(part) for part in parts]
        first = members.index(steps[0])
        others = [inner for inner in members if inner.id not in home]
        members = [*others[:first], *ranges, *others[first:]]
        ids = {step: ranges[number].id for step, number in home.items()}
        joined = [Edge(ids.get(one.source, one.source), ids.get(one.target, one.target), one.kind) for one in edges]
        edges = list(dict.fromkeys(one for one in joined if one.source != one.target))
    return replace(member, inside=Level(tuple(members), tuple(edges)))


def _range(steps: list[Member]) -> Member:
    """Steps that follow each other, as one member."""
    first, last = steps[0], steps[-1]
    return Member(
        id=f"{first.id} to {last.id}",
        kind="range",
        name=f"{first.name} … {last.name}",
        notes=(f"{len(steps):,} members",),
        shape=last.shape,
        parameters=sum(step.parameters for step in steps),
        trainable=sum(step.trainable for step in steps),
        place=first.place,
        inside=Level(tuple(steps)),
    )
