"""Standard output and standard error on which text can only appear: what would steer a terminal is escaped.

Names of files, of tensors, and whatever a message quotes come from others. So every command writes to these streams,
and what is meant to colour or to move the cursor is written through `write_drawn`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from flowconf.report.wording import printable_lines

_aside: ContextVar[bool] = ContextVar("aside", default=False)


class SafeStream:
    """A text stream that escapes control and direction characters, but for line ends and tabs.

    Example:
        >>> import io
        >>> stream = SafeStream(io.StringIO())
        >>> stream.write("\\x1b[2Ja\\n")
        6
        >>> stream.drawn.getvalue()
        '\\\\x1b[2Ja\\n'
    """

    def __init__(self, drawn: TextIO) -> None:
        self.drawn = drawn
        """The stream itself, for a program that draws."""

    def write(self, text: str) -> int:
        if _aside.get() and self is sys.stdout and self is not sys.stderr:
            return sys.stderr.write(text)
        try:
            self.drawn.write(printable_lines(text))
        except OSError as problem:
            problem.filename = problem.filename or self.drawn.name
            raise
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # bytes would pass unseen
            raise AttributeError(name)
        return getattr(self.drawn, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """A block in which standard output and standard error are safe streams; a letter that they lack is escaped too."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = SafeStream(sys.stdout), SafeStream(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def prints_aside() -> Iterator[None]:
    """A block of code of a project: what it prints in a command goes to standard error, apart from the result."""
    before = _aside.set(True)
    try:
        yield
    finally:
        _aside.reset(before)


def drawn(stream: TextIO) -> TextIO:
    """The stream below a safe one; any other one itself."""
    return stream.drawn if isinstance(stream, SafeStream) else stream


def write_drawn(text: str, stream: TextIO) -> None:
    """Write a text whose control sequences are flowconf's own, and in which everything else is escaped already."""
    drawn(stream).write(text)


def json_line(data: object) -> str:
    """`data` as one line of JSON, in ASCII: whatever is in it, a terminal shows it and any reader gets it back."""
    return json.dumps(data, default=str)
