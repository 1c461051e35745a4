"""The differences between two configs: as text, as JSON lines, as marks and an overlay of a page, and as DOT."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from typing import Any

from flowconf.draw.data import Marks
from flowconf.draw.dot import dot
from flowconf.draw.levels import drawn
from flowconf.draw.members import Member
from flowconf.language.carried_over import CarriedOver, Shape
from flowconf.language.diff import Change
from flowconf.language.paths import parents
from flowconf.report import Place, json_line, printable, shortened
from flowconf.text.write import inline

NOT_NOTES = ("no differences", "shape of ")
SIGNS = {"added": "+", "removed": "-", "moved": ">", "changed": "~"}


def text_lines(changes: Sequence[Change], carry: CarriedOver) -> Iterator[str]:
    if not changes:
        yield "no differences"
    for change in changes:
        yield printable(f"{SIGNS[change.kind]} {change.path}{_what(change)}{_where(change)}")
    for path, old, new in carry.shapes:
        yield f"shape of {path}: {old} -> {new}"
    total = len(carry.kept) + len(carry.resized) + len(carry.dropped)
    yield f"weights: {len(carry.kept)} of {total} tensors carry over"
    for name, before, after in carry.resized:
        yield f"  {name}: {list(before)} -> {list(after)}, reinitialised"
    yield from (f"  {name}: new" for name in carry.new)
    yield from (f"  {name}: removed" for name in carry.dropped)


def json_lines(changes: Sequence[Change], carry: CarriedOver) -> Iterator[str]:
    for change in changes:
        row = {"kind": change.kind, "path": change.path, "key": change.key}
        row |= {"before": change.before, "after": change.after}
        row |= {"before_place": None if change.before is None else str(change.before_place)}
        row |= {"after_place": None if change.after is None else str(change.after_place)}
        yield json_line(row)
    weights = {"kept": carry.kept, "resized": carry.resized, "new": carry.new, "dropped": carry.dropped}
    yield json_line({"kind": "graph", "shapes": carry.shapes, "weights": weights})


def marks_of(changes: Sequence[Change], carry: CarriedOver, is_old: bool) -> Marks:
    """The changes of steps, and those of shapes, by path; the others, and what becomes of the weights, as notes.

    A step that was added is not marked in the old graph, where there is none.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for path, before, after in carry.shapes:
        found[path] = ("resized", [f"{before} -> {after}"])
    for change in changes:
        if change.member and not (is_old and change.kind == "added"):
            texts = found.get(change.path, ("", []))[1]
            found[change.path] = (change.kind, [f"{_what(change).lstrip(': ')}{_where(change)}", *texts])
    others = [change for change in changes if not change.member]
    return Marks("Changes", found, [line for line in text_lines(others, carry) if not line.startswith(NOT_NOTES)])


def carried(parameters: Mapping[str, Shape], lost: Collection[str]) -> dict[str, Any]:
    """The overlay of the weights that carry over: by path, their share, and how many tensors they are."""
    sizes: dict[str, list[int]] = {}
    for name, shape in parameters.items():
        kept = name not in lost
        for path in parents(drawn(name)):
            one = sizes.setdefault(path, [0, 0, 0, 0])
            for at, more in enumerate((kept, 1, kept * prod(shape), prod(shape))):
                one[at] += more
    values = {
        path: [part / whole if whole else 1.0, f"{kept:,} of {tensors:,} tensors carry over"]
        for path, (kept, tensors, part, whole) in sizes.items()
    }
    return {"title": "weights that carry over", "values": values}


def marked(whole: Member, changes: Sequence[Change], carry: CarriedOver) -> str:
    """The graph of the new side with what has changed, as DOT."""
    shapes = {path: f"{after}, was {earlier}" for path, earlier, after in carry.shapes}
    marks = dict.fromkeys(shapes, "resized") | {change.path: change.kind for change in changes if change.member}
    return dot(whole, marks, notes=shapes)


def _what(change: Change) -> str:
    if change.kind == "moved":
        return f": now after {change.after or 'the input'}, was after {change.before or 'the input'}"
    key = f" {change.key}" if change.key is not None else ""
    both = change.kind == "changed"
    values = [shortened(inline(value), 70) for value in (change.before, change.after) if both or value is not None]
    return f"{key}: {' -> '.join(values)}"


def _where(change: Change) -> str:
    place: Place = change.after_place if change.kind != "removed" or change.after_place.line else change.before_place
    return f"  ({place})" if place.file is not None or place.word else ""
