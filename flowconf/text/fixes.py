"""Mends files by what diagnostics say: one text over another, everything around it as it was, comments included."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from flowconf.report import Diagnostic, Place
from flowconf.text.source import MAX_BYTES

PACKAGE = Path(__file__).parent.parent
BOM = b"\xef\xbb\xbf"


def apply(diagnostics: Iterable[Diagnostic]) -> list[Place]:
    """Write the fixes into their files; gives the places that were mended. Raises `OSError`.

    Files that come with flowconf are left alone, and of two fixes that overlap the later one in the line is made.
    """
    fixes = {d.fix.place: d.fix for d in diagnostics if d.fix is not None and _text_at(d.fix.place) is not None}
    ordered = sorted(fixes, key=lambda place: (place.file or "", place.line, place.column), reverse=True)
    mended: list[Place] = []
    for place in ordered:
        assert place.file is not None
        file = Path(place.file)
        if file.is_relative_to(PACKAGE) or (mended and _overlap(place, mended[-1])):
            continue
        lines = _lines(file)
        line, start = lines[place.line - 1], place.column - 1
        lines[place.line - 1] = line[:start] + fixes[place].text + line[start + place.length :]
        mark = BOM if file.read_bytes().startswith(BOM) else b""
        file.write_bytes(mark + "\n".join(lines).encode())
        mended.append(place)
    return mended[::-1]


def _overlap(place: Place, behind: Place) -> bool:
    return (place.file, place.line) == (behind.file, behind.line) and place.column + place.length > behind.column


def _lines(file: Path) -> list[str]:
    return file.read_bytes().decode("utf-8-sig").split("\n")


@lru_cache(maxsize=8)
def _lines_then(file: Path, size: int, written: int) -> list[str]:
    """The lines of a file of this size, written at that time: many diagnostics look at the same ones."""
    return _lines(file)


def _text_at(place: Place) -> str | None:
    """What stands at an exact place of a file, None when there is no such place."""
    if place.file is None or place.line < 1:
        return None
    try:
        file = Path(place.file)
        known = file.stat()
        if known.st_size > MAX_BYTES:
            return None
        lines = _lines_then(file, known.st_size, known.st_mtime_ns)
    except (OSError, UnicodeDecodeError):
        return None
    if place.line > len(lines):
        return None
    found = lines[place.line - 1][place.column - 1 : place.column - 1 + place.length]
    return found or None
