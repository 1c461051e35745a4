"""Profiles steps of a run: time, memory and FLOPs by path, and a trace for Chrome and TensorBoard.

The profiled steps are ordinary steps of the run with the same results, to the bit. FLOPs are counted in the first of
them; the warm-up steps are excluded from the times. With several processes, only rank 0 is profiled.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function, schedule
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from flowconf.draw.dot import dot
from flowconf.draw.heat import NUMBERS, heat_of
from flowconf.draw.levels import picture
from flowconf.draw.secrets import with_references
from flowconf.draw.svg import write
from flowconf.graph.tracing import Trail
from flowconf.language.training import ProfileSection
from flowconf.report import MachineError, shown_path
from flowconf.text.output import write_atomically
from flowconf.train.insight.measures import OUTSIDE, PART, STEP, VISIT, Profile, measured
from flowconf.train.insight.peak import peak
from flowconf.train.insight.visited_steps import watched
from flowconf.train.job import Job, Take

FOLDER = "profile"
"""The folder of a profile in the run folder."""
TABLE, TRACE = "profile.txt", "steps.pt.trace.json"


@contextmanager
def profiled(job: Job, folder: Path, say: Callable[[str], None], take: Take) -> Iterator[Take]:
    """Wrap `take` so that it profiles the steps of `trainer.profile` and writes the report to `folder`."""
    section = job.config.training.trainer.profile
    if section is None or not job.team.first:
        yield take
        return
    profiler = Profiler(job, folder, section, say)
    try:
        yield lambda job, rows, step: profiler.take(take, job, rows, step)
    finally:
        profiler.close()


class Profiler:
    """Profiles steps of a run, and writes the report after the last of them."""

    def __init__(self, job: Job, folder: Path, section: ProfileSection, say: Callable[[str], None]) -> None:
        self.job, self.folder, self.section, self.say = job, folder, section, say
        self.on_device = job.device.type == "cuda"
        self.trails: list[Trail] = []
        self.flops: dict[tuple[str, bool], float] = {}
        self.profile: profile | None = None
        self.left = section.warmup + section.active

    def take(self, take: Take, job: Job, rows: Tensor, step: int) -> list[Tensor]:
        """Run one step, profiled if it is one of those to profile."""
        if not (self.section.wait <= step < self.section.end and self.left):
            return take(job, rows, step)
        counts = self.profile is None
        if self.profile is None:
            self.profile = self._started()
        with watched(job, _range) as trail:
            self.trails.append(trail)
            with record_function(STEP), ExitStack() as counting:
                if counts:
                    counter = counting.enter_context(FlopCounterMode(display=False))
                    counting.enter_context(_Attributing(counter, trail, self.flops))
                losses = take(job, rows, step)
                if self.on_device:
                    torch.cuda.synchronize(job.device)
        self.left -= 1
        self.profile.step()
        return losses

    def close(self) -> None:
        """Stop profiling."""
        if self.profile is not None:
            self.profile.stop()

    def _started(self) -> profile:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_device else [])]
        steps = schedule(wait=0, warmup=self.section.warmup, active=self.section.active, repeat=1)
        found = profile(
            activities=activities,
            schedule=steps,
            on_trace_ready=self._ready,
            profile_memory=True,
            acc_events=True,  # there is a single cycle; older versions of torch warn without it
        )
        found.start()
        return found

    def _ready(self, found: profile) -> None:
        if self.left:  # the run ended before the last step to profile
            return
        self.folder.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=self.folder) as inner:  # torch leaves parts of a trace on a disk that is full
            found.export_chrome_trace(f"{inner}/{TRACE}")
            if not _is_whole(Path(inner, TRACE)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / TRACE))
            Path(inner, TRACE).replace(self.folder / TRACE)
        label = self.job.config.model.label
        events = found.events()  # type: ignore[no-untyped-call]
        report = measured(label, events or (), self._path_of, self.on_device, self.flops, peak(self.job.precision))
        leave(report, self.job, self.folder)
        self.say(report.table())
        self.say(f"profile of {report.steps} steps in {shown_path(self.folder)}")

    def _path_of(self, node: int) -> str:
        return next((path for trail in self.trails if (path := trail.of_node(node))), "")


def _is_whole(file: Path) -> bool:
    """Whether torch has written a trace to its end; it reports no errors."""
    return file.exists() and file.read_bytes()[-100:].rstrip().endswith(b"}")


def leave(report: Profile, job: Job, folder: Path) -> None:
    """Write the numbers and the table of a profile, and a picture of the graph coloured by share of time."""
    write_atomically(folder / NUMBERS, f"{json.dumps(report.as_data(), indent=1)}\n".encode())
    write_atomically(folder / TABLE, f"{report.table()}\n".encode())
    shown = with_references(picture(job.config.model), job.config.origins)
    drawing = dot(shown, heat=heat_of(report.as_data()))
    write(drawing, folder / "graph.dot")
    with suppress(MachineError):  # without Graphviz, only the DOT text is written
        write(drawing, folder / "graph.svg")


def _range(path: str) -> AbstractContextManager[object]:
    """The profiler range of a visit."""
    name = PART + path.removeprefix(OUTSIDE) if path.startswith(OUTSIDE) else VISIT + path
    return record_function(name)


class _Attributing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Attributes the FLOPs that `counter` counts for an operation to the running path."""

    def __init__(self, counter: FlopCounterMode, trail: Trail, flops: dict[tuple[str, bool], float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter, self.trail, self.flops = counter, trail, flops

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.counter.get_total_flops()
        found = func(*args, **(kwargs or {}))
        counted = self.counter.get_total_flops() - before
        if counted:
            key = self.trail.here(), torch._C._current_autograd_node() is not None
            self.flops[key] = self.flops.get(key, 0.0) + counted
        return found
