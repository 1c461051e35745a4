"""Mends files by what diagnostics say: one text over another, everything around it as it was, comments included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowconf.report import ConfigError, Diagnostic, Fix, Place
from flowconf.text.output import write_output
from flowconf.text.source import current

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
    """The files of `fixes` with the fixes applied.

    Files that come with flowconf are left alone, and of two fixes that overlap the later one in the line is made.
    """
    of_place = {fix.place: fix for fix in fixes}
    texts: dict[str, str] = {}
    begun: dict[str, int] = {}
    places: list[Place] = []
    for place in sorted(of_place, key=lambda place: (place.file or "", place.line, place.column), reverse=True):
        if place.file is None or Path(place.file).is_relative_to(PACKAGE):
            continue
        try:
            source = current(place.file)
        except (OSError, ConfigError):
            continue
        start = source.offset(place.line, place.column)
        end = start + len(source.at(place))
        if start < end <= begun.get(place.file, end):
            text = texts.get(place.file, source.text)
            texts[place.file] = text[:start] + of_place[place].text + text[end:]
            begun[place.file] = start
            places.append(place)
    return Mended(texts, tuple(places[::-1]))
