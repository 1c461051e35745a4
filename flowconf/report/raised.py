"""The line of user code that raised an exception."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

from flowconf.report.places import Place

FOLDERS = (str(Path(__file__).parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
OTHERS = tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in FOLDERS)
"""The folders of flowconf, of Python itself and of installed packages."""


def raised_at(problem: BaseException) -> Place | None:
    """The innermost line of the user's files in the traceback of an exception, or None."""
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    if not own:
        return None
    frame = own[-1]
    length = (frame.end_colno or 0) - (frame.colno or 0) if frame.end_lineno == frame.lineno else 0
    return Place(frame.filename, frame.lineno or 0, (frame.colno or 0) + 1, max(length, 1))


def _is_own(file: str) -> bool:
    return not file.startswith("<") and not os.path.realpath(file).startswith(OTHERS)
