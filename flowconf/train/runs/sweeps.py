"""The folder of a sweep: what was asked for, a line for each run, and the table of the runs.

`sweep.json` is written when the first run begins; `runs.jsonl` gets a line when a run has its folder, and one when it
fails. How a run ended, and its numbers, are in its own folder. All of it is data: nothing in these files is run.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowconf.graph.weights.records import is_number
from flowconf.graph.weights.sources import CONFIG, record
from flowconf.language.config import Config
from flowconf.language.sections.directions import direction_of_best
from flowconf.language.training import TrainingConfig
from flowconf.report import (
    ConfigError,
    Diagnostic,
    FlowconfError,
    Place,
    RunError,
    from_json,
    json_line,
    shown_path,
    why_not,
)
from flowconf.report.columns import aligned
from flowconf.text.documents import read
from flowconf.text.output import write_atomically
from flowconf.text.write import dump
from flowconf.train.runs.listing import DIED, flat, has_died, is_ignored
from flowconf.train.runs.lock import LINES as METRICS
from flowconf.train.runs.lock import locks_alone
from flowconf.train.runs.log_reader import lines_in, no_link, parsed, text_of
from flowconf.train.runs.resume import portable
from flowconf.train.screen import number

SWEEP, LINES = "sweep.json", "runs.jsonl"
FAILED, INTERRUPTED, FINISHED, PRUNED = "failed", "interrupted", "finished", "pruned"


@dataclass(frozen=True)
class Asked:
    """The command of a sweep: its config, the words of the command line, and the folder it was called in."""

    config: str
    overrides: tuple[str, ...]
    folder: str

    def note(self, sweep: Path) -> None:
        """Write it to the folder of the sweep, which is made."""
        if not (sweep / SWEEP).exists():
            sweep.mkdir(parents=True, exist_ok=True)
            write_atomically(sweep / SWEEP, (json.dumps(asdict(self), indent=2) + "\n").encode())


def is_sweep(folder: str | Path) -> bool:
    """Whether a folder is that of a sweep that has begun."""
    return (Path(folder) / SWEEP).is_file()


def asked_for(sweep: Path) -> Asked:
    """The command of a sweep. Raises `ConfigError` if its record cannot be read."""
    file = sweep / SWEEP
    try:
        found = from_json(text_of(file))
        texts = [found["config"], found["folder"], *found["overrides"]]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a text is expected")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        message = f"the record `{shown_path(file)}` of the sweep cannot be read"
        raise ConfigError(Diagnostic("FC0301", message, Place(str(file)))) from problem
    return Asked(found["config"], tuple(found["overrides"]), found["folder"])


@contextmanager
def alone(sweep: Path) -> Iterator[None]:
    """A block in which no other process runs this sweep. Raises `RunError` if one does."""
    with (sweep / SWEEP).open("rb") as opened:
        if not locks_alone(opened):
            message = f"the sweep {shown_path(sweep)} is still running in another process"
            raise RunError(Diagnostic("FC0702", message, Place(str(sweep))))
        yield


@dataclass
class SweepRun:
    """A run of a sweep: its number and words, the value that is monitored, its folder and status.

    `status` is empty until it is known. Processes of a launcher pass it on as lines of a file.
    """

    number: int
    overrides: list[str]
    best: str
    mode: str
    folder: str | None = None
    status: str = ""

    @classmethod
    def new(cls, number: int, words: Sequence[str], training: TrainingConfig) -> SweepRun:
        """A run that has not begun."""
        return cls(number, list(words), training.trainer.best, direction_of_best(training))

    def note(self, sweep: Path, folder: str | os.PathLike[str] | None, status: str = "") -> None:
        """Append what is known to the file of the sweep."""
        self.folder, self.status = None if folder is None else str(Path(folder).absolute()), status
        sweep.mkdir(parents=True, exist_ok=True)
        with open(sweep / LINES, "ab+", opener=no_link) as lines:
            torn = lines.tell() and lines.seek(-1, os.SEEK_END) >= 0 and lines.read(1) != b"\n"
            lines.write(("\n" * torn + json_line(asdict(self)) + "\n").encode())
            lines.flush()
            os.fsync(lines.fileno())

    @property
    def value(self) -> float | None:
        """The value that is monitored, of a run that was finished or pruned."""
        ended = self.folder and self.status in (FINISHED, PRUNED)
        found = record(Path(str(self.folder)))["metrics"].get(self.best) if ended else None
        return None if found is None or math.isnan(found) else float(found)

    def evaluations(self) -> list[float]:
        """The value that is monitored at each evaluation in the log of the run."""
        try:
            lines = lines_in(text_of(Path(str(self.folder)) / METRICS).encode())
        except OSError:
            return []
        values = [found.get(self.best) for found in lines]
        return [float(value) for value in values if is_number(value)]


def read_runs(sweep: Path) -> list[SweepRun]:
    """The runs of a sweep that have begun, by number, with their status from their records.

    A line that was torn by a crash is passed over: its run has not begun. Raises `ConfigError` if the file cannot be
    read.
    """
    file = sweep / LINES
    try:
        lines = text_of(file).splitlines()
    except FileNotFoundError:
        return []
    except OSError as problem:
        message = f"the runs of the sweep in `{shown_path(file)}` cannot be read: {why_not(problem)}"
        raise ConfigError(Diagnostic("FC0301", message, Place(str(file)))) from None
    last = {run.number: run for run in map(_run, lines) if run is not None}
    for run in last.values():
        known = record(Path(run.folder)) if run.folder else {}
        if not run.status:
            died = not known or has_died(Path(str(run.folder)), known)
            run.status = DIED if died else str(known.get("status"))
        elif known.get("status") in (FINISHED, PRUNED):
            run.status = known["status"]  # it was resumed by itself
    return [last[number] for number in sorted(last)]


def _run(line: str) -> SweepRun | None:
    found = parsed(line)
    kinds = {"number": int, "overrides": list, "best": str, "mode": str, "folder": str | None, "status": str}
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        return None
    well = all(isinstance(found[key], kind) for key, kind in kinds.items())
    return SweepRun(**found) if well and all(isinstance(word, str) for word in found["overrides"]) else None


def refuse_running(runs: Sequence[SweepRun]) -> None:
    """Raise `RunError` if a run of the sweep is still being trained."""
    for run in runs:
        if run.status == "running":
            message = (
                f"the run {shown_path(str(run.folder))} of the sweep is still running, or began on another machine"
            )
            raise RunError(Diagnostic("FC0702", message, Place(str(run.folder))))


def refuse_changed(run: SweepRun, config: Config) -> None:
    """Raise `ConfigError` if the config of a run is not what the sweep would start now: the files have changed."""
    if run.folder is None or not record(Path(run.folder)):
        return
    file = Path(run.folder) / CONFIG
    try:
        before = _settings(read(file).data)
    except FlowconfError:
        return  # resuming it reports what is wrong
    now = _settings(read(CONFIG, dump(portable(config))).data)
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        message = f"`{changed[0]}` has changed since the run {shown_path(run.folder)} of this sweep"
        advice = "undo the change, or start a new sweep"
        raise ConfigError(config.diagnostic("FC0702", message, tuple(changed[0].split(".")), advice))


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat(data) if not is_ignored(key) and not key.startswith("sweep.")}


def table(runs: Sequence[SweepRun], planned: Sequence[tuple[str, ...]] = ()) -> list[str]:
    """The runs of a sweep as lines, and those that were `planned` and have not begun; the best one is marked."""
    begun = {tuple(run.overrides) for run in runs}
    left = [words for words in planned if words not in begun]
    common = common_words([*begun, *left])
    names = list(dict.fromkeys(run.best for run in runs))
    best = best_of(runs) if len(names) == 1 else None
    rows = [["run", "overrides", "status", " or ".join(names), "folder"]]
    for run in runs:
        value = "-" if run.value is None else number(run.value) + (" (best)" if run is best else "")
        folder = shown_path(run.folder) if run.folder else "-"
        rows.append([str(run.number), varying(run.overrides, common), run.status, value, folder])
    rows += [["-", varying(words, common), "not started", "-", "-"] for words in left]
    others = Counter(run.status for run in runs if run.status != FINISHED)
    counts = [
        f"{len(runs)} run{'' if len(runs) == 1 else 's'}",
        *(f"{count} {status}" for status, count in others.items()),
    ]
    return ["", f"{', '.join(counts)}:", *aligned(rows)]


def common_words(runs: Sequence[Sequence[str]]) -> set[str]:
    """The words that all runs have, if there are several."""
    return set.intersection(*map(set, runs)) if len(runs) > 1 else set()


def varying(words: Sequence[str], common: set[str]) -> str:
    """The words of a run that not all runs have."""
    return " ".join(word for word in words if word not in common) or "-"


def best_of(runs: Sequence[SweepRun]) -> SweepRun | None:
    """The best of the finished runs."""
    known = [(run.value, run) for run in runs if run.value is not None and run.status == FINISHED]
    if not known:
        return None
    choose = max if known[0][1].mode == "max" else min
    return choose(known, key=lambda pair: pair[0])[1]
