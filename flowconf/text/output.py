"""Writes files whole or not at all: to a temporary file, which is flushed to disk and takes the place of the other."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BUFFER = 1 << 20
"""Bytes that are written at once."""


def write_output(file: Path, content: bytes) -> None:
    """Write a file that a user has named, with its folder. Raises `OSError`, and then leaves an earlier file unchanged.

    A link is followed, a device or pipe is written to, and the permissions of an earlier file stay.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and not file.is_file():
        file.write_bytes(content)
        return
    file = Path(os.path.realpath(file))
    write_atomically(file, content, mode=stat.S_IMODE(file.stat().st_mode) if file.exists() else None)


def write_atomically(file: Path, *parts: bytes | memoryview, mode: int | None = None) -> None:
    """Replace `file` by the concatenation of `parts`, with the permissions `mode`.

    Raises `OSError` with the name of the file, and then leaves the earlier file unchanged.
    """
    with replacing(file) as temporary, temporary.open("xb", BUFFER) as stream:
        if mode is not None:
            os.fchmod(stream.fileno(), mode)
        stream.writelines(parts)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A block that writes the file or folder whose path it gets, which then takes the place of `file`.

    After an exception, nothing of it is left. Raises `OSError` with the name of `file`.
    """
    temporary = file.with_name(temporary_name(file.name, str(os.getpid())))
    try:
        temporary.unlink(missing_ok=True)  # of a killed process, or a link to another file
        yield temporary
        temporary.replace(file)
        sync_folder(file.parent)
    except BaseException as problem:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(problem, OSError):
            problem.filename, problem.filename2 = str(file), None
        raise


def temporary_name(name: str, process: str) -> str:
    """The name under which a process writes a file before it takes its place."""
    return f".{name}.{process}.tmp"


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk. Raises `OSError`."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
