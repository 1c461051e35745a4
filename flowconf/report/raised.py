"""Exceptions in messages: the line of user code that raised one, and what it says."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from pathlib import Path

from flowconf.report.diagnostic import Label
from flowconf.report.places import Place

FOLDERS = (str(Path(__file__).parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
OTHERS = tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in FOLDERS)
"""The folders of flowconf, of Python itself and of installed packages."""


def raised_at(problem: BaseException) -> Place | None:
    """The innermost line of the user's files in the traceback of an exception, or None."""
    frames = traceback.extract_tb(problem.__traceback__)
    if isinstance(problem, SyntaxError) and problem.filename is not None and is_own_file(problem.filename):
        return Place(problem.filename, problem.lineno or 0, problem.offset or 1)
    own = [frame for frame in frames if is_own_file(frame.filename)]
    if not own:
        return None
    frame = own[-1]
    length = (frame.end_colno or 0) - (frame.colno or 0) if frame.end_lineno == frame.lineno else 0
    return Place(frame.filename, frame.lineno or 0, (frame.colno or 0) + 1, max(length, 1))


def raised_here(problem: BaseException) -> tuple[Label, ...]:
    """The same line as the labels of a diagnostic: one, or none."""
    place = raised_at(problem)
    return () if place is None else (Label("raised here", place),)


def first_line(problem: BaseException) -> str:
    """The first line of the message of an exception, without the final period."""
    text = re.sub(r"torch\.Size\((\[[^\]]*\])\)", r"\1", str(problem)).strip().splitlines()
    return (text[0].rstrip(".") if text else type(problem).__name__)[:300]


def is_own_file(file: str) -> bool:
    """Whether a file is neither flowconf's, nor Python's, nor of an installed package."""
    return not file.startswith("<") and not os.path.realpath(file).startswith(OTHERS)
