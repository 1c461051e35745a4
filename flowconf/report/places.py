"""Source locations."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from flowconf.report.wording import printable, shortened

LONGEST = 200
"""Longer words of the command line are cut where they are shown."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: a position in a file, or a word of the command line.

    `line` and `column` start at 1, and 0 means unknown. `length` is in characters.
    """

    file: str | None = None
    line: int = 0
    column: int = 0
    length: int = 1
    word: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether it is a line of a file or a word of the command line, rather than a whole file or nothing."""
        return self.line > 0 or self.word is not None

    def holds(self, text: str) -> bool:
        """Whether the place has the length of `text`, with or without quotes."""
        return self.file is not None and self.line > 0 and self.length - len(text) in (0, 2)

    def __str__(self) -> str:
        if self.file is None:
            return f"command line, `{shortened(printable(self.word), LONGEST)}`" if self.word else "<python>"
        shown = printable(shown_path(self.file))
        return f"{shown}:{self.line}:{self.column}" if self.line else shown


NOWHERE = Place()


_reader: ContextVar[str] = ContextVar("reader", default=os.curdir)
"""The folder that the reader of a message is in."""


@contextmanager
def read_from(folder: str) -> Iterator[None]:
    """A block whose messages are for a reader in `folder`, an absolute path, whatever the current folder is."""
    before = _reader.set(folder)
    try:
        yield
    finally:
        _reader.reset(before)


def shell_word(file: str | os.PathLike[str]) -> str:
    """A path as `shown_path` shows it, quoted for a command that is copied into a shell."""
    shown = shown_path(file)
    return shlex.quote(f"./{shown}" if shown.startswith("-") else shown)


def shown_path(file: str | os.PathLike[str]) -> str:
    """A path relative to the folder of the reader if it is below it, and unchanged otherwise."""
    if not Path(file).is_absolute():
        return os.fspath(file)
    relative = os.path.relpath(file, _reader.get())
    return os.fspath(file) if relative.startswith("..") else relative
