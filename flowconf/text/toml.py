"""TOML to nodes: `tomllib` gives the data, and the scanner here the places.

The scanner runs first, with limits, because `tomllib` has none; it knows enough of the syntax to find each key and
value, and leaves every judgement to `tomllib`. Dates become strings, as in YAML. TOML has no null, so the string
"remove" is null for a member of a flow: `residual = "remove"` removes the step.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from flowconf.report import Advice, ConfigError, Diagnostic, Label, Suggestion, shortened
from flowconf.report.origins import MAX_DEPTH, MAX_VALUES, Node, Path, dotted
from flowconf.text.source import Notes, Source

REMOVE = "remove"
Span = tuple[int, int]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:[^\\"]++|\\.|"(?!""))*+"{3,5}'
    r"|'''(?:[^']++|'(?!''))*+'{3,5}"
    r"""|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*'""",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_][^,\]}\n#]*(?<=\S)")
_CALLS = r"[A-Za-z_]\w*(?:\((?:[^()\n#]|\([^()\n#]*\))*\))?"
_CALL = re.compile(rf"{_CALLS}(?:\s*>>\s*{_CALLS})*(?=[ \t]*(?:[,\]}}#\n]|$))")
"""Modules without quotes: a call, or a chain of them."""
_BARE = re.compile(r"[^,\]}\n#]*")


def parse(source: Source, flow: str | None) -> tuple[Node, tuple[Diagnostic, ...]]:
    """The tree of one TOML document, and no warnings. `flow` is the key of tables whose members can be removed.

    Raises `ConfigError`: FC0002 for the syntax, FC0003 for duplicate keys, FC0006 for too much or too deep.
    """
    scanner = _Scanner(source)
    scanner.run()
    scanner.notes.stop_on_errors()
    try:
        data = tomllib.loads(source.text)
    except RecursionError as error:
        raise ConfigError(Diagnostic("FC0006", f"nested deeper than {MAX_DEPTH} levels", source.place(0))) from error
    except ValueError as error:
        raise _syntax(source, error, flow) from error
    return _Builder(source, scanner.spans, flow).node(data, (), False), ()


def _syntax(source: Source, error: ValueError, flow: str | None) -> ConfigError:
    message, _, where = str(error).partition(" (at ")
    found = re.search(r"line (\d+), column (\d+)", where)
    offset = source.offset(int(found[1]), int(found[2])) if found else len(source.text.rstrip())
    code = "FC0003" if re.search(r"overwrite|twice|mutate|namespace", message) else "FC0002"
    words, end, advice = f"{message[:1].lower()}{message[1:]}", offset, None
    bare = _CALL.match(source.text, offset) or _WORD.match(source.text, offset)
    if message == "Invalid value" and bare is not None:
        words, end, advice = f"`{shortened(bare.group())}` is not a value", bare.end(), _meant(bare.group(), flow)
    elif message.startswith("Expected '=' after a key") and source.text.startswith(":", offset):
        advice = "write `key = value`"
    return ConfigError(Diagnostic(code, f"not valid TOML: {words}", source.place(offset, end), advice=advice))


def _meant(word: str, flow: str | None) -> Advice:
    """What to write for a bare word that is not a value."""
    if word.lower() in ("null", "none", "nil"):
        removed = f', or below `{flow}` write `"{REMOVE}"`' if flow is not None else ""
        return f"TOML has no null: leave the key out{removed}"
    if word.lower() in ("true", "yes", "on", "false", "no", "off"):
        return Suggestion("true" if word.lower() in ("true", "yes", "on") else "false", instead_of=word)
    return f'quote a string: write `"{shortened(word)}"`'


@dataclass
class _Spans:
    key: Span
    value: Span


class _Builder:
    def __init__(self, source: Source, spans: dict[Path, _Spans], flow: str | None) -> None:
        self.source = source
        self.spans = spans
        self.flow = flow

    def node(self, value: Any, path: Path, in_flow: bool) -> Node:
        spans = self.spans.get(path, _Spans((0, 1), (0, 1)))
        key, place = self.source.place(*spans.key), self.source.place(*spans.value)
        if isinstance(value, dict):
            is_flow = bool(path) and path[-1] == self.flow
            return Node({name: self.node(child, (*path, name), is_flow) for name, child in value.items()}, place, key)
        if isinstance(value, list):
            return Node([self.node(child, (*path, index), False) for index, child in enumerate(value)], place, key)
        if isinstance(value, date | time):
            value = self.source.text[slice(*spans.value)].rstrip()
        return Node(None if in_flow and value == REMOVE else value, place, key)


class _NotTomlError(Exception):
    """The text is not TOML; `tomllib` reports why."""


class _Scanner:
    """Finds the spans of all keys and values; `spans` maps a path to them."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.at = 0
        self.spans: dict[Path, _Spans] = {(): _Spans((0, 1), (0, 1))}
        self.lengths: dict[Path, int] = {}
        self.headers: set[Path] = set()
        self.notes = Notes()

    def run(self) -> None:
        table: Path = ()
        try:
            while self.skip(_BLANK) < len(self.text):
                if self.text.startswith("[", self.at):
                    table = self.header()
                else:
                    self.pair(table)
        except _NotTomlError:
            return

    def header(self) -> Path:
        """`[table]` or `[[array of tables]]`; the path below which the next pairs lie."""
        start = self.at
        is_array = self.text.startswith("[[", start)
        self.at += 2 if is_array else 1
        parts = self.key()
        self.expect("]]" if is_array else "]")
        path: Path = ()
        for name, span in parts[:-1]:
            path = self.into(path, name, span)
        name, span = parts[-1]
        if is_array:
            whole = (*path, name)
            self.note(whole, span, span)
            index = self.lengths[whole] = self.lengths.get(whole, -1) + 1
            path = (*whole, index)
        else:
            path = self.into(path, name, span)
            if path in self.headers:
                self.twice(path, span)
            self.headers.add(path)
        self.note(path, span, span)
        return path

    def into(self, path: Path, name: str, span: Span) -> Path:
        """One level down, into the last table of an array of tables."""
        path = (*path, name)
        self.note(path, span, span)
        return (*path, self.lengths[path]) if path in self.lengths else path

    def pair(self, table: Path) -> None:
        """`key = value`; the key may be dotted."""
        parts = self.key()
        self.expect("=")
        self.skip(_SPACE)
        path = table
        for name, span in parts[:-1]:
            path = (*path, name)
            self.note(path, span, span)
        name, span = parts[-1]
        path = (*path, name)
        if path in self.spans:
            self.twice(path, span)
        self.value(path, span)

    def value(self, path: Path, key: Span) -> None:
        start = self.at
        self.note(path, key, (start, start + 1))
        if self.text.startswith("[", start):
            self.array(path)
        elif self.text.startswith("{", start):
            self.inline(path)
        elif self.text.startswith(('"', "'"), start):
            self.match(_STRING)
        else:
            self.match(_BARE)
        self.spans[path].value = (start, self.at)

    def array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while self.skip(_BLANK) < len(self.text) and self.text[self.at] != "]":
            self.value((*path, index), (self.at, self.at + 1))
            self.spans[(*path, index)].key = self.spans[(*path, index)].value
            index += 1
            self.skip(_BLANK)
            if not self.text.startswith(",", self.at):
                break
            self.at += 1
        self.skip(_BLANK)
        self.expect("]")

    def inline(self, path: Path) -> None:
        self.at += 1
        while self.skip(_SPACE) < len(self.text) and self.text[self.at] != "}":
            self.pair(path)
            self.skip(_SPACE)
            if not self.text.startswith(",", self.at):
                break
            self.at += 1
        self.expect("}")

    def key(self) -> list[tuple[str, Span]]:
        """The parts of a dotted key, unquoted, with their spans."""
        parts = []
        while True:
            self.skip(_SPACE)
            start = self.at
            written = self.match(_PART)
            parts.append((_unquoted(written), (start, self.at)))
            self.skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            if len(parts) >= MAX_DEPTH:
                self.too_deep(start)
            self.at += 1

    # the text

    def skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.at

    def match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None or not found.group():
            raise _NotTomlError
        self.at = found.end()
        return found.group()

    def expect(self, sign: str) -> None:
        self.skip(_SPACE)
        if not self.text.startswith(sign, self.at):
            raise _NotTomlError
        self.at += len(sign)

    # what was found

    def note(self, path: Path, key: Span, value: Span) -> None:
        if len(path) > MAX_DEPTH:
            self.too_deep(key[0])
        self.spans.setdefault(path, _Spans(key, value))
        if len(self.spans) > MAX_VALUES:
            place = self.source.place(*key)
            raise ConfigError(Diagnostic("FC0006", f"more than {MAX_VALUES:,} values", place))

    def too_deep(self, offset: int) -> None:
        raise ConfigError(Diagnostic("FC0006", f"nested deeper than {MAX_DEPTH} levels", self.source.place(offset)))

    def twice(self, path: Path, span: Span) -> None:
        name = shortened(dotted(path))
        first = Label("first defined here", self.source.place(*self.spans[path].key))
        advice = f"remove one `{name}`, or rename it"
        place = self.source.place(*span)
        self.notes.error("FC0003", f"duplicate key `{name}`", place, labels=(first,), advice=advice)


def _unquoted(part: str) -> str:
    if part.startswith("'"):
        return part[1:-1]
    if not part.startswith('"'):
        return part
    try:
        return str(tomllib.loads(f"key = {part}")["key"])
    except ValueError as error:
        raise _NotTomlError from error
