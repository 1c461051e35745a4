"""Mistakes as marks of a picture: the member where each of them is, and the other parties."""

from __future__ import annotations

from collections.abc import Sequence

from flowconf.draw.data import Marks, block_end
from flowconf.draw.members import Member
from flowconf.report import NOWHERE, Diagnostic, Place


def marks_of(whole: Member, mistakes: Sequence[Diagnostic]) -> Marks:
    """Mark the members on whose lines mistakes are, as "error" or "warning", and those of their labels, as "cause".

    A mistake outside of the graph is a note.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    notes: list[str] = []

    def mark(place: Place, kind: str, text: str) -> bool:
        path = _member_at(whole, place)
        if path is None:
            return False
        before, texts = found.get(path, ("cause", []))
        found[path] = (before if kind == "cause" else kind, [*texts, text])
        return True

    for one in mistakes:
        text = f"{one.code}: {one.message}" + (f"; {one.help}" if one.help else "")
        if not mark(one.place, one.severity, text):
            notes.append(f"{one.place}: {text}" if one.place != NOWHERE else text)
        for label in one.labels:
            mark(label.place, "cause", label.message)
    return Marks("Errors and warnings", found, notes)


def _member_at(whole: Member, place: Place) -> str | None:
    """The innermost member that was written on the line, or by the word, of a place."""
    best: tuple[int, str] | None = None
    for member in whole.walk():
        own = member.place
        if member.kind in ("graph", "output", "joint", "module"):
            continue
        if place.word is not None and own.word == place.word:
            return member.id
        if own.file is not None and own.file == place.file and own.line <= place.line <= block_end(own):
            size = block_end(own) - own.line
            if best is None or size <= best[0]:
                best = (size, member.id)
    return None if best is None else best[1]
