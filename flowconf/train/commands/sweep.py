"""`train -m`: one run for each combination of values, with Hydra's sweepers and launchers."""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from flowconf.graph.weights.sources import record
from flowconf.language import projects
from flowconf.language.config import RULES
from flowconf.language.sections.checks import direction
from flowconf.report import (
    ConfigError,
    Diagnostic,
    FlowconfError,
    RunError,
    json_line,
    printable_lines,
    raised_at,
    render_text,
    shown_path,
)
from flowconf.text import Composition, Turn, sweep_folder
from flowconf.text import sweep as sweep_text
from flowconf.train.checks import road
from flowconf.train.checks.road import Walk
from flowconf.train.commands.train import train_checked
from flowconf.train.runs.listing import DIED, aligned, has_died
from flowconf.train.screen import Screen, number
from flowconf.train.stopping import ending_together, interruptible, survive_signals
from flowconf.train.team.launch import environment

LINES = "runs.jsonl"
"""In a sweep's folder: a line when a run has its folder, and one when it fails."""
FAILED, INTERRUPTED = "failed", "interrupted"
SAFE_PATH = "PYTHONSAFEPATH"
"""With this environment variable, processes of a launcher import nothing from the current folder when they start."""
ENDING = "ending"
"""In a sweep's folder: a file that ends the runs of a launcher's processes."""


def sweep(file: str, overrides: Sequence[str], verbose: bool = False) -> None:
    """`flowconf train -m FILE`: one run for each combination, with Hydra's sweepers and launchers.

    A table of the runs is printed at the end, also if the sweep is interrupted. Raises `RunError` if any run failed.
    """
    warnings = projects.import_project(Path(os.path.realpath(file)).parent)
    if warnings:
        sys.stderr.write(f"{render_text(warnings)}\n\n")
    jobs, folder, screen = Jobs(verbose), sweep_folder("runs", file), Screen()
    try:
        with environment({SAFE_PATH: "1"}), ending_together(folder / ENDING, lambda: jobs.trains):
            sweep_text(file, overrides, RULES, jobs.run, folder, check=jobs.check)
    finally:
        begun = read_runs(folder)
        for line in table(begun, list(jobs.walks)) if begun else []:
            screen.say(line)
    if any(run.status == INTERRUPTED for run in begun):
        raise KeyboardInterrupt
    failed = [" ".join(run.overrides) for run in begun if run.status == FAILED]
    if failed:
        message = f"{len(failed)} of the sweep's runs failed: {', '.join(f'`{words}`' for words in failed[:10])}"
        raise RunError(Diagnostic("FC0702", message))


class Jobs:
    """The runs of a sweep, all of which are checked before the first one starts."""

    def __init__(self, verbose: bool = False) -> None:
        self.walks: dict[tuple[str, ...], Walk] = {}
        self.verbose = verbose
        self.common: set[str] | None = None
        """The words that all runs have, of a sweep whose runs are known before the first one."""
        self.process = os.getpid()
        self.safe_path = SAFE_PATH in os.environ
        self.trains = False
        """Whether a run is being trained in this process, not in one of a launcher."""
        self.projects = projects.imported()
        """The projects imported in this process, to be imported in each process that a launcher starts."""

    def check(self, composition: Composition, looks: str | None) -> None:
        """Raise `ConfigError` for an invalid config, or if the direction `looks` contradicts `trainer.best`."""
        projects.import_again(self.projects)
        if composition.overrides not in self.walks:
            self.walks[composition.overrides] = road.composed(composition).to(road.BEFORE_TORCH)
        walk = self.walks[composition.overrides]
        training = walk.checked.training
        wanted = "maximize" if direction(training) == "max" else "minimize"
        if looks is not None and looks != wanted:
            best = training.trainer.best
            place = composition.document.origins.value(("trainer", "best"))
            better = "larger" if wanted == "maximize" else "smaller"
            message = f"the sweeper's direction is `{looks}`, but `{best}` is better when it is {better}"
            raise ConfigError(Diagnostic("FC0123", message, place, advice=f"write `hydra.sweeper.direction={wanted}`"))
        walk.to(road.END)

    def run(self, composition: Composition, turn: Turn) -> float:
        """Train one run; returns the objective of the sweeper, the best value of `trainer.best`.

        In a process of a launcher it is NaN if the run is interrupted: an exception would end the other processes,
        which may still be saving.
        """
        if not self.safe_path:
            os.environ.pop(SAFE_PATH, None)
        asked = (turn.folder / ENDING).exists()
        if os.getpid() != self.process:
            survive_signals()
            parent, result = os.getppid(), math.nan
            with suppress(KeyboardInterrupt), interruptible():
                result = result if asked else self._train(composition, turn)
            if os.getppid() != parent:
                os._exit(0)  # the sweep was killed, and would leave this process behind
            return result
        if asked:
            raise KeyboardInterrupt
        self.trains = True
        try:
            return self._train(composition, turn)
        finally:
            self.trains = False

    def _train(self, composition: Composition, turn: Turn) -> float:
        projects.import_again(self.projects)
        walk = self.walks[composition.overrides]
        training = walk.checked.training
        words = " ".join(composition.overrides)
        run = SweepRun(turn.number, list(composition.overrides), training.trainer.best, direction(training))
        if self.common is None:
            self.common = _common(list(self.walks)) if len(self.walks) == turn.total else set()
        total = f" of {turn.total}" if turn.total else ""
        Screen().say(f"\nrun {turn.number}{total}: {_varying(composition.overrides, self.common)}")
        try:
            # An earlier run may have trained the config that this one loads weights from.
            again = walk.again("weights")
            folder = train_checked(again, verbose=self.verbose, opened=lambda folder: run.note(turn.folder, folder))
        except Exception as problem:  # noqa: BLE001 - a user's module may raise anything; the other runs continue
            told = render_text(problem.diagnostics) if isinstance(problem, FlowconfError) else _short(problem)
            sys.stderr.write(printable_lines(f"\n{told}\nthe run with `{words}` failed\n"))
            run.note(turn.folder, run.folder, FAILED)
            return -math.inf if run.mode == "max" else math.inf
        metrics: dict[str, float] = record(folder)["metrics"]
        return metrics.get(training.trainer.best, float("nan"))


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

    def note(self, sweep: Path, folder: str | os.PathLike[str] | None, status: str = "") -> None:
        """Append what is known to the file of the sweep."""
        self.folder, self.status = None if folder is None else str(Path(folder).absolute()), status
        sweep.mkdir(parents=True, exist_ok=True)
        with (sweep / LINES).open("a", encoding="utf-8") as lines:
            lines.write(f"{json_line(asdict(self))}\n")

    @property
    def value(self) -> float | None:
        """The value that is monitored, of a finished run."""
        found = (
            record(Path(self.folder))["metrics"].get(self.best) if self.folder and self.status == "finished" else None
        )
        return None if found is None or math.isnan(found) else float(found)


def read_runs(sweep: Path) -> list[SweepRun]:
    """The runs of a sweep that have begun, by number, with their status from their records."""
    try:
        lines = (sweep / LINES).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    last = {found["number"]: SweepRun(**found) for found in map(json.loads, lines)}
    for run in last.values():
        known = record(Path(run.folder)) if run.folder else {}
        if known and not run.status:
            run.status = DIED if has_died(Path(str(run.folder)), known) else str(known.get("status"))
    return [last[number] for number in sorted(last)]


def table(runs: Sequence[SweepRun], planned: Sequence[tuple[str, ...]] = ()) -> list[str]:
    """The runs of a sweep as lines, and those that were `planned` and have not begun; the best one is marked."""
    begun = [tuple(run.overrides) for run in runs]
    left = [words for words in planned if words not in begun]
    common = _common([*begun, *left])
    names = list(dict.fromkeys(run.best for run in runs))
    best = _best(runs) if len(names) == 1 else None
    rows = [["run", "overrides", "status", " or ".join(names), "folder"]]
    for run in runs:
        value = "-" if run.value is None else number(run.value) + (" (best)" if run is best else "")
        folder = shown_path(run.folder) if run.folder else "-"
        rows.append([str(run.number), _varying(run.overrides, common), run.status, value, folder])
    rows += [["-", _varying(words, common), "not started", "-", "-"] for words in left]
    others = Counter(run.status for run in runs if run.status != "finished")
    counts = [
        f"{len(runs)} run{'' if len(runs) == 1 else 's'}",
        *(f"{count} {status}" for status, count in others.items()),
    ]
    return ["", f"{', '.join(counts)}:", *aligned(rows)]


def _common(runs: Sequence[Sequence[str]]) -> set[str]:
    """The words that all runs have, if there are several."""
    return set.intersection(*map(set, runs)) if len(runs) > 1 else set()


def _varying(words: Sequence[str], common: set[str]) -> str:
    return " ".join(word for word in words if word not in common) or "-"


def _best(runs: Sequence[SweepRun]) -> SweepRun | None:
    known = [(run.value, run) for run in runs if run.value is not None]
    if not known:
        return None
    choose = max if known[0][1].mode == "max" else min
    return choose(known, key=lambda pair: pair[0])[1]


def _short(problem: Exception) -> str:
    place = raised_at(problem)
    raised = [] if place is None else [f"  --> {place}"]
    return "\n".join([f"{type(problem).__name__}: {problem}", *getattr(problem, "__notes__", ()), *raised])
