"""A disk that fails at a chosen call: the power is cut, or the system gives an error.

`Disk` counts the calls of this process that change files below a folder (opens that create, writes, truncations,
syncs, renames, unlinks, new folders), and lets the call number `at` fail. It knows what has been synced: after a power
cut, unsynced data and unsynced names of files may be lost, in any combination that a `Cut` names.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock


@dataclass(frozen=True)
class Cut:
    """What is left of unsynced data (a function of the synced part and all of it), and whether unsynced names are."""

    data: Callable[[bytes, bytes], bytes]
    names: bool


CUTS = {
    "a killed process": Cut(lambda synced, written: written, names=True),
    "empty files": Cut(lambda synced, written: synced if written.startswith(synced) else b"", names=True),
    "torn files": Cut(lambda synced, written: written[: (len(synced) + len(written) + 1) // 2], names=True),
    "lost names": Cut(lambda synced, written: synced[: len(written)].ljust(len(written), b"\0"), names=False),
}


@dataclass
class Disk:
    """Counts calls; the one with the number `at` is the last one (`cut`), or raises an error (`error`)."""

    root: Path
    at: int | None = None
    cut: Cut | None = None
    error: int | None = None
    lasting: bool = False
    """Whether all later calls raise the error too, except those that give room: unlink and truncate."""
    calls: list[str] = field(default_factory=list)
    _synced: dict[int, bytes] = field(default_factory=dict)
    """Inode -> what of the file is on the disk; nothing, if it is not listed."""
    _undo: list[tuple[Path, Callable[[], None]]] = field(default_factory=list)
    """What undoes each change of a folder that is not synced: the folder, and a call."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    """Held from the moment when the power is cut: then only the thread that cuts it changes files."""
    _is_cut: bool = False

    @contextmanager
    def attached(self) -> Iterator[Disk]:
        """A block in which files below the folder are on this disk."""
        for file in self.root.rglob("*"):
            if file.is_file():
                self._synced[file.stat().st_ino] = file.read_bytes()
        system = {name: getattr(os, name) for name in ("fsync", "replace", "unlink", "mkdir")}
        opens = builtins.open
        disk = self

        class File(io.FileIO):
            def write(self, data: bytes) -> int:  # type: ignore[override]
                def torn() -> None:
                    io.FileIO.write(self, bytes(data)[: len(data) // 2])

                with disk._lock:
                    disk._called(f"write {Path(str(self.name)).name}", torn, room=True)
                    return super().write(data)

            def truncate(self, size: int | None = None) -> int:
                with disk._lock:
                    disk._called(f"truncate {Path(str(self.name)).name}")
                    return super().truncate(size)

        def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
            if not (isinstance(file, str | Path) and set(mode) & set("wax") and disk._has(file)):
                return opens(file, mode, buffering, encoding, errors, newline, closefd, opener)
            kind = mode.replace("b", "").replace("t", "")
            with disk._lock:
                path = Path(file).absolute()
                if not path.exists():
                    disk._called(f"create {path.name}", room=True)
                    raw = File(path, kind, opener=opener)
                    disk._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))
                else:
                    raw = File(path, kind, opener=opener)
            buffered = io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

        def fsync(descriptor):
            known = os.fstat(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if not disk._has(path):
                system["fsync"](descriptor)
                return
            with disk._lock:
                disk._called(f"sync {path.name}", room=True)
                if stat.S_ISDIR(known.st_mode):
                    disk._undo = [(folder, undo) for folder, undo in disk._undo if folder != path]
                else:
                    disk._synced[known.st_ino] = path.read_bytes()

        def replace(source, target):
            if not disk._has(target):
                system["replace"](source, target)
                return
            with disk._lock:
                disk._called(f"rename to {Path(target).name}", room=True)
                before = Path(target).read_bytes() if Path(target).exists() else None
                system["replace"](source, target)
                disk._undo.append((Path(target).absolute().parent, lambda: disk._rename_back(source, target, before)))

        def unlink(path, *, dir_fd=None):
            if dir_fd is not None or not disk._has(path) or not Path(path).exists():
                system["unlink"](path, dir_fd=dir_fd)
                return
            with disk._lock:
                disk._called(f"unlink {Path(path).name}")
                system["unlink"](path)

        def mkdir(path, mode=0o777, *, dir_fd=None):
            if dir_fd is not None or not disk._has(path) or Path(path).exists():
                system["mkdir"](path, mode, dir_fd=dir_fd)
                return
            with disk._lock:
                disk._called(f"mkdir {Path(path).name}", room=True)
                system["mkdir"](path, mode)
                disk._undo.append((Path(path).absolute().parent, lambda: _remove(Path(path))))

        patched = {"fsync": fsync, "replace": replace, "unlink": unlink, "mkdir": mkdir}
        with mock.patch.multiple(os, **patched), mock.patch("io.open", opened), mock.patch("builtins.open", opened):
            yield self

    def _has(self, path: str | Path) -> bool:
        return Path(path).absolute().is_relative_to(self.root)

    def _called(self, what: str, torn: Callable[[], None] = lambda: None, room: bool = False) -> None:
        """Count a call. The power is cut, or the error raised, in the middle of it (`torn`)."""
        if self._is_cut:
            return
        self.calls.append(what)
        number = len(self.calls) - 1
        if self.at is None or number < self.at:
            return
        if self.cut is not None:
            torn()
            self.lose(self.cut)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.error is not None and (number == self.at or (self.lasting and room)):
            torn()
            raise OSError(self.error, os.strerror(self.error))

    def lose(self, cut: Cut) -> None:
        """Leave on the disk what is left after a power cut."""
        self._is_cut = True
        for file in self.root.rglob("*"):
            if file.is_file():
                written, synced = file.read_bytes(), self._synced.get(file.stat().st_ino, b"")
                if written != synced:
                    _overwrite(file, cut.data(synced, written))
        for _, undo in [] if cut.names else reversed(self._undo):
            undo()

    def _rename_back(self, source: Path, target: Path, before: bytes | None) -> None:
        if not Path(target).exists():
            return
        Path(target).replace(source)
        if before is not None:
            Path(target).write_bytes(before)


_OPEN = builtins.open


def _overwrite(file: Path, data: bytes) -> None:
    with _OPEN(file, "r+b") as opened:
        opened.truncate(0)
        opened.write(data)


def _remove(folder: Path) -> None:
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
