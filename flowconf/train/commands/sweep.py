"""`train -m`: one run for each combination of values, with Hydra's sweepers and launchers."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flowconf.graph.weights.sources import record
from flowconf.language import projects
from flowconf.language.config import RULES
from flowconf.language.sections.checks import direction
from flowconf.report import ConfigError, Diagnostic, FlowconfError, RunError, printable_lines, raised_at, render_text
from flowconf.text import Composition, Failed
from flowconf.text import sweep as sweep_text
from flowconf.train.checks import road
from flowconf.train.checks.road import Walk
from flowconf.train.commands.train import train_checked


def sweep(file: str, overrides: Sequence[str], verbose: bool = False) -> None:
    """`flowconf train -m FILE`: one run for each combination, with Hydra's sweepers and launchers.

    Raises `RunError` at the end if any run failed.
    """
    warnings = projects.import_project(Path(os.path.realpath(file)).parent)
    if warnings:
        sys.stderr.write(f"{render_text(warnings)}\n\n")
    jobs = Jobs()
    failed = sweep_text(file, overrides, RULES, jobs.run, check=jobs.check)
    if failed:
        message = f"{len(failed)} of the sweep's runs failed: {', '.join(f'`{words}`' for words in failed[:10])}"
        raise RunError(Diagnostic("FC0702", message))


class Jobs:
    """The runs of a sweep, all of which are checked before the first one starts."""

    def __init__(self) -> None:
        self.walks: dict[tuple[str, ...], Walk] = {}
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

    def run(self, composition: Composition) -> float:
        """Train one run; returns the objective of the sweeper, the best value of `trainer.best`."""
        projects.import_again(self.projects)
        walk = self.walks[composition.overrides]
        training = walk.checked.training
        try:
            # An earlier run may have trained the config that this one loads weights from.
            metrics: dict[str, float] = record(train_checked(walk.again("weights")))["metrics"]
        except Exception as problem:  # a user's module may raise anything; the other runs continue
            told = render_text(problem.diagnostics) if isinstance(problem, FlowconfError) else _short(problem)
            sys.stderr.write(printable_lines(f"\n{told}\nthe run with `{' '.join(composition.overrides)}` failed\n"))
            raise Failed(-math.inf if direction(training) == "max" else math.inf) from problem
        return metrics.get(training.trainer.best, float("nan"))


def _short(problem: Exception) -> str:
    place = raised_at(problem)
    raised = [] if place is None else [f"  --> {place}"]
    return "\n".join([f"{type(problem).__name__}: {problem}", *getattr(problem, "__notes__", ()), *raised])
