"""`train -m`: one run for each combination of values, with Hydra's sweepers and launchers, or the trials of a search.

A sweep that was interrupted or killed can be resumed: finished runs are not trained again, the others are resumed.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flowconf.language import projects
from flowconf.language.config import RULES
from flowconf.language.sections.directions import direction_of_best
from flowconf.language.training import LATEST
from flowconf.report import ConfigError, Diagnostic, Place, RunError, listing, render_text, shell_word
from flowconf.text.compose import Composition, Turn, multirun, sweep_folder
from flowconf.train.checks import road
from flowconf.train.checks.road import Walk
from flowconf.train.commands.search import Search, search_of
from flowconf.train.commands.swept import carry_out
from flowconf.train.runs.sweeps import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    Asked,
    SweepRun,
    alone,
    asked_for,
    common_words,
    read_runs,
    refuse_changed,
    refuse_running,
    table,
    varying,
)
from flowconf.train.screen import Screen
from flowconf.train.stopping import ENDING, ending_together, interruptible, survive_signals
from flowconf.train.team.launch import environment

SAFE_PATH = "PYTHONSAFEPATH"
"""With this environment variable, processes of a launcher import nothing from the current folder when they start."""
LATER = ("sweep.trials", "sweep.jobs")
"""The parts of a sweep that can change when it is resumed."""


def sweep(file: str, overrides: Sequence[str], verbose: bool = False) -> None:
    """`flowconf train -m FILE`: a search if the config has a `sweep`, otherwise one run for each combination.

    A table of the runs is printed at the end, also if the sweep is interrupted. Raises `RunError` if any run failed.
    """
    _sweep(Asked(os.path.realpath(file), tuple(overrides), str(Path.cwd())), sweep_folder("runs", file), verbose)


def resume_sweep(folder: str, overrides: Sequence[str], verbose: bool = False) -> None:
    """`flowconf train --resume` with the folder of a sweep: the runs that are not finished, and those not begun.

    `overrides` can only change `LATER`. Raises `FlowconfError` if the sweep, or one of its runs, is still running, and
    if its config has changed.
    """
    sweep = Path(folder).absolute()
    asked = asked_for(sweep)
    for word in overrides:
        if word.lstrip("+").partition("=")[0] not in LATER:
            message = f"`{word}` cannot be changed when resuming a sweep"
            advice = f"only {' and '.join(f'`{key}`' for key in LATER)} can; start a new sweep"
            raise ConfigError(Diagnostic("FC0702", message, Place(word=word), advice=advice))
    there = Path(asked.folder).is_dir()
    with alone(sweep), projects.in_folder(Path(asked.folder)) if there else contextlib.nullcontext():
        more = Asked(asked.config, (*asked.overrides, *overrides), asked.folder)
        refuse_running(read_runs(sweep))
        _sweep(more, sweep, verbose)


def _sweep(asked: Asked, folder: Path, verbose: bool) -> None:
    warnings = projects.import_project(Path(asked.config).parent)
    if warnings:
        sys.stderr.write(f"{render_text(warnings)}\n\n")
    runs: Search | Jobs | None = None
    try:
        with environment({SAFE_PATH: "1"}):
            runs = found = search_of(asked) or Jobs(asked, folder, verbose)
            with ending_together(folder / ENDING, lambda: found.trains):
                found.train_all(folder, verbose)
    finally:
        begun, planned = read_runs(folder), [] if runs is None else runs.planned
        lines = table(begun, planned) if begun else []
        if len(begun) < len(planned) or any(run.status == INTERRUPTED for run in begun):
            lines.append(f"to resume the sweep: flowconf train --resume {shell_word(folder)}")
        for line in lines:
            Screen().say(line)
    if any(run.status == INTERRUPTED for run in begun):
        raise KeyboardInterrupt
    failed = [" ".join(run.overrides) for run in begun if run.status == FAILED]
    if failed:
        message = f"{len(failed)} of the sweep's runs failed: {listing(failed[:10])}"
        raise RunError(Diagnostic("FC0702", message))


class Jobs:
    """The runs of a sweep by Hydra, all of which are checked before the first one starts."""

    def __init__(self, asked: Asked, folder: Path, verbose: bool = False) -> None:
        self.asked = asked
        self.begun = {tuple(run.overrides): run for run in read_runs(folder)}
        """Those that had begun before the sweep was resumed, by their overrides."""
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

    @property
    def planned(self) -> list[tuple[str, ...]]:
        """The overrides of all runs, as far as they are known."""
        return list(self.walks)

    def train_all(self, folder: Path, verbose: bool) -> None:
        """Train the runs of the grid, or those that Hydra's sweeper asks for."""
        multirun(self.asked.config, self.asked.overrides, RULES, self.run, folder, check=self.check)

    def check(self, composition: Composition, looks: str | None) -> None:
        """Raise `ConfigError` for an invalid config, or if the direction `looks` contradicts `trainer.best`."""
        projects.import_again(self.projects)
        if composition.overrides not in self.walks:
            self.walks[composition.overrides] = road.composed(composition).to(road.BEFORE_TORCH)
        walk = self.walks[composition.overrides]
        training = walk.checked.training
        if looks is not None and self.begun:
            message = "a search by a sweeper of Hydra cannot be resumed"
            advice = "write the search as `sweep: {over: ..., trials: ...}`, which can"
            raise ConfigError(Diagnostic("FC0702", message, Place(word="hydra/sweeper"), advice=advice))
        if looks is not None and training.trainer.best == LATEST:
            place = composition.document.origins.value(("trainer", "best"))
            message = f"a sweeper that optimises compares values, and `trainer.best` is `{LATEST}`, which is no value"
            raise ConfigError(Diagnostic("FC0410", message, place, advice="write a value, such as `val/loss`"))
        wanted = "maximize" if direction_of_best(training) == "max" else "minimize"
        if looks is not None and looks != wanted:
            best = training.trainer.best
            place = composition.document.origins.value(("trainer", "best"))
            better = "larger" if wanted == "maximize" else "smaller"
            message = f"the sweeper's direction is `{looks}`, but `{best}` is better when it is {better}"
            raise ConfigError(Diagnostic("FC0123", message, place, advice=f"write `hydra.sweeper.direction={wanted}`"))
        walk.to(road.END)
        if composition.overrides in self.begun:
            refuse_changed(self.begun[composition.overrides], walk.checked)

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
        self.asked.note(turn.folder)
        walk = self.walks[composition.overrides]
        run = self.begun.get(composition.overrides)
        run = run or SweepRun.new(turn.number, composition.overrides, walk.checked.training)
        if self.common is None:
            self.common = common_words(list(self.walks)) if len(self.walks) == turn.total else set()
        total = f" of {turn.total}" if turn.total else ""
        ended = f"  ({run.status})" if run.status == FINISHED else ""
        Screen().say(f"\nrun {turn.number}{total}: {varying(composition.overrides, self.common)}{ended}")
        if not ended:
            carry_out(walk, run, turn.folder, self.verbose)
        if run.status == FAILED:
            return -math.inf if run.mode == "max" else math.inf
        return math.nan if run.value is None else run.value
