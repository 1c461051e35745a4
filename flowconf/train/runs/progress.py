"""The progress of a run in a checkpoint, and whether a config can be resumed from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from flowconf.report import Diagnostic, RunError
from flowconf.train.job import Job
from flowconf.train.runs.best import Best
from flowconf.train.runs.folder import Run
from flowconf.train.runs.resume import advice_to_continue
from flowconf.train.runs.saved import Progress, SavedPhases


class Window(list[list[Tensor]]):
    """The loss and its terms of each step since they were logged."""

    def __init__(self) -> None:
        super().__init__()
        self.reported = 0
        """How many of them the last evaluation has reported."""
        self.logged: dict[str, tuple[float, int]] = {}
        """The sums logged since the last evaluation, as in `Job.sums`."""

    def add_up(self, sums: Mapping[str, tuple[float, int]]) -> None:
        """Add sums over steps, and the numbers of these steps, to what was logged."""
        for name, (total, steps) in sums.items():
            before, counted = self.logged.get(name, (0.0, 0))
            self.logged[name] = before + total, counted + steps


def loss_of(sums: Mapping[str, tuple[float, int]]) -> float:
    """The loss that adds up from `Job.sums`."""
    return sum(total / steps for total, steps in sums.values())


def progress_of(job: Job, run: Run, step: int, best: Best, callbacks: dict[str, Any]) -> Progress:
    """The progress after `step` steps, with the state of `callbacks`. Flushes the log."""
    return Progress(
        step=step,
        epoch=job.sampler.epoch,
        position=job.sampler.position,
        rows=job.sampler.rows,
        phases=SavedPhases(**job.phases.state()),
        best=best.state(),
        schedules=job.learning_rate.state(),
        shares=job.team.shares.state(),
        callbacks=callbacks,
        terms=job.columns,
        log=run.size(),
    )


def check_progress(job: Job, run: Run, progress: Progress) -> None:
    """Raise `RunError` if the run cannot be resumed: it has other rows, or ends before that step."""
    origins, step = job.config.origins, progress.step
    if job.sampler.rows != progress.rows:
        message = f"the training split has {job.sampler.rows:,} rows, and had {progress.rows:,} up to step {step:,}"
        words = (node.place for keys, node in origins.items() if keys[:1] == ("data",) and node.place.word)
        place = next(words, origins.value(("data", "name")))
        raise RunError(Diagnostic("FC0702", message, place, "data", advice=advice_to_continue(run.folder)))
    if job.total_steps < step:
        trainer = job.config.training.trainer
        ends_at = trainer.steps is not None and trainer.steps == job.total_steps
        key = "steps" if ends_at else "epochs"
        message = f"`trainer.{key}` ends the run after step {job.total_steps:,}, but {step:,} steps are done"
        advice = f"set a larger value, or `trainer.steps={step}` to end here and test the best weights"
        raise RunError(job.config.diagnostic("FC0702", message, ("trainer", key), advice))


def restore_window(job: Job, progress: Progress, tensors: Mapping[str, Tensor], window: Window) -> list[str]:
    """Restore the losses that were not logged yet, if the terms are the same. Returns notes for the user."""
    if "window" not in tensors:
        return []
    if progress.terms != job.columns:
        return ["losses since the last log line are not logged: the terms of the loss have changed"]
    window += [list(row) for row in tensors["window"].to(job.device)]
    return []
