"""Where something was written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flowconf.report.wording import printable


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

    def __str__(self) -> str:
        if self.file is None:
            return f"command line, `{printable(self.word)}`" if self.word else "<python>"
        shown = printable(shown_path(self.file))
        return f"{shown}:{self.line}:{self.column}" if self.line else shown


NOWHERE = Place()


def shown_path(file: str) -> str:
    """A path as a person at this terminal would write it."""
    if not Path(file).is_absolute():
        return file
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative
