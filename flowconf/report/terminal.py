"""Diagnostics with source excerpts, in the style of compilers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flowconf.report.diagnostic import Diagnostic
from flowconf.report.places import NOWHERE, Place


def render_text(diagnostics: Sequence[Diagnostic], colour: bool = False) -> str:
    """Diagnostics with source excerpts in which the places are marked."""
    return "\n\n".join(_window(d, _Paint(colour)) for d in diagnostics)


def wants_colour(stream: object = None) -> bool:
    """Whether to use colour on `stream` (default: standard error): it is a terminal, and `NO_COLOR` is not set."""
    stream = sys.stderr if stream is None else stream
    is_terminal = getattr(stream, "isatty", lambda: False)
    return not os.environ.get("NO_COLOR") and bool(is_terminal())


@dataclass(frozen=True)
class _Paint:
    on: bool

    def __call__(self, text: str, style: str) -> str:
        styles = {"error": "1;31", "warning": "1;33", "bold": "1", "frame": "34", "help": "36"}
        return f"\x1b[{styles[style]}m{text}\x1b[0m" if self.on else text


def _window(d: Diagnostic, paint: _Paint) -> str:
    out = [f"{paint(f'{d.severity}[{d.code}]', d.severity)}: {paint(d.message, 'bold')}"]
    marks = [(d.place, "", "^")] + [(label.place, label.message, "-") for label in d.labels]
    drawn = [mark for mark in marks if _is_readable(mark[0])]
    width = len(str(max((place.line for place, _, _ in drawn), default=0)))
    if marks[0] not in drawn and d.place != NOWHERE:
        out.append(f"{' ' * width}{paint('-->', 'frame')} {d.place}")
    for file in dict.fromkeys(place.file for place, _, _ in drawn if place.file is not None):
        here = [mark for mark in drawn if mark[0].file == file]
        arrow = "-->" if here[0] is marks[0] else ":::"
        out.append(f"{' ' * width}{paint(arrow, 'frame')} {here[0][0]}")
        out += _excerpt(file, here, width, paint)
    for mark in marks[1:]:
        if mark not in drawn:
            where = f" ({mark[0]})" if mark[0] != NOWHERE else ""
            out.append(f"{' ' * width} {paint('=', 'frame')} note: {mark[1]}{where}")
    if d.help:
        out.append(f"{' ' * width} {paint('=', 'frame')} {paint('help', 'help')}: {d.help}")
    return "\n".join(out)


def _is_readable(place: Place) -> bool:
    """Whether the line of `place` can be shown."""
    return place.file is not None and 0 < place.line <= len(_source_lines(place.file))


def _excerpt(file: str, marks: list[tuple[Place, str, str]], width: int, paint: _Paint) -> list[str]:
    text = _source_lines(file)
    bar = paint("|", "frame")
    out = [f"{' ' * width} {bar}"]
    previous = None
    for place, message, sign in sorted(marks, key=lambda mark: (mark[0].line, mark[2] != "^")):
        if previous is not None and place.line > previous + 1:
            out.append(f"{' ' * width} {paint(':', 'frame')}")
        source = text[place.line - 1]
        column = min(place.column, len(source) + 1)
        if place.line != previous:
            out.append(f"{paint(str(place.line).rjust(width), 'frame')} {bar} {source}".rstrip())
        room = max(len(source) - column + 1, 1)
        underline = sign * max(1, min(place.length, room))
        style = "error" if sign == "^" else "help"
        out.append(f"{' ' * width} {bar} {' ' * (column - 1)}{paint(f'{underline} {message}'.rstrip(), style)}")
        previous = place.line
    return out


def _source_lines(file: str) -> tuple[str, ...]:
    """The lines of a file; a file that has changed is read again."""
    try:
        known = Path(file).stat()
    except (OSError, ValueError):
        return ()
    return _read_lines(file, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=64)
def _read_lines(file: str, changed: int, size: int) -> tuple[str, ...]:
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    lines = (line.replace("\t", " ").rstrip("\r")[:400] for line in text.split("\n"))
    return tuple("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)
