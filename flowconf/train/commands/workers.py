"""The processes of a search with several jobs: each trains one run, and asks after evaluations whether to go on."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from signal import Signals

from flowconf.language import projects
from flowconf.report import printable_lines
from flowconf.train.checks.road import Walk
from flowconf.train.commands.swept import carry_out
from flowconf.train.runs.folder import Prunes
from flowconf.train.runs.sweeps import FAILED, INTERRUPTED, SweepRun, read_runs
from flowconf.train.stopping import interruptible, survive_signals
from flowconf.train.team.launch import environment, threads


@dataclass(frozen=True)
class SweepTask:
    """A run to train, with its checked config, in the folder of a sweep."""

    walk: Walk
    run: SweepRun
    sweep: Path
    verbose: bool
    projects: tuple[Path, ...] = field(default_factory=projects.imported)


@dataclass(frozen=True)
class Worker:
    """A process that trains one run."""

    task: SweepTask
    process: SpawnProcess
    connection: Connection

    @classmethod
    def start(cls, task: SweepTask, jobs: int) -> Worker:
        """Start a process, which has its part of the machine's cores."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        with environment(threads(jobs)):
            process = context.Process(target=_work, args=(task, there))
            process.start()
        there.close()
        return cls(task, process, here)

    def message(self) -> SweepRun | list[float]:
        """The values of evaluations, whose answer the process waits for; or how its run has ended."""
        try:
            message: SweepRun | list[float] = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return self._died()
        return message

    def _died(self) -> SweepRun:
        run, code = self.task.run, self.process.exitcode or 0
        how = f"was killed by {Signals(-code).name}" if code < 0 else f"exited with code {code}"
        words = " ".join(run.overrides)
        sys.stderr.write(printable_lines(f"\nthe process of the run with `{words}` {how}\n"))
        begun = next((known for known in read_runs(self.task.sweep) if known.number == run.number), run)
        begun.note(self.task.sweep, begun.folder, FAILED)
        return begun


def asking(run: SweepRun, hopeless: Callable[[list[float]], bool]) -> Prunes:
    """Whether to end a run early, as `hopeless` says from the values of its further evaluations."""
    resumed = [True]

    def prunes(found: Mapping[str, float]) -> bool:
        earlier = run.evaluations() if resumed.pop() else []
        resumed.append(False)
        return hopeless([*earlier, found[run.best]])

    return prunes


def _work(task: SweepTask, connection: Connection) -> None:
    """Train the run of a task. A signal to the sweep ends it after its step; one to this process does as well."""
    survive_signals()
    projects.import_again(task.projects)

    def hopeless(values: list[float]) -> bool:
        with suppress(EOFError, OSError):
            connection.send(values)
            return bool(connection.recv())
        return False  # the sweep was killed, and the run ends after this step

    run = task.run
    try:
        with interruptible():
            carry_out(task.walk, run, task.sweep, task.verbose, asking(run, hopeless), bar=False)
    except KeyboardInterrupt:
        run.status = INTERRUPTED
    with suppress(OSError):
        connection.send(run)
