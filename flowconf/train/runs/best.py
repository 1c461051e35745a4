"""The best weights of a run so far."""

from __future__ import annotations

import math

from flowconf.graph.weights.sources import BEST
from flowconf.language.sections.checks import direction
from flowconf.train.job import Job
from flowconf.train.runs.folder import Run
from flowconf.train.runs.saved import SavedBest
from flowconf.train.runs.state import best_weights, check_weights, saved_step


class Best:
    """The best weights so far by one value of the validation split; without that split, the last weights.

    The checkpoint is saved before the best weights: it has the same weights, so that a run killed in between recovers
    them from it.
    """

    def __init__(self, job: Job, run: Run) -> None:
        self.job = job
        self.run = run
        self.file = run.checkpoints / BEST
        self.name = job.config.training.trainer.best
        self.sign = 1 if direction(job.config.training) == "max" else -1
        self.step = 0
        self.latest = 0
        self.waited = 0
        self.metrics: dict[str, float] = {}

    @property
    def gives_up(self) -> bool:
        """Whether there was no improvement for `trainer.patience` evaluations."""
        patience = self.job.config.training.trainer.patience
        return patience is not None and self.waited >= patience

    def offer(self, step: int, found: dict[str, float]) -> bool:
        """Whether these weights are the best so far; NaN is never better."""
        self.latest = step
        before = self.metrics.get(self.name, math.nan)
        better = math.isnan(before) or self.sign * found[self.name] > self.sign * before
        self.waited = 0 if better else self.waited + 1
        if better:
            self.step, self.metrics = step, found
        return better

    def keep(self) -> None:
        """Save the graph's weights, or their averages, as the best ones. Raises `RunError`."""
        found = best_weights(self.job, self.run.id, self.step)
        self.run.save(lambda: found.write(self.file))
        self.run.wait()

    def load(self, last_step: int) -> None:
        """Load the best weights into the graph, which has those of `last_step`, once they are saved.

        Raises `RunError` if they could not be saved.
        """
        self.run.wait()
        if not self.metrics:
            self.step = last_step
            self.keep()
        if self.step != last_step or self.job.averages.decay is not None:
            self.job.team.wait()
            self.job.graph.load(self.file)

    def state(self) -> SavedBest:
        """Plain data for a checkpoint."""
        return SavedBest(step=self.step, latest=self.latest, waited=self.waited, metrics=self.metrics)

    def restore(self, state: SavedBest, step: int) -> None:
        """Restore `state()`, which was saved after `step` steps together with their weights.

        Raises `RunError` if the best weights are of an earlier step, and their file is damaged.
        """
        self.step, self.latest, self.waited = state.step, state.latest, state.waited
        self.metrics = dict(state.metrics)
        if self.metrics and self.step != step:
            check_weights(self.file, self.step, self.run.id)

    def catch_up(self, step: int) -> None:
        """Save the best weights if the run ended after saving a checkpoint with them, but before saving them."""
        if self.metrics and self.step == step and self.job.team.told(lambda: saved_step(self.file) != step):
            self.keep()
