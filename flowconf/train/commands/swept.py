"""One run of a sweep: trained, or resumed in its folder, with its status noted in the folder of the sweep.

A search with several jobs trains each run in a process, which asks after evaluations whether to go on.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from signal import Signals

from flowconf.graph.weights.sources import record
from flowconf.language import projects
from flowconf.report import FlowconfError, printable_lines, raised_at, render_text
from flowconf.train.checks.road import Walk
from flowconf.train.commands.train import resume, train_checked
from flowconf.train.runs.folder import Prunes
from flowconf.train.runs.sweeps import FAILED, INTERRUPTED, SweepRun, read_runs
from flowconf.train.screen import Screen
from flowconf.train.stopping import interruptible, survive_signals
from flowconf.train.team.launch import environment, threads


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


@dataclass(frozen=True)
class Worker:
    """A process that trains one run."""

    run: SweepRun
    sweep: Path
    process: SpawnProcess
    connection: Connection

    @classmethod
    def start(cls, walk: Walk, run: SweepRun, sweep: Path, verbose: bool, jobs: int) -> Worker:
        """Start a process, one of `jobs` that share the cores of the machine."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        with environment(threads(jobs)):
            process = context.Process(target=_work, args=(walk, run, sweep, verbose, projects.imported(), there))
            process.start()
        there.close()
        return cls(run, sweep, process, here)

    def message(self) -> SweepRun | list[float]:
        """The values of evaluations, whose answer the process waits for; or how its run has ended."""
        try:
            message: SweepRun | list[float] = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return self._died()
        return message

    def _died(self) -> SweepRun:
        run, code = self.run, self.process.exitcode or 0
        how = f"was killed by {Signals(-code).name}" if code < 0 else f"exited with code {code}"
        words = " ".join(run.overrides)
        sys.stderr.write(printable_lines(f"\nthe process of the run with `{words}` {how}\n"))
        begun = next((known for known in read_runs(self.sweep) if known.number == run.number), run)
        begun.note(self.sweep, begun.folder, FAILED)
        return begun


def asking(run: SweepRun, hopeless: Callable[[list[float]], bool]) -> Prunes:
    """Whether to end a run early, as `hopeless` says from the values of its further evaluations."""
    resumed = [True]

    def prunes(found: Mapping[str, float]) -> bool:
        earlier = run.evaluations() if resumed.pop() else []
        resumed.append(False)
        return hopeless([*earlier, found[run.best]])

    return prunes


def _work(
    walk: Walk, run: SweepRun, sweep: Path, verbose: bool, imported: tuple[Path, ...], connection: Connection
) -> None:
    """Train a run in a process. A signal to the sweep ends it after its step; one to this process does as well."""
    survive_signals()
    projects.import_again(imported)

    def hopeless(values: list[float]) -> bool:
        with suppress(EOFError, OSError):
            connection.send(values)
            return bool(connection.recv())
        return False  # the sweep was killed, and the run ends after this step

    try:
        with interruptible():
            carry_out(walk, run, sweep, verbose, asking(run, hopeless), bar=False)
    except KeyboardInterrupt:
        run.status = INTERRUPTED
    with suppress(OSError):
        connection.send(run)
