"""The run folder: everything needed to repeat a run and to judge it. Nothing is written outside of it.

`runs/<config>/<date>_<time>[-n]/` holds `run.json` (what was run, where, how it ended), `config.yaml` (composed and
resolved), `origins.json` (where each value was written), `metrics.jsonl`, TensorBoard events, `weights.txt` (the
account of every load), `graph.dot` and `checkpoints/`. A folder is made by one run and written by no other; whoever
writes holds a lock on `metrics.jsonl`, which ends with the process.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from flowconf.graph.weights.sources import CHECKPOINTS, CONFIG, RECORD, record
from flowconf.report import Diagnostic, Place, RunError, shown_path, why_not
from flowconf.text.write import dump
from flowconf.train.runs.environment import environment, git_state
from flowconf.train.runs.loggers import Aside
from flowconf.train.runs.tensorboard import EventFile

LINES = "metrics.jsonl"

_locks: set[int] = set()
"""The open files through which this process holds runs."""


@dataclass
class Run:
    """One run folder, from its making to its end."""

    folder: Path
    record: dict[str, Any]
    _lines: TextIO = field(init=False, repr=False)
    _events: EventFile | None = field(init=False, default=None, repr=False)
    loggers: Sequence[Aside] = field(init=False, default=(), repr=False)
    """Who else is told the numbers."""

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    def open(self, tensorboard: bool) -> None:
        """Start the logs, or go on with them. Raises `RunError` when another process is writing them."""
        self._lines = (self.folder / LINES).open("a", encoding="utf-8")
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lines.close()
            message = f"the run {shown_path(str(self.folder))} is still going on, in another process"
            raise RunError(Diagnostic("FC0702", message, Place(str(self.folder)))) from None
        _locks.add(self._lines.fileno())
        if tensorboard:
            self._events = EventFile(self.folder)

    def rewind(self, size: int, step: int) -> None:
        """Forget what was logged after `step`, when the log had `size` bytes; it is going to be logged again."""
        self._lines.truncate(size)
        if self._events is not None:
            self._events.restart(step)

    def size(self) -> int:
        """The bytes of the log so far, which are then on the disk."""
        self._lines.flush()
        os.fsync(self._lines.fileno())
        return self._lines.tell()

    def log(self, step: int, values: Mapping[str, float], **more: object) -> None:
        """Note named numbers for one step, in the buffered logs; `more` goes into the JSON line alone."""
        self._lines.write(json.dumps({"step": step, **more, **values}) + "\n")
        if self._events is not None:
            self._events.scalars(step, values)
        for logger in self.loggers:
            logger.log(step, values)

    def flush(self) -> None:
        """Make the logs readable from outside up to here."""
        self._lines.flush()
        if self._events is not None:
            self._events.flush()

    def rewrite(self, document: Mapping[str, Any]) -> None:
        """Put a changed config in the place of the one that the run was started with."""
        temporary = self.folder / f".{CONFIG}"
        temporary.write_text(dump(document), encoding="utf-8")
        temporary.replace(self.folder / CONFIG)

    def update(self, **changes: object) -> None:
        """Change the record, whole or not at all."""
        self.record.update(changes)
        _write_json(self.folder / RECORD, self.record)

    def end(self, status: str, **changes: object) -> None:
        """Close the logs and say how the run ended: `finished`, `interrupted` or `failed`."""
        for logger in self.loggers:
            logger.close(status)
        if status == "finished":
            self.close()
            self.update(status=status, ended=_now(), **changes)
            return
        # What ended the run is being told; a disk that is full must not hide it.
        with suppress(OSError):
            self.close()
        with suppress(OSError):
            self.update(status=status, ended=_now(), **changes)

    def close(self) -> None:
        """Close the logs, and let others write them."""
        if hasattr(self, "_lines") and not self._lines.closed:
            _locks.discard(self._lines.fileno())
        for log in (getattr(self, "_lines", None), self._events):
            if log is not None:
                log.close()


class Onlooker(Run):
    """A run as the processes see it that only take part in it: nothing they say of it is written."""

    def open(self, tensorboard: bool) -> None: ...

    def rewind(self, size: int, step: int) -> None: ...

    def size(self) -> int:
        return 0

    def log(self, step: int, values: Mapping[str, float], **more: object) -> None: ...

    def flush(self) -> None: ...

    def rewrite(self, document: Mapping[str, Any]) -> None: ...

    def update(self, **changes: object) -> None: ...

    def end(self, status: str, **changes: object) -> None: ...


def release_locks() -> None:
    """In a process that was forked from one that runs: hold no run, for it may outlive that process for a moment."""
    for number in _locks:
        os.close(number)
    _locks.clear()


def create_run(
    root: Path,
    config: Path,
    overrides: Sequence[str],
    seed: int,
    document: Mapping[str, Any],
    origins: Mapping[str, str],
) -> Run:
    """Make the folder and write down what is about to be run. Raises `RunError` when that is not possible."""
    record = {
        "id": secrets.token_hex(6),
        "config": str(config.resolve()),
        "overrides": list(overrides),
        "folder": str(Path.cwd()),
        "status": "running",
        "seed": seed,
        "started": _now(),
        "ended": None,
        "metrics": {},
        "git": git_state(config.resolve().parent),
        "environment": environment(),
    }
    try:
        run = Run(_new_folder(root / config.stem), record)
        run.checkpoints.mkdir()
        (run.folder / CONFIG).write_text(dump(document), encoding="utf-8")
        _write_json(run.folder / "origins.json", origins)
        run.update()
    except OSError as problem:
        message = f"cannot make a run folder under `{root}`: {why_not(problem)}"
        raise RunError(Diagnostic("FC0702", message, Place(str(root)), "trainer.runs")) from None
    return run


def reopen_run(folder: Path, **changes: object) -> Run:
    """A run that goes on in its own folder; `changes` are noted in its record."""
    for leftover in (folder / CHECKPOINTS).glob(".*.tmp"):
        leftover.unlink()
    found = Run(folder, record(folder))
    found.checkpoints.mkdir(exist_ok=True)
    resumed = [*found.record.get("resumed", []), {"time": _now(), **changes}]
    found.record.update(status="running", ended=None, resumed=resumed)
    return found


def _new_folder(parent: Path) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _write_json(file: Path, data: Mapping[str, Any]) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(file)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
