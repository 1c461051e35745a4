"""One run of a sweep: trained, or resumed in its folder, with its status noted in the folder of the sweep."""

from __future__ import annotations

import sys
from pathlib import Path

from flowconf.graph.weights.sources import record
from flowconf.report import FlowconfError, printable_lines, raised_at, render_text
from flowconf.train.checks.road import Walk
from flowconf.train.commands.train import resume, train_checked
from flowconf.train.runs.folder import Prunes
from flowconf.train.runs.sweeps import FAILED, SweepRun
from flowconf.train.screen import Screen


def carry_out(
    walk: Walk, run: SweepRun, sweep: Path, verbose: bool = False, prunes: Prunes | None = None, bar: bool = True
) -> None:
    """Train a run, or resume it if it has a folder. Its status is known afterwards.

    A run that fails is reported, and ends nothing else. Without `bar`, no progress bar is drawn. Raises
    `KeyboardInterrupt` if the run is interrupted.
    """
    screen = None if bar else Screen(bar=False, verbose=verbose)
    try:
        if run.folder is not None and record(Path(run.folder)):
            folder = Path(run.folder)
            run.note(sweep, folder)
            resume(str(folder), (), screen, verbose=verbose, prunes=prunes)
        else:
            # An earlier run may have trained the config that this one loads weights from.
            again = walk.again("weights")
            again.sweep = sweep.name
            folder = train_checked(
                again, screen, verbose=verbose, opened=lambda folder: run.note(sweep, folder), prunes=prunes
            )
    except Exception as problem:  # noqa: BLE001 - a user's module may raise anything; the other runs continue
        note_failure(problem, run, sweep)
        return
    run.status = str(record(folder).get("status"))


def note_failure(problem: Exception, run: SweepRun, sweep: Path) -> None:
    """Report why a run has failed, and note that it has."""
    message = render_text(problem.diagnostics) if isinstance(problem, FlowconfError) else _short(problem)
    sys.stderr.write(printable_lines(f"\n{message}\nthe run with `{' '.join(run.overrides)}` failed\n"))
    run.note(sweep, run.folder, FAILED)


def _short(problem: Exception) -> str:
    place = raised_at(problem)
    raised = [] if place is None else [f"  --> {place}"]
    return "\n".join([f"{type(problem).__name__}: {problem}", *getattr(problem, "__notes__", ()), *raised])
