"""Runs that are watched: what is new in their folders, as a report shows it."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from flowconf.graph.weights.sources import CONFIG, RECORD
from flowconf.report import ConfigError, Diagnostic, Place, shown_path
from flowconf.train.runs.curves import Logged
from flowconf.train.runs.listing import DIED, Listed, compared, has_died, listed, records_below
from flowconf.train.runs.lock import LINES
from flowconf.train.runs.predictions import FILE as PREDICTIONS
from flowconf.train.runs.report_data import compared_settings, description, names, progress

MOST_RUNS = 200
"""The newest runs are watched; the page says how many others there are."""
BETWEEN_LOOKS = 2.0
"""Seconds between two searches for new runs."""
LONG = 1 << 21
"""The size in bytes of a log that is shown by a sketch until it is read."""
PORTION = 0.3
"""Seconds that one answer may take for reading; the page asks again at once while there is more to read."""


@dataclass
class LiveRun:
    """A run, what its record said when it was last changed, and its log as far as it is read."""

    id: str
    folder: Path
    logged: Logged
    sketch: Logged | None = None
    """Some points of a long log, which are shown until it is read."""
    listed: Listed | None = None
    about: dict[str, Any] = field(default_factory=dict)
    stamp: tuple[int, ...] = ()
    warnings: list[Diagnostic] = field(default_factory=list)
    described: int = 0
    """The number of the change that changed `about`."""
    moved: int = 0
    """The number of the change that read lines of the log."""
    replaced: int = 0
    """The number of the change that put the log in place of its sketch."""


class Watched:
    """The runs in some folders. Each of `roots` is a run folder, a folder of runs, or a folder of such folders.

    Nothing is read unless `changes` is called. Raises `ConfigError` if a folder does not exist.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = roots
        self.runs: dict[Path, LiveRun] = {}
        self._made = 0
        self._others = 0
        self._change = 0
        self._compared = 0
        self._differs: list[dict[str, Any]] = []
        self._next_look = 0.0
        self._session = secrets.token_hex(4)
        self._lock = Lock()
        for root in roots:
            records_below(root)

    def changes(self, since: str = "") -> dict[str, Any]:
        """The changes after the answer whose `change` was `since`; everything, if there is no such answer."""
        with self._lock:
            self._change += 1
            is_behind = self._advance(time.monotonic() + PORTION)
            session, _, number = since.partition("-")
            known = session == self._session and number.isdecimal() and len(number) < 20
            return self._answer(int(number) if known else 0, is_behind)

    def run(self, run_id: str) -> LiveRun | None:
        """The run with an id that an answer has given."""
        with self._lock:
            return next((run for run in self.runs.values() if run.id == run_id), None)

    def _answer(self, since: int, is_behind: bool) -> dict[str, Any]:
        shown = self._shown()
        size = sum(run.logged.log.size for run in shown)
        unread = sum(run.logged.log.behind for run in shown)
        answer: dict[str, Any] = {
            "format": "flowconf watch",
            "change": f"{self._session}-{self._change}",
            "behind": is_behind,
            "read": 1 - unread / size if size else 1.0,
            "order": [run.id for run in shown],
            "runs": {run.id: new for run in shown if (new := _new_of(run, since))},
        }
        if self._compared > since:
            answer |= {"differs": self._differs, "notes": self._notes()}
        return answer

    def _shown(self) -> list[LiveRun]:
        """The runs that have been read, oldest first."""
        shown = [run for run in self.runs.values() if run.listed is not None]
        return sorted(shown, key=lambda run: (str(run.listed and run.listed.record.get("started")), run.folder))

    def _notes(self) -> list[str]:
        warnings = (warning for run in self.runs.values() for warning in run.warnings)
        notes = [f"{shown_path(warning.place.file or '')}: {warning.message}" for warning in warnings]
        return [f"{self._others:,} older runs are not shown"] * bool(self._others) + notes

    def _advance(self, until: float) -> bool:
        """Read what is new until a time. Returns whether there is more to read."""
        is_due = time.monotonic() >= self._next_look
        if is_due:
            self._find()
            self._next_look = time.monotonic() + BETWEEN_LOOKS
        if is_due or self._are_new():
            self._describe(until)
        unread = deque(reversed(self._shown()))
        for run in unread:
            if run.moved == 0 and run.logged.log.behind > LONG and time.monotonic() < until:
                run.sketch, run.moved = Logged(run.folder / LINES), self._change
                run.sketch.sketch(self._change)
        while unread and time.monotonic() < until:
            run = unread.popleft()
            if self._read(run):
                unread.append(run)
        return bool(unread) or self._are_new()

    def _are_new(self) -> bool:
        """Whether there are runs of which nothing has been read."""
        return any(not run.stamp for run in self.runs.values())

    def _read(self, run: LiveRun) -> bool:
        """Read the next lines of a log. Returns whether it has more of them."""
        is_new = run.logged.read(self._change)
        has_more = is_new and run.logged.log.behind > 0
        if run.sketch is not None and not has_more:
            run.sketch, run.replaced, run.moved = None, self._change, self._change
        elif run.sketch is None and is_new:
            run.moved = self._change
        return has_more

    def _find(self) -> None:
        """Find the folders of runs; those that are gone are forgotten."""
        found = {file.parent: file for root in self.roots for file in _own_records(root)}
        newest = sorted(found, key=lambda folder: (folder.name, folder), reverse=True)
        self._others = len(newest[MOST_RUNS:])
        for gone in self.runs.keys() - set(newest[:MOST_RUNS]):
            del self.runs[gone]
            self._compared = self._change
        for folder in newest[:MOST_RUNS]:
            if folder not in self.runs:
                self._made += 1
                self.runs[folder] = LiveRun(str(self._made), folder, Logged(folder / LINES))

    def _describe(self, until: float) -> None:
        """Read the records that have changed, as far as there is time, and compare the runs if any has."""
        changed = False
        for run in self.runs.values():
            if time.monotonic() >= until and not run.stamp:
                continue
            changed |= self._describe_one(run)
        if not changed and self._compared < self._change:
            return
        shown = self._shown()
        runs = [run.listed for run in shown if run.listed is not None]
        for one in runs:
            one.differs = {}
        self._differs, self._compared = compared_settings(compared(runs)), self._change
        for run, name in zip(shown, names(runs), strict=True):
            assert run.listed is not None
            about = description(run.listed, name)
            if about != run.about:
                run.about, run.described = about, self._change

    def _describe_one(self, run: LiveRun) -> bool:
        """Read the record of a run if it has changed, or its process has died. Returns whether it did."""
        try:
            known = (run.folder / RECORD).lstat()
        except OSError:
            return False
        stamp = (known.st_ino, known.st_size, known.st_mtime_ns, _changed(run.folder / PREDICTIONS))
        if stamp == run.stamp and not (run.listed is not None and _has_died_or_revived(run.listed)):
            return False
        run.stamp, run.warnings = stamp, []
        links = [name for name in (RECORD, CONFIG) if (run.folder / name).is_symlink()]
        if links:
            message = f"a run is not shown, because its `{links[0]}` is a link"
            run.warnings.append(Diagnostic("FC0702", message, Place(str(run.folder / links[0])), severity="warning"))
        run.listed = None if links else listed(run.folder / RECORD, run.warnings)
        return True


def _new_of(run: LiveRun, since: int) -> dict[str, Any]:
    """The new data of a run; `again` if its log is read from the start, so that all curves before are void."""
    found = dict(run.about) if run.described > since else {}
    if run.moved > since:
        logged = run.sketch or run.logged
        again = max(run.replaced, logged.restarted) > since
        curves = {name: curve.points(-1 if again else since) for name, curve in logged.curves.items()}
        found |= progress(logged) | {"again": again}
        if again or logged.media.change > since:
            found["media"] = logged.media.as_data(run.folder)
        found["curves"] = {name: new for name, new in curves.items() if new["steps"]}
    return found


def _has_died_or_revived(run: Listed) -> bool:
    """Whether the process of a running run has ended or begun since its record was read."""
    status = run.record["status"]
    return status in ("running", DIED) and has_died(run.folder, {**run.record, "status": "running"}) != (status == DIED)


def _changed(file: Path) -> int:
    """When a file was changed; 0 if there is none."""
    try:
        return file.lstat().st_mtime_ns
    except OSError:
        return 0


def _own_records(root: Path) -> Iterator[Path]:
    """The records below `root` that no link leads to."""
    try:
        files = records_below(root)
    except (OSError, ConfigError):
        return
    for file in files:
        inner = file.relative_to(root).parts[:-1]
        if not any(root.joinpath(*inner[: count + 1]).is_symlink() for count in range(len(inner))):
            yield file
