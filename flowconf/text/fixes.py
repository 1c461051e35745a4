"""Mends files by what diagnostics say: one text over another, everything around it as it was, comments included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flowconf.report import Diagnostic, Fix, Place
from flowconf.text.output import write_output
from flowconf.text.source import MAX_BYTES, edited_text

PACKAGE = Path(__file__).parent.parent
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Mended:
    """Files with fixes in them: the new texts, and the places that were mended, in order."""

    texts: Mapping[str, str]
    places: tuple[Place, ...]


def apply(diagnostics: Iterable[Diagnostic]) -> list[Place]:
    """Write the fixes into their files; gives the places that were mended. Raises `OSError`."""
    made = mended(fix for d in diagnostics if (fix := d.fix) is not None)
    for file, text in made.texts.items():
        mark = BOM if Path(file).read_bytes().startswith(BOM) else b""
        write_output(Path(file), mark + text.encode())
    return list(made.places)


def mended(fixes: Iterable[Fix]) -> Mended:
    """What the files of `fixes` would be with them.

    Files that come with flowconf are left alone, and of two fixes that overlap the later one in the line is made.
    """
    of_place = {fix.place: fix for fix in fixes if _text_at(fix.place) is not None}
    ordered = sorted(of_place, key=lambda place: (place.file or "", place.line, place.column), reverse=True)
    texts: dict[str, list[str]] = {}
    places: list[Place] = []
    for place in ordered:
        assert place.file is not None
        if Path(place.file).is_relative_to(PACKAGE) or (places and _overlap(place, places[-1])):
            continue
        lines = texts.setdefault(place.file, _lines(Path(place.file)))
        line, start = lines[place.line - 1], place.column - 1
        lines[place.line - 1] = line[:start] + of_place[place].text + line[start + place.length :]
        places.append(place)
    return Mended({file: "\n".join(lines) for file, lines in texts.items()}, tuple(places[::-1]))


def _overlap(place: Place, following: Place) -> bool:
    return (place.file, place.line) == (
        following.file,
        following.line,
    ) and place.column + place.length > following.column


def _lines(file: Path) -> list[str]:
    text = edited_text(file)
    return (file.read_bytes().decode("utf-8-sig") if text is None else text).split("\n")


@lru_cache(maxsize=8)
def _lines_then(file: Path, size: int, written: int) -> list[str]:
    """The lines of a file of this size, written at that time: many diagnostics look at the same ones."""
    return _lines(file)


def _text_at(place: Place) -> str | None:
    """The text at an exact place of a file, None if there is no such place."""
    if place.file is None or place.line < 1:
        return None
    try:
        file = Path(place.file)
        known = file.stat()
        if known.st_size > MAX_BYTES:
            return None
        is_edited = edited_text(file) is not None
        lines = _lines(file) if is_edited else _lines_then(file, known.st_size, known.st_mtime_ns)
    except (OSError, UnicodeDecodeError):
        return None
    if place.line > len(lines):
        return None
    found = lines[place.line - 1][place.column - 1 : place.column - 1 + place.length]
    return found or None
