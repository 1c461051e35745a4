"""The run folder: everything needed to repeat a run and to judge it. Nothing is written outside of it.

`runs/<config>/<date>_<time>[-n]/` holds `run.json` (what was run, where, how it ended), `config.yaml` (composed and
resolved), `origins.json` (where each value was written), `metrics.jsonl`, TensorBoard events, `weights.txt` (the
account of every load), `graph.dot`, `report.html`, `predictions.json`, `resources.jsonl` and `checkpoints/`. A folder
belongs to one run; the process that writes holds a lock on `metrics.jsonl`, which is released when it exits.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from flowconf.graph.weights.sources import BEST, CHECKPOINTS, CONFIG, LAST, RECORD, known_record
from flowconf.language.config import Config
from flowconf.report import Diagnostic, Place, RunError, shell_word, shown_path, why_not
from flowconf.report.origins import dotted
from flowconf.text.output import sync_folder, temporary_name, write_atomically
from flowconf.text.write import describe, dump
from flowconf.train.runs import lock
from flowconf.train.runs.environment import environment
from flowconf.train.runs.log_reader import no_link
from flowconf.train.runs.loggers import Aside
from flowconf.train.runs.media import NO_MEDIA, Media
from flowconf.train.runs.repository import git_state
from flowconf.train.runs.resources import RESOURCES
from flowconf.train.runs.resume import portable
from flowconf.train.runs.tensorboard import EventFile
from flowconf.train.runs.writer import Writer
from flowconf.train.stopping import uninterrupted

Prunes = Callable[[Mapping[str, float]], bool]
"""Whether to end a run early, given the losses and metrics of an evaluation."""
CHUNK = 1 << 16
Statistics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Kind -> path -> name -> value."""
BETWEEN_LOOKS = 1.0
"""Seconds."""


@dataclass
class Run:
    """A run folder, from its creation to the end of the run.

    `open` takes the lock. Nothing is written before `begin`, which is called once everything is restored.
    """

    folder: Path
    record: dict[str, Any]
    document: Mapping[str, Any] | None = None
    """A changed config, which replaces the one that the run was started with."""
    loggers: Sequence[Aside] = field(init=False, default=(), repr=False)
    """Who else receives the numbers."""
    prunes: Prunes | None = field(init=False, default=None, repr=False)
    """The decision of a sweep about an evaluation."""
    pruned: bool = field(init=False, default=False, repr=False)
    """Whether the sweep has ended the run early."""
    write_report: Callable[[bool], None] | None = field(init=False, default=None, repr=False)
    """Writes the report of the run so far; at the end, with True."""
    _lines: TextIO | None = field(init=False, default=None, repr=False)
    _events: EventFile | None = field(init=False, default=None, repr=False)
    _resources: TextIO | None = field(init=False, default=None, repr=False)
    _writer: Writer = field(init=False, default_factory=Writer, repr=False)
    _next_look: float = field(init=False, default=0.0, repr=False)
    _tensorboard: bool = field(init=False, default=False, repr=False)
    _began: bool = field(init=False, default=False, repr=False)

    @property
    def id(self) -> str:
        return str(self.record.get("id", ""))

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    def open(self, tensorboard: bool) -> None:
        """Lock the run. Raises `RunError` if another process holds the lock."""
        with self._writing():
            self._lines, self._tensorboard = lock.take(self.folder), tensorboard

    def begin(self, size: int = 0, step: int = 0) -> list[str]:
        """Record that the run continues after `step` steps, when its log had `size` bytes, and open the logs.

        Later entries are dropped, because they will be logged again. Returns a note if a part of the log is lost.
        """
        with self._writing():
            assert self._lines is not None
            for folder, name in self._written_whole():
                for leftover in folder.glob(temporary_name(name, "*")):
                    leftover.unlink()
            self.checkpoints.mkdir(exist_ok=True)
            kept = whole_lines(self.folder / lock.LINES, size)
            self._lines.truncate(kept)
            if self.document is not None:
                write_atomically(self.folder / CONFIG, dump(self.document).encode())
            self.update()
            if self._tensorboard:
                self._events = EventFile(self.folder)
                self._events.restart(step)
        lost = f"`{lock.LINES}` had {size:,} bytes when the checkpoint was saved, and {kept:,} of them are left"
        return [lost] if kept < size else []

    def _written_whole(self) -> Iterator[tuple[Path, str]]:
        """The files of which a process that was killed may have left a part, each with its folder."""
        yield from ((self.folder, name) for name in (RECORD, CONFIG))
        yield from ((self.checkpoints, name) for name in (LAST, BEST, "step_*.safetensors"))

    def size(self) -> int:
        """The bytes of the log so far."""
        with self._writing():
            self._check_there()
            assert self._lines is not None
            self._lines.flush()
            return self._lines.tell()

    def log(self, step: int, values: Mapping[str, float], media: Media = NO_MEDIA, /, **more: object) -> None:
        """Log named numbers, images, histograms and texts for one step, in the buffered logs.

        Images become files; `more` goes into the JSON line alone.
        """
        with self._writing():
            for image in media.images.values():
                self._check_there()
                image.file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(image.file, image.png)
        self._log({"step": step, **more, **values, **media.as_data(self.folder)}, values, media)

    def log_statistics(self, step: int, found: Statistics, **more: object) -> None:
        """Log values by kind, path and name for one step, such as `gradient`, `stem.weight`, `norm`.

        They are one entry of the JSON line; TensorBoard and loggers get them as `gradient/norm/stem.weight`.
        """
        values = {
            f"{kind}/{name}/{path}": value
            for kind, paths in found.items()
            for path, named in paths.items()
            for name, value in named.items()
        }
        self._log({"step": step, **more, "statistics": found}, values, NO_MEDIA)

    def log_resources(self, step: int, found: Mapping[str, float]) -> None:
        """Log what training takes at one step. Loggers do not get it."""
        with self._writing():
            if self._resources is None:
                log = open(self.folder / RESOURCES, "a", encoding="utf-8", opener=no_link)  # noqa: SIM115
                self._resources = log
            self._resources.write(json.dumps({"step": step, **found}) + "\n")

    def _log(self, line: dict[str, Any], values: Mapping[str, float], media: Media) -> None:
        with self._writing():
            assert self._lines is not None
            self._lines.write(json.dumps(line) + "\n")
            if self._events is not None:
                self._events.log(line["step"], values, media)
        for logger in self.loggers:
            logger.log(line["step"], values, media)

    def flush(self) -> None:
        """Flush the logs, so that other processes can read them."""
        with self._writing():
            assert self._lines is not None
            self._lines.flush()
            if self._events is not None:
                self._events.flush()
            if self._resources is not None:
                self._resources.flush()
            if self.write_report is not None:
                self.write_report(False)

    def save(self, write: Callable[[], None]) -> None:
        """Call `write`, which saves a checkpoint, in the background, after the save before.

        The log so far is on the disk before it, and afterwards the record notes that the run has a checkpoint.
        """
        self._writer.begin(lambda: self._save(write))

    def remove(self, files: Sequence[Path]) -> None:
        """Remove checkpoints. Raises `RunError`."""
        with self._writing():
            for file in files:
                file.unlink()
            for folder in {file.parent for file in files}:
                sync_folder(folder)

    def check(self) -> None:
        """Raise `RunError` if a save has failed or, looking once a second, if the folder was moved or deleted."""
        self._writer.check()
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + BETWEEN_LOOKS
            self._check_there()

    def wait(self) -> None:
        """Wait until the latest checkpoint is on the disk. Raises `RunError` if it could not be saved."""
        self._writer.wait()

    def update(self, **changes: object) -> None:
        """Change the record, whole or not at all."""
        self.record.update(changes)
        self._began = True
        _write_json(self.folder / RECORD, self.record)

    def end(self, status: str, **changes: object) -> BaseException | None:
        """Close the logs and record how the run ended: `finished`, `pruned`, `interrupted` or `failed`.

        The record of a run that has not begun is not changed. Returns the error of a save that failed while the run
        ended for another reason.
        """
        with uninterrupted():
            unsaved = self._writer.end()
            if status in ("finished", "pruned"):
                with self._writing():
                    self.flush()
                    self._sync()
                    self._note_end(status, changes)
            elif self._began:
                with suppress(OSError):  # the error that ended the run is reported; a full disk must not hide it
                    self._note_end(status, changes)
            with suppress(OSError):
                self.close()
        for logger in self.loggers:
            logger.close(status)
        return unsaved

    def _note_end(self, status: str, changes: Mapping[str, object]) -> None:
        self.update(status=status, ended=_now(), **changes)
        if self.write_report is not None:
            self.write_report(True)

    def close(self) -> None:
        """Close the logs once everything is written, and release the lock."""
        with ExitStack() as block:
            if self._lines is not None:
                block.callback(lock.release, self._lines)
            if self._events is not None:
                block.callback(self._events.close)
            if self._resources is not None:
                block.callback(self._resources.close)
            block.callback(self._writer.end)

    def _sync(self) -> None:
        """Sync the log to the disk."""
        assert self._lines is not None
        os.fsync(self._lines.fileno())

    def _save(self, write: Callable[[], None]) -> None:
        with self._writing():
            self._sync()
        try:
            write()
        except RunError:
            self._check_there()
            raise
        if not self.record.get("saved"):
            with self._writing():
                self.update(saved=True)

    def _check_there(self) -> None:
        """Raise `RunError` if the folder was moved or deleted: what is written would be lost."""
        assert self._lines is not None
        try:
            there = (self.folder / lock.LINES).stat()
        except FileNotFoundError:
            there = None
        mine = os.fstat(self._lines.fileno())
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            message = f"the run folder {shown_path(self.folder)} was moved or deleted during the run"
            advice = "if it was moved, resume from its last checkpoint: flowconf train --resume FOLDER"
            raise RunError(Diagnostic("FC0702", message, Place(str(self.folder)), advice=advice))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A block that writes into the folder. Raises `RunError` for an error of the operating system."""
        try:
            yield
        except OSError as problem:
            message = f"cannot write into the run folder: {why_not(problem)}"
            full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
            command = f"flowconf train --resume {shell_word(self.folder)}"
            advice = f"{'free some space' if full else 'make the folder writable'}; to resume: {command}"
            raise RunError(Diagnostic("FC0702", message, Place(str(self.folder)), advice=advice)) from problem


class Onlooker(Run):
    """A run in the processes other than rank 0, which write nothing."""

    def begin(self, size: int = 0, step: int = 0) -> list[str]:
        return []

    def size(self) -> int:
        return 0

    def _pass(self, *given: Any, **named: Any) -> Any: ...

    open = log = log_statistics = log_resources = flush = check = save = remove = update = end = _pass


def create_run(
    root: Path,
    config: Config,
    texts: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
    sweep: str = "",
) -> Run:
    """Create the folder of a new run with its config; `texts` are further files.

    `weights` are the files that weights were loaded from, by path in the graph; `""` is the whole graph. `sweep` is the
    folder of the sweep that it belongs to.

    Raises `RunError` if that is not possible; no folder is left then.
    """
    file = Path(config.composition.file).resolve()
    places = {
        dotted(path): describe(node.place, node.history)
        for path, node in config.origins.items()
        if not isinstance(node.value, dict | list)
    }
    record = {
        "id": secrets.token_hex(6),
        "config": str(file),
        "overrides": list(config.composition.overrides),
        "folder": str(Path.cwd()),
        "status": "running",
        "host": platform.node(),
        "seed": config.training.seed,
        **({"weights": dict(weights)} if weights else {}),
        **({"sweep": sweep} if sweep else {}),
        "started": _now(),
        "ended": None,
        "metrics": {},
        "git": git_state(file.parent),
        "environment": environment(),
    }
    folder = None
    try:
        folder = _new_folder(root / file.stem)
        write_atomically(folder / CONFIG, dump(portable(config)).encode())
        _write_json(folder / "origins.json", places)
        for name, text in (texts or {}).items():
            write_atomically(folder / name, text.encode())
        run = Run(folder, record)
        run.update()
    except OSError as problem:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        message = f"cannot make a run folder under `{shown_path(root)}`: {why_not(problem)}"
        raise RunError(Diagnostic("FC0702", message, Place(str(root)), "trainer.runs")) from None
    return run


def reopen_run(folder: Path, overrides: Sequence[str], document: Mapping[str, Any] | None) -> Run:
    """A run that is resumed in its folder; `document` is its changed config. Raises `ConfigError`."""
    record = known_record(folder)
    resumed = [*record.get("resumed", []), {"time": _now(), "overrides": list(overrides)}]
    record.update(status="running", ended=None, resumed=resumed, host=platform.node())
    return Run(folder, record, document)


def whole_lines(file: Path, size: int) -> int:
    """The number of bytes of the whole lines among the first `size` bytes of a file."""
    with file.open("rb") as opened:
        left = min(size, os.fstat(opened.fileno()).st_size)
        while left:
            start = max(0, left - CHUNK)
            opened.seek(start)
            end = opened.read(left - start).rfind(b"\n")
            if end >= 0:
                return start + end + 1
            left = start
    return 0


def _new_folder(parent: Path) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    _make_folder(parent)
    number = 1
    while True:
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            sync_folder(parent)
            return folder


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, and sync them to the disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _write_json(file: Path, data: Mapping[str, Any]) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    write_atomically(file, text.encode(errors="backslashreplace"))  # paths may have bytes that are not UTF-8


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
