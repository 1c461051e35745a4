"""What training takes over the steps of a run: rows per second, processors and memory, for its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from flowconf.train.callbacks.watcher import Watcher
from flowconf.train.job import Job
from flowconf.train.runs.folder import Run
from flowconf.train.runs.resources import Meter, memory_in_use


class Resources(Watcher):
    """Logs what the steps since the last entry have taken, without evaluations, whenever losses are logged."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._every = job.config.training.trainer.log_every
        self._batch = job.config.training.data.batch_size

    def begin(self, run: Run, where: Callable[[int], dict[str, object]]) -> None:
        self._run = run

    def start(self, step: int) -> None:
        self._meter, self._first = Meter(self._job.device), step
        self._step_ended = _now()

    def step(self, step: int) -> None:
        self._step_ended = _now()
        if step % self._every and step != self._job.total_steps:
            return
        found = self._meter.read(step - self._first, self._batch)
        taken: dict[str, float] = {
            name: found[name] for name in ("rows_per_second", "processors", "device_memory") if name in found
        }
        self._run.log_resources(step, {**taken, "memory": memory_in_use()})
        self._meter, self._first = Meter(self._job.device), step

    def evaluated(self, step: int, found: Mapping[str, float]) -> None:
        seconds, processor = (now - then for now, then in zip(_now(), self._step_ended, strict=True))
        self._meter.leave_out(seconds, processor)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
