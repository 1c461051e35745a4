"""The best weights of a run so far, and the further ones that it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable

from flowconf.graph.weights.kept import BEST_OF, VALUE
from flowconf.graph.weights.sources import BEST
from flowconf.language.sections.directions import direction_of_best
from flowconf.language.training import LATEST, KeepSection
from flowconf.train.job import Job
from flowconf.train.runs.folder import Run
from flowconf.train.runs.kept import Kept
from flowconf.train.runs.saved import SavedBest
from flowconf.train.runs.state import Snapshot, best_weights, check_weights, saved_step


class Best:
    """The best weights so far by one value of an evaluation, or the latest ones; without that value, the last weights.

    The checkpoint is saved before the best weights: it has the same weights, so that a run killed in between recovers
    them from it.
    """

    def __init__(self, job: Job, run: Run) -> None:
        trainer = job.config.training.trainer
        self.job = job
        self.run = run
        self.file = run.checkpoints / BEST
        self.name = trainer.best
        self.sign = 1 if direction_of_best(job.config.training) == "max" else -1
        self.kept = Kept(run, trainer.keep or KeepSection(), job.length, self.name, self.sign)
        self.step = 0
        self.latest = 0
        self.waited = 0
        self.metrics: dict[str, float] = {}
        self.value = math.nan
        """That of the latest evaluation."""

    @property
    def gives_up(self) -> bool:
        """Whether there was no improvement for `trainer.patience` evaluations, or a sweep has pruned the run."""
        patience = self.job.config.training.trainer.patience
        return self.run.pruned or (patience is not None and self.waited >= patience)

    def offer(self, step: int, found: dict[str, float]) -> bool:
        """Whether these weights are the best so far; of equal values, the latest are. NaN is never better.

        An equal value is no improvement, for which `trainer.patience` waits. Of `best: last`, the value is the step.
        """
        if self.name not in (LATEST, *found):
            return False
        self.latest, self.value = step, float(step) if self.name == LATEST else found[self.name]
        self.kept.offer(step, self.value)
        before = self.metrics.get(self.name, math.nan)
        better = math.isnan(before) or self.sign * self.value > self.sign * before
        self.waited = 0 if better else self.waited + 1
        if better or self.value == before:
            self.step, self.metrics = step, found
        if self.run.prunes is not None and step < self.job.total_steps:
            self.run.pruned = self.run.prunes(found)
        return self.step == step

    def keeps(self, step: int) -> bool:
        """Whether the weights of this step are saved as the best ones, or kept beside them."""
        return (bool(self.metrics) and self.step == step) or bool(self.kept.reasons(step))

    def writing(self, step: int) -> Callable[[Snapshot], None]:
        """What writes the weights of a step as the best ones and those that are kept, as it is decided now.

        It can be called while training continues.
        """
        better = self.step == step
        known = bool(self.metrics) and self.latest == step
        best_of = {BEST_OF: self.name, VALUE: repr(self.value)} if known else {}
        keep = self.kept.writing(step, best_of)

        def write(found: Snapshot) -> None:
            if better:
                found.weights().with_texts(best_of).write(self.file)
            keep(found)

        return write

    def save(self, step: int) -> None:
        """Save the graph's weights, or their averages, as the best ones or those that are kept. Raises `RunError`."""
        found, write = best_weights(self.job, self.run.id, step), self.writing(step)
        self.run.save(lambda: write(found))
        self.run.wait()

    def load(self, last_step: int) -> None:
        """Load the best weights into the graph, which has those of `last_step`, once they are saved.

        Raises `RunError` if they could not be saved.
        """
        self.run.wait()
        if not self.metrics:
            self.step = last_step
            self.save(last_step)
        if self.step != last_step or self.job.averages.decay is not None:
            self.job.team.wait()
            self.job.graph.load(self.file)

    def state(self) -> SavedBest:
        """Plain data for a checkpoint."""
        return SavedBest(
            step=self.step,
            latest=self.latest,
            waited=self.waited,
            metrics=self.metrics,
            kept=self.kept.ranking,
            of=self.name,
            value=None if math.isnan(self.value) else self.value,
        )

    def restore(self, state: SavedBest, step: int) -> None:
        """Restore `state()`, which was saved after `step` steps together with their weights.

        Raises `RunError` if the best weights are of an earlier step, and their file is damaged.
        """
        self.step, self.latest, self.waited = state.step, state.latest, state.waited
        self.metrics = dict(state.metrics)
        self.value = math.nan if state.value is None or state.of != self.name else state.value
        self.kept.restore(state.kept, state.of)
        if self.metrics and self.step != step:
            check_weights(self.file, self.step, self.run.id)

    def catch_up(self, step: int) -> None:
        """Do what is due if the run ended after saving a checkpoint, but before saving its best weights."""
        if self.keeps(step) and self.job.team.from_first(lambda: self._lacks(step)):
            self.save(step)
        self.kept.tidy()

    def _lacks(self, step: int) -> bool:
        best = bool(self.metrics) and self.step == step
        return (best and saved_step(self.file, self.run.id) != step) or self.kept.lacks(step)
