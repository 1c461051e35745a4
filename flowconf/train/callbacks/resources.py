"""What training takes over the steps of a run: rows per second, processors and memory, for its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from flowconf.train.callbacks.watcher import Watcher
from flowconf.train.job import Job
from flowconf.train.runs.folder import Run
from flowconf.train.runs.resources import ResourceMeter, memory_in_use

NOT_LOGGED = ("seconds", "steps_per_second")
BETWEEN = 0.5
"""The seconds between two entries, at least; each takes up to 0.5 ms."""


class Resources(Watcher):
    """Logs what the steps since the last entry or evaluation have taken, when losses are logged."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._batch = job.config.training.data.batch_size

    def begin(self, run: Run, where: Callable[[int], dict[str, object]]) -> None:
        self._run = run

    def start(self, step: int) -> None:
        self._due = time.perf_counter() + BETWEEN
        self._begin(step)

    def evaluated(self, step: int, found: Mapping[str, float]) -> None:
        self._begin(step)

    def logged(self, step: int) -> None:
        if step < self._job.total_steps and time.perf_counter() < self._due:
            return
        found = self._meter.read(step - self._first, self._batch) | {"memory": memory_in_use()}
        self._run.log_resources(step, {name: value for name, value in found.items() if name not in NOT_LOGGED})
        self._due = time.perf_counter() + BETWEEN
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._first, self._meter = step, ResourceMeter(self._job.device)
