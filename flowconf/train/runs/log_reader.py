"""Reads the log of a run piece by piece, while another process writes it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from flowconf.report import from_json

SLICE = 1 << 18
"""The number of bytes that are read at once; a longer line is no line of a log."""
REMEMBERED = 256
SAMPLES, SAMPLED = 300, 1024
"""How many places of a log `sampled` looks at, and how many bytes at each."""
LARGEST = 1 << 30
"""The bytes of a file that is read at once."""
LARGEST_STEP = 1 << 53
"""Above it, JavaScript does not tell two whole numbers apart."""


class LogReader:
    """Reads a log from where it ended the last time.

    The log may end in part of a line. A resumed run truncates its log and appends to it, so the last bytes that were
    read are compared with the file before more is read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.size = file.stat().st_size if file.is_file() else 0
        self._at = 0
        self._last = b""
        self._seen: tuple[int, ...] = ()

    @property
    def behind(self) -> int:
        """The bytes that are not read yet, as far as they are known."""
        return max(0, self.size - self._at)

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the log is read from its start again, and its next lines, some thousand; none if nothing is new."""
        try:
            with open_regular(self.file) as log:
                return self._read(log)
        except OSError:
            return self._restart(), []

    def _read(self, log: BinaryIO) -> tuple[bool, list[dict[str, Any]]]:
        known = os.fstat(log.fileno())
        seen = (known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns)
        if seen == self._seen and not self.behind:
            return False, []
        restarts = not self._continues(log, seen) and self._restart()
        self._seen, self.size = seen, known.st_size
        log.seek(self._at)
        data = log.read(SLICE)
        end = data.rfind(b"\n") + 1 or (len(data) if len(data) == SLICE else 0)
        if not end:
            return restarts, []
        self._at += end
        self._last = (self._last + data[:end])[-REMEMBERED:]
        return restarts, list(lines_in(data[:end]))

    def _continues(self, log: BinaryIO, seen: tuple[int, ...]) -> bool:
        """Whether the file still has what was read of it."""
        if self._seen and seen[:2] != self._seen[:2]:
            return False
        log.seek(self._at - len(self._last))
        return log.read(len(self._last)) == self._last

    def _restart(self) -> bool:
        """Read from the start the next time. Returns whether anything had been read."""
        had_read = self._at > 0
        self.size, self._at, self._last, self._seen = 0, 0, b"", ()
        return had_read


def sampled(file: Path) -> Iterator[dict[str, Any]]:
    """Some lines of a long log, from all over it; none if it cannot be read."""
    try:
        with open_regular(file) as log:
            size = os.fstat(log.fileno()).st_size
            for number in range(SAMPLES):
                log.seek(max(0, size - SAMPLED) * number // (SAMPLES - 1))
                yield from lines_in(b"".join(log.read(SAMPLED).splitlines(keepends=True)[bool(number) : -1]))
    except OSError:
        return


def lines_in(data: bytes) -> Iterator[dict[str, Any]]:
    """The lines that are records of a log: JSON objects with a `step`."""
    text = data.decode("utf-8", errors="replace").strip("\n")
    try:
        found = from_json("[" + text.replace("\n", ",") + "]")
    except ValueError:
        found = [parsed(line) for line in text.split("\n")]
    for line in found:
        if isinstance(line, dict) and type(step := line.get("step")) is int and 0 <= step < LARGEST_STEP:
            yield line


def parsed(text: str) -> object:
    """The data in a text of JSON; None if it is no JSON."""
    try:
        return from_json(text)
    except ValueError:
        return None


def text_of(file: Path) -> str:
    """The text of a file of a run or sweep that is no link, pipe or device. Raises `OSError`, also if it is too large.

    Bytes that are not UTF-8 are replaced.
    """
    with open_regular(file) as opened:
        if os.fstat(opened.fileno()).st_size > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
        return opened.read().decode("utf-8", errors="replace")


def no_link(file: str, flags: int) -> int:
    """An `opener` of a file that is no link to another one. Raises `OSError`."""
    return os.open(file, flags | os.O_NOFOLLOW, 0o666)


def open_regular(file: Path) -> BinaryIO:
    """Open a file that is neither a link nor a pipe nor a device. Raises `OSError`."""
    number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(f"{file} is not a regular file")
    return os.fdopen(number, "rb")
