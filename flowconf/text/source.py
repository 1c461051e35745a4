"""The text of a YAML or TOML file, and the lines and columns of offsets in it."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from flowconf.report import (
    Advice,
    ConfigError,
    Diagnostic,
    Place,
    Reporter,
    Suggestion,
    shell_word,
    shown_path,
    why_not,
)
from flowconf.text.near_files import near_path

MAX_BYTES = 4_000_000
"""A larger file is refused before it is read."""

MAX_LENGTH = 1_000
"""Longer values are marked up to here."""
MAX_MISTAKES = 100
"""The most mistakes and warnings that are reported for one file."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_WIDE_MARKS = ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


class Source:
    """A text with the name of its file; offsets count characters from 0."""

    def __init__(self, text: str, file: str | None) -> None:
        self.text = text
        self.file = file
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, start: int, end: int | None = None) -> Place:
        """The place of the characters from `start` up to `end`, cut at the end of the line. Nothing has no length."""
        start = min(start, len(self.text))
        line = bisect_right(self._starts, start)
        first, after = self._starts[line - 1], self._starts[line] if line < len(self._starts) else len(self.text) + 1
        stop = min(after - 1, start + MAX_LENGTH)
        if end is not None and end < stop:
            stop = end
        length = len(self.text[start:stop].rstrip())
        return Place(self.file, line, start - first + 1, length or int(start != end))

    def offset(self, line: int, column: int) -> int:
        """The offset of a line and column that both start at 1."""
        return self._starts[min(line, len(self._starts)) - 1] + column - 1

    def at(self, place: Place) -> str:
        """The text at a place of the file; empty if it has no such place."""
        if not 0 < place.line <= len(self._starts):
            return ""
        stop = self._starts[place.line] - 1 if place.line < len(self._starts) else len(self.text)
        start = self.offset(place.line, place.column)
        return self.text[start : min(start + place.length, stop)]

    def line(self, offset: int) -> str:
        """The line of `offset`, at most its first 1,000 characters."""
        start = self._starts[bisect_right(self._starts, offset) - 1]
        return self.text[start : start + MAX_LENGTH].split("\n", 1)[0]


class Notes(Reporter):
    """The mistakes of one file, at most a hundred."""

    def add(self, finding: Diagnostic) -> None:
        """Add one mistake; the hundredth raises all of them."""
        super().add(finding)
        if len(self.diagnostics) >= MAX_MISTAKES:
            self.stop_on_errors()
            self.diagnostics.pop()


_edited: ContextVar[Mapping[str, str]] = ContextVar("edited", default=MappingProxyType({}))
"""Absolute file -> the text that is read instead of its own."""


@contextmanager
def edited(texts: Mapping[str, str]) -> Iterator[None]:
    """A block in which files have other texts than on the disk, so that a change can be checked before it is made.

    In a block within another one, the other files have the texts of the outer one.
    """
    before = _edited.set(MappingProxyType({**_edited.get(), **texts}))
    try:
        yield
    finally:
        _edited.reset(before)


def edited_text(file: str | os.PathLike[str]) -> str | None:
    """The text that a file has in a block of `edited`, or None for its own."""
    return _edited.get().get(os.fspath(file))


def load(file: str | os.PathLike[str], text: str | None = None) -> Source:
    """The text of a file as UTF-8, or `text` as its content.

    Raises `ConfigError`: FC0001 where the file is missing, not a file, too large, binary, or not UTF-8; FC0002 for
    control characters.
    """
    name = str(absolute(file))
    source = Source(_decoded(name) if text is None else text, name)
    if len(source.text) > MAX_BYTES:
        raise _unreadable(name, f"the text has {len(source.text):,} characters; the limit is {MAX_BYTES:,}")
    bad = _CONTROL.search(source.text)
    if bad is not None and bad.group() == "\0":
        message = f"`{Path(name).name}` contains a NUL character, as binary files do"
        raise ConfigError(Diagnostic("FC0001", message, source.place(bad.start(), bad.end())))
    if bad is not None:
        message = f"the control character U+{ord(bad.group()):04X} is not allowed in a config"
        raise ConfigError(Diagnostic("FC0002", message, source.place(bad.start(), bad.end()), advice="remove it"))
    return source


def current(file: str) -> Source:
    """The text of a file as it is now. Raises `OSError` and `ConfigError`."""
    return _loaded(file, edited_text(file) or Path(file).stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _loaded(file: str, changed: int | str) -> Source:
    """The text of a file as it was at the time `changed`, or as it is edited."""
    return load(file)


def absolute(file: str | os.PathLike[str]) -> Path:
    """The file's absolute path without `..`; links are not followed. Raises `ConfigError` for what can name no file."""
    if "\0" in os.fspath(file):
        raise _unreadable(str(file), "a file name cannot contain a NUL character")
    return Path(os.path.normpath(Path(file).absolute()))


def _decoded(name: str) -> str:
    path = Path(name)
    text = edited_text(name)
    if text is not None:
        return text
    try:
        if not path.exists():
            raise _unreadable(name, f"there is no file `{path.name}`", _neighbour(path))
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise _unreadable(name, f"`{path.name}` is {kind}", _inside(path))
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _unreadable(name, f"`{path.name}` has {size:,} bytes; the limit is {MAX_BYTES:,}")
        raw = path.read_bytes()
    except OSError as error:
        raise _unreadable(name, f"`{path.name}` cannot be read: {why_not(error)}") from error
    for mark, encoding in _WIDE_MARKS:
        if raw.startswith(mark):
            message = f"`{path.name}` is {encoding} text"
            raise ConfigError(Diagnostic("FC0001", message, Place(name, 1, 1), advice="save it as UTF-8"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = Source(raw[: error.start].decode("utf-8", "replace"), name)
        place = before.place(len(before.text))
        message, advice = f"byte 0x{raw[error.start]:02x} is not valid UTF-8", "save the file as UTF-8"
        if b"\0" in raw:
            message, advice = f"`{path.name}` is a binary file: {message}", "name a text file"
        raise ConfigError(Diagnostic("FC0001", message, place, advice=advice)) from error


def _neighbour(path: Path) -> Advice | None:
    """The help for a missing file: the file beside it with the nearest name."""
    if "=" in path.name or path.name.startswith("~"):
        return "give the file first, and the overrides after it"
    endings = (path.suffix or ".yaml", ".yaml", ".yml", ".toml")
    for folder in ("", "configs"):
        close = near_path(shown_path(path.parent / folder / path.name), Path(), endings)
        if close is not None:
            return Suggestion(close)
    return None if path.parent.is_dir() else f"the folder `{path.parent.name}` does not exist"


def _inside(path: Path) -> Advice | None:
    """The help for a folder in the place of a file: how a run is continued, or a config in the folder."""
    if next(path.glob("run.json"), None) or next(path.glob("*/run.json"), None):
        return f"a run is continued by `flowconf train --resume {shell_word(shown_path(path))}`"
    first = min(path.glob("*.yaml"), default=None)
    return f"write the file of a config, such as `{shown_path(first)}`" if first is not None else None


def _unreadable(name: str, message: str, advice: Advice | None = None) -> ConfigError:
    return ConfigError(Diagnostic("FC0001", message, Place(name), advice=advice))


def within(place: Place, text: str, offset: int, length: int) -> Place | None:
    """The place of a part of `text`, a value at `place` that is written in another way: over several lines, or with
    escapes. None where it is unclear.
    """
    try:
        raw = current(str(place.file))
    except (OSError, ConfigError):
        return None
    where = _where(raw, place.line, place.column, text)
    if offset >= len(where) or text[offset].isspace():
        return None
    start, last = where[offset], min(offset + length, len(where)) - 1
    return raw.place(start, max(where[last] + 1, start + 1))


@lru_cache(maxsize=16)
def _where(raw: Source, line: int, column: int, text: str) -> tuple[int, ...]:
    """The offset of each character of `text`, a value that begins there, as far as file and value agree."""
    at = raw.offset(line, column)
    if raw.text[at : at + 1] in "|>":
        at = raw.text.find("\n", at)
    quote = next((quote for quote in _QUOTES if raw.text.startswith(quote, at)), "")
    at += len(quote)
    blank = _ESCAPED_BLANK if quote.startswith('"') else _BLANK
    found: list[int] = []
    for sign in text:
        if sign.isspace():
            found.append(at)
            continue
        at = blank.match(raw.text, at).end()  # type: ignore[union-attr]
        length = _length_of(sign, raw.text, at, quote)
        if not length:
            break
        found.append(at)
        at += length
    return tuple(found)


_QUOTES = ('"""', "'''", '"', "'")
_BLANK = re.compile(r"\s*")
_ESCAPED_BLANK = re.compile(r"(?:\s|\\[nrtN_ \n])*")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([\"\\/]))")


def _length_of(sign: str, text: str, at: int, quote: str) -> int:
    """How many characters of the file write `sign` there; 0 when they do not."""
    escape = _ESCAPE.match(text, at) if quote.startswith('"') else None
    if escape is not None:
        number = escape[1] or escape[2] or escape[3]
        return len(escape.group()) if sign == (chr(int(number, 16)) if number else escape[4]) else 0
    if quote == "'" and sign == "'":
        return 2 * text.startswith("''", at)
    return text.startswith(sign, at)
