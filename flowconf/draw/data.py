"""A picture as plain data: what `flowconf draw --format json` prints, and what the page reads.

`docs/drawing.md` describes it. A key is left out where its value is empty or zero. `VERSION` grows when a key is
removed or changes its meaning; new keys may appear at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from flowconf.draw.facts import Facts
from flowconf.draw.members import Edge, Level, Member
from flowconf.draw.secrets import with_references
from flowconf.language.settings import Checkpoint
from flowconf.report import Place, shown_path
from flowconf.report.origins import Origins

VERSION = 1


@dataclass(frozen=True)
class Marks:
    """Marks on some members of a picture: under a `title`, path -> kind and texts, and notes on the whole."""

    title: str
    members: Mapping[str, tuple[str, list[str]]]
    notes: list[str] = field(default_factory=list)


def as_data(
    whole: Member,
    facts: Facts,
    overlays: Mapping[str, Any] | None = None,
    depth: int | None = None,
    marks: Marks | None = None,
    show: str = "",
    origins: Origins | None = None,
) -> dict[str, Any]:
    """The data of a whole picture: the members, the lines of the documents that they name, and the generated source.

    `overlays` are shares of a whole by path, as `draw/heat.py` reads them. `depth` is the number of levels that a page
    shows at first; None: as many as fit. `show` is the overlay that it shows at first.
    With `origins`, texts that the document reads from the environment are shown by their references.
    """
    data: dict[str, Any] = {"format": "flowconf graph", "version": VERSION}
    data["graph"] = _plain(whole if origins is None else with_references(whole, origins))
    data["lines"] = _lines(whole)
    data["source"] = {name: [list(line) for line in one.lines] for name, one in facts.classes.items()}
    data["accounts"] = {path: list(lines) for path, lines in facts.accounts.items()}
    data["overlays"] = dict(overlays or {})
    if show:
        data["show"] = show
    if depth is not None:
        data["depth"] = depth
    if marks is not None:
        data["title"], data["notes"] = marks.title, marks.notes
        data["marks"] = {path: {"kind": kind, "texts": texts} for path, (kind, texts) in marks.members.items()}
    return data if origins is None else with_references(data, origins)


def _plain(value: Any) -> Any:
    match value:
        case Place():
            return _place(value)
        case Level():
            return {"members": [_plain(one) for one in value.members], "edges": [_plain(one) for one in value.edges]}
        case Edge():
            named = {"from": value.source, "to": value.target, "kind": value.kind}
            return named | {key: text for key in ("name", "part", "argument", "shape") if (text := getattr(value, key))}
        case Checkpoint():
            named = {key: getattr(value, key) for key in ("config", "path", "step", "at")} | {
                "rename": dict(value.rename)
            }
            return {key: text for key, text in named.items() if text}
        case tuple() | list():
            return [_plain(one) for one in value]
    if is_dataclass(value):
        shown = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        return {name: inner for name, inner in shown.items() if inner not in ("", 0, [], {}, None) or name == "id"}
    return value


def _place(place: Place) -> dict[str, Any]:
    if place.file is None:
        return {"word": place.word} if place.word else {}
    where: dict[str, Any] = {"file": shown_path(place.file)}
    if place.line:
        where |= {"line": place.line, "column": place.column, "end": block_end(place)}
    return where


def _lines(whole: Member) -> dict[str, dict[int, str]]:
    """File -> line -> text, for the lines that members were written on."""
    found: dict[str, dict[int, str]] = {}
    for member in whole.walk():
        place = member.place
        if place.file is None or not place.line:
            continue
        text, shown = _text(place.file), found.setdefault(shown_path(place.file), {})
        end = block_end(place) if member.kind not in ("graph", "input", "output") else place.line
        shown |= {line: text[line - 1] for line in range(place.line, end + 1) if line <= len(text)}
    return {file: dict(sorted(lines.items())) for file, lines in found.items() if lines}


@lru_cache(maxsize=4096)
def block_end(place: Place) -> int:
    """The last line of the block of YAML that starts at a place: its lines are indented more than the first one."""
    text = _text(place.file)
    if place.file is None or not place.file.endswith((".yaml", ".yml")) or place.line > len(text):
        return place.line
    indent = _indent(text[place.line - 1])
    below = takewhile(lambda line: not line.strip() or _indent(line) > indent, text[place.line :])
    block = [number for number, line in enumerate(below, place.line + 1) if line.strip()]
    return block[-1] if block else place.line


@lru_cache(maxsize=256)
def _text(file: str | None) -> tuple[str, ...]:
    """The lines of a file; empty if it is not a file that can be read (a document made in Python)."""
    try:
        return tuple(Path(file or "").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return ()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
