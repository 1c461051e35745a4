"""What training takes over the steps of a run: rows per second, processors and memory, for its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from flowconf.train.callbacks.watcher import Watcher
from flowconf.train.job import Job
from flowconf.train.runs.folder import Run
from flowconf.train.runs.resources import memory_in_use


class Resources(Watcher):
    """Logs what the steps since the last entry or evaluation have taken, whenever losses are logged."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._every = job.config.training.trainer.log_every
        self._batch = job.config.training.data.batch_size

    def begin(self, run: Run, where: Callable[[int], dict[str, object]]) -> None:
        self._run = run

    def start(self, step: int) -> None:
        self._begin(step)

    def evaluated(self, step: int, found: Mapping[str, float]) -> None:
        self._begin(step)

    def step(self, step: int) -> None:
        if step % self._every and step != self._job.total_steps:
            return
        seconds = max(time.perf_counter() - self._seconds, 1e-9)
        found = {
            "rows_per_second": float(f"{(step - self._first) * self._batch / seconds:.4g}"),
            "processors": round((time.process_time() - self._processor) / seconds, 2),
            "memory": memory_in_use(),
        }
        if self._job.device.type == "cuda":
            found["device_memory"] = torch.cuda.max_memory_allocated(self._job.device)
        self._run.log_resources(step, found)
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._first, self._seconds, self._processor = step, time.perf_counter(), time.process_time()
