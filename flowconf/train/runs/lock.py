"""The lock of a run folder, held by the process that writes to it; the system releases it when the process exits."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO, Any, TextIO

from flowconf.report import Diagnostic, Place, RunError, shown_path

LINES = "metrics.jsonl"
"""The locked file."""
WRITTEN = ("checkpoints", "images", "profile")
"""The folders in a run in which files are written."""
MOMENT = 0.05
"""Seconds to wait before retrying, longer than `is_held` holds its lock."""

_locks: set[int] = set()
"""The file descriptors of the locks of this process."""


def take(folder: Path) -> TextIO:
    """Lock a run, and open its log for writing.

    Raises `RunError` if another process holds the lock, or if the log or a folder in the run leads out of it.
    """
    refuse_links(folder)
    if not _is_own(folder / LINES):
        message = f"`{LINES}` is not a regular file, so the run cannot be resumed"
        raise RunError(Diagnostic("FC0702", message, Place(str(folder / LINES)), advice="remove it"))
    lines = (folder / LINES).open("a", encoding="utf-8")
    if not locks_alone(lines):
        time.sleep(MOMENT)
        if not locks_alone(lines):
            lines.close()
            raise _held(folder)
    _locks.add(lines.fileno())
    return lines


def refuse_links(folder: Path) -> None:
    """Raise `RunError` if a folder in a run is a link: what is written there would be outside of the run."""
    inside = (Path(at, name) for top in WRITTEN for at, names, _ in os.walk(folder / top) for name in names)
    for one in (*(folder / name for name in WRITTEN), *inside):
        if one.is_symlink():
            message = f"`{one.relative_to(folder)}` is a link, and nothing is written outside of a run folder"
            advice = "replace it with the folder that it leads to"
            raise RunError(Diagnostic("FC0702", message, Place(str(one)), advice=advice))


def release(lines: TextIO) -> None:
    """Close the log of a run, and release its lock. Raises `OSError` if the buffer cannot be flushed."""
    if lines.closed:
        return
    _locks.discard(lines.fileno())
    close(lines)


def close(file: IO[Any]) -> None:
    """Close a file, and so release its lock, even if its buffer cannot be flushed, which raises `OSError`."""
    buffer: Any = getattr(file, "buffer", file)
    raw = buffer.raw
    try:
        file.close()
    finally:
        raw.close()


def is_held(folder: Path) -> bool:
    """Whether a process of this machine holds the lock of a run. Raises `OSError` if this cannot be determined."""
    if not _is_own(folder / LINES):
        return False
    try:
        with (folder / LINES).open("rb") as lines:
            fcntl.flock(lines, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def release_locks() -> None:
    """Release the inherited locks in a forked process, because it may outlive its parent for a moment."""
    for number in _locks:
        os.close(number)
    _locks.clear()


def _is_own(file: Path) -> bool:
    """Whether a file is missing or a regular one, not a link, a pipe or a device."""
    return not file.is_symlink() and (file.is_file() or not file.exists())


def locks_alone(file: IO[Any]) -> bool:
    """Lock an open file. Returns whether no other process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(folder: Path) -> RunError:
    message = f"the run {shown_path(folder)} is still running in another process"
    return RunError(Diagnostic("FC0702", message, Place(str(folder))))
