"""Text as DOT, such that a name is only ever a name: no attribute, no markup, no link that runs something.

Graphviz reads `\\`, `"` and HTML entities (`&#27;`) in a quoted text. Control characters are written as their escapes,
because no XML may hold them, so that every picture is a well-formed SVG.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from flowconf.report import Place, printable, shown_path


@dataclass(frozen=True)
class Lines:
    """A label of several lines; `ending` is DOT's letter for centred (n) or left-justified (l) ones."""

    lines: Sequence[str]
    ending: str = "n"


Attributes = Mapping[str, str | Lines]


def quoted(text: str | Lines) -> str:
    """A text or label in DOT's quotes."""
    if isinstance(text, str):
        return f'"{_escaped(text)}"'
    joined = f"\\{text.ending}".join(map(_escaped, text.lines))
    return f'"{joined}\\l"' if text.ending == "l" else f'"{joined}"'


def attributes(given: Attributes) -> str:
    """An attribute list, in brackets. The names are DOT's own, the values any text."""
    return f"[{', '.join(f'{name}={quoted(value)}' for name, value in given.items())}]"


def link(place: Place) -> dict[str, str]:
    """The attributes that lead from a node to the place where it was written; a link is always a path."""
    if place.file is None:
        return {}
    path = quote(os.fsencode(shown_path(place.file)))
    return {"tooltip": str(place), "URL": f"{path}#L{place.line}" if place.line else path}


def _escaped(text: str) -> str:
    plain = printable(text.replace("\n", " "))
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
