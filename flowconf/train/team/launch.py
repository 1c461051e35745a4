"""Several processes for one run: started, monitored and restarted by torch's elastic agent.

The parent process composes the config once and writes it to a folder; every process of the team reads it there and is
otherwise a plain `flowconf train`. A process that ends deliberately (finished, failed with an error message,
interrupted) writes a marker, so that only processes that died are restarted. This file imports torch only to start
processes, because a restarted process with nothing to do has to exit fast.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flowconf.language import projects
from flowconf.language.config import Config
from flowconf.report import ConfigError, Diagnostic, RunError, shell_word
from flowconf.train.checks.road import Walk

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

FOLDER = "FLOWCONF_LAUNCH"
PATIENCE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
"""The environment variable with the seconds that torch's agent waits for the processes to save when it is stopped."""
INTERRUPTED = 130
"""The exit code of an interrupted run."""
TASK, RUN, ENDED = "task.pickle", "run", "ended"


@dataclass(frozen=True)
class Task:
    """The task of a team: to train a checked config, in a new run folder or in an existing one."""

    walk: Walk
    run: str | None = None
    overrides: tuple[str, ...] = ()
    verbose: bool = False
    projects: tuple[Path, ...] = field(default_factory=projects.imported)
    """The projects imported in the parent, to be imported in every process."""


def start(task: Task, processes: int) -> Path:
    """Run a task with `processes` processes on this machine; returns the run folder.

    Raises `RunError` if they fail (they have printed the reason, unless they were killed), and `KeyboardInterrupt`.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    with tempfile.TemporaryDirectory(prefix="flowconf-") as name:
        folder = Path(name)
        (folder / TASK).write_bytes(pickle.dumps(task))
        try:
            with environment({FOLDER: name, PATIENCE: os.environ.get(PATIENCE, "300"), **threads(processes)}), _quiet():
                _launch(task, processes, folder)
        except ChildFailedError as failure:
            if noted_end(folder) == INTERRUPTED:
                raise KeyboardInterrupt from None
            raise _failed(failure, folder) from None
        except SignalException:
            raise KeyboardInterrupt from None
        return Path((folder / RUN).read_text(encoding="utf-8"))


def processes(config: Config) -> int:
    """The number of processes to start on this machine for a config; 0: train in this process."""
    if "RANK" in os.environ:
        return 0
    from flowconf.train.precision import devices_of

    count = len(devices_of(config))
    return count if count > 1 or config.training.trainer.nodes > 1 else 0


def given() -> Task | None:
    """The task of this process's team; None if it was started manually or by torchrun.

    Exits if this is a restart of a team that has already ended.
    """
    folder = _folder()
    if folder is None:
        return None
    ended = noted_end()
    if ended is not None:
        raise SystemExit(ended)
    task: Task = pickle.loads((folder / TASK).read_bytes())
    projects.import_again(task.projects)
    return task


def note_run(run: Path) -> None:
    """Record the run folder for the parent process."""
    folder = _folder()
    if folder is not None and os.environ.get("LOCAL_RANK") == "0":
        (folder / RUN).write_text(str(run), encoding="utf-8")


def note_end(code: int) -> None:
    """Record that the team has ended and must not be restarted."""
    folder = _folder()
    if folder is not None:
        own = folder / f"{ENDED}.{os.getpid()}"
        own.write_text(str(code), encoding="utf-8")
        own.replace(folder / ENDED)


def noted_end(folder: Path | None = None) -> int | None:
    """The recorded exit code of the team; None if it has not ended. `folder` is that of a launch of this process."""
    folder = folder or _folder()
    if folder is None or not (folder / ENDED).is_file():
        return None
    return int((folder / ENDED).read_text(encoding="utf-8"))


def tells(error: BaseException, code: int) -> bool:
    """Whether this process has to report the error of its team. Also records that the team has ended."""
    if "RANK" not in os.environ:
        return True
    if "torch" not in sys.modules:
        note_end(code)
        return os.environ["RANK"] == "0"
    from flowconf.train.team.distributed import lost_contact, speaks_first

    if lost_contact(error):
        return False
    note_end(code)
    return speaks_first()


class TeamFailedError(RunError):
    """A failed run of a team, without diagnostics if its processes have printed them. `exit_code` is theirs."""

    def __init__(self, *diagnostics: Diagnostic, code: int = 1) -> None:
        super().__init__(*diagnostics)
        self.exit_code = code


def _launch(task: Task, processes: int, folder: Path) -> None:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    config = task.walk.checked
    trainer = config.training.trainer
    if trainer.nodes > 1 and trainer.rendezvous is None:
        message = f"`trainer.nodes: {trainer.nodes}` requires `trainer.rendezvous`"
        place = config.origins.value(("trainer", "nodes"))
        advice = "add `trainer.rendezvous: HOST:PORT` of one of the machines"
        raise ConfigError(Diagnostic("FC0122", message, place, "trainer.rendezvous", advice=advice))
    alone = trainer.nodes == 1
    how = LaunchConfig(
        min_nodes=trainer.nodes,
        max_nodes=trainer.nodes,
        nproc_per_node=processes,
        run_id=f"flowconf-{os.getpid()}" if alone else "flowconf",
        role="flowconf",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0" if alone else str(trainer.rendezvous),
        local_addr="localhost" if alone else None,
        max_restarts=trainer.restarts,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),
    )
    launch_agent(how, sys.executable, ["-P", "-m", "flowconf", "train", config.composition.file])


def _failed(failure: ChildFailedError, folder: Path) -> TeamFailedError:
    if (folder / ENDED).is_file():
        return TeamFailedError(code=int((folder / ENDED).read_text(encoding="utf-8")))
    # The agent terminates the others with SIGTERM, and those that lost contact exit with a code.
    killed = [found for found in failure.failures.values() if found.exitcode < 0]
    rank, first = failure.get_first_failure()
    if killed:
        first = killed[0]
        rank = next(number for number, found in failure.failures.items() if found is first)
    how = f"was killed by {first.signal_name()}" if first.exitcode < 0 else f"exited with code {first.exitcode}"
    advice = None
    if (folder / RUN).is_file():
        run = shell_word((folder / RUN).read_text(encoding="utf-8"))
        advice = f"to resume: flowconf train --resume {run}"
    return TeamFailedError(Diagnostic("FC0702", f"the process of rank {rank} {how}", advice=advice))


def _folder() -> Path | None:
    name = os.environ.get(FOLDER)
    return Path(name) if name and "RANK" in os.environ else None


def threads(processes: int) -> dict[str, str]:
    """Divides the machine's cores among the processes, unless the number of threads is set."""
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // processes))}


@contextlib.contextmanager
def environment(more: Mapping[str, str]) -> Iterator[None]:
    """A block with further environment variables."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A block without the agent's log; what matters to the user is reported separately."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # because each of its modules sets its own level
    try:
        yield
    finally:
        logging.disable(before)
