"""The lock that a process holds on a run folder while it writes there; it ends with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any, TextIO

from flowconf.report import Diagnostic, Place, RunError, shown_path

LINES = "metrics.jsonl"
"""The file that is locked."""
MOMENT = 0.05
"""Seconds: longer than a look whether a run is held."""

_locks: set[int] = set()
"""The open files through which this process holds runs."""


def take(folder: Path) -> TextIO:
    """The log of a run, for writing; whoever has it holds the run. Raises `RunError` when another process does."""
    lines = (folder / LINES).open("a", encoding="utf-8")
    if not _locks_alone(lines):
        time.sleep(MOMENT)
        if not _locks_alone(lines):
            lines.close()
            raise _held(folder)
    _locks.add(lines.fileno())
    return lines


def release(lines: TextIO) -> None:
    """Close the log of a run, and let others have the run. Raises `OSError` when its end cannot be written."""
    if lines.closed:
        return
    _locks.discard(lines.fileno())
    file: Any = lines.buffer
    try:
        lines.close()
    finally:
        file.raw.close()  # which holds the lock, and stays open when the end cannot be written


def is_held(folder: Path) -> bool:
    """Whether a process of this machine holds a run. Raises `OSError` when that cannot be seen."""
    try:
        with (folder / LINES).open("rb") as lines:
            fcntl.flock(lines, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def release_locks() -> None:
    """In a process that was forked from one that runs: hold no run, for it may outlive that process for a moment."""
    for number in _locks:
        os.close(number)
    _locks.clear()


def _locks_alone(lines: TextIO) -> bool:
    try:
        fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(folder: Path) -> RunError:
    message = f"the run {shown_path(str(folder))} is still going on, in another process"
    return RunError(Diagnostic("FC0702", message, Place(str(folder))))
