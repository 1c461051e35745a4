"""The weights that a run keeps beside its best and last ones: `trainer.keep`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from flowconf.graph.weights.kept import BEST_OF, KEPT, texts_of
from flowconf.graph.weights.sources import kept_file, kept_steps
from flowconf.language.points import RunLength
from flowconf.language.training import KeepSection
from flowconf.train.runs.folder import Run
from flowconf.train.runs.state import Snapshot, saved_step

Ranked = tuple[int, float]
"""A step, and its value."""


class Kept:
    """Which weights are kept: those of every n-th step, and those with the best values of some evaluations.

    The checkpoint of a step is saved before its kept weights, and these before those that they replace are removed.
    So whatever a killed run has not done follows from its last checkpoint, and no weights are lost.
    """

    def __init__(self, run: Run, section: KeepSection, length: RunLength, name: str, sign: int) -> None:
        """`name` is the value that chooses the best weights, and `sign` is 1 if larger values are better, else -1."""
        self.run = run
        self.every = length.steps_before(section.every) if section.every is not None else None
        self.most = section.best or 0
        self.name, self.sign = name, sign
        self.ranking: list[Ranked] = []
        """The best values so far, the best one first; of equal values, the latest."""

    def offer(self, step: int, value: float) -> None:
        """Rank the value of an evaluation; NaN is never among the best."""
        if self.most and not math.isnan(value):
            self._rank([*self.ranking, (step, value)])

    def reasons(self, step: int) -> list[str]:
        """Why the weights of a step are kept; empty if they are not."""
        is_best = step in [ranked for ranked, _ in self.ranking]
        is_due = self.every is not None and step > 0 and step % self.every == 0
        return ["best"] * is_best + ["every"] * is_due

    def lacks(self, step: int) -> bool:
        """Whether the weights of a step have to be kept, and are not yet."""
        return bool(self.reasons(step)) and saved_step(kept_file(self.run.folder, step), self.run.id) != step

    def writing(self, step: int, best_of: dict[str, str]) -> Callable[[Snapshot], None]:
        """What writes the weights of a step and removes those that are replaced, as it is decided now.

        `best_of` are texts that describe what they are best of.
        """
        reasons, staying = self.reasons(step), {ranked for ranked, _ in self.ranking}
        texts = {KEPT: ", ".join(reasons), **(best_of if "best" in reasons else {})}

        def write(found: Snapshot) -> None:
            if reasons:
                found.weights().with_texts(texts).write(kept_file(self.run.folder, step))
            self._remove_all_but(staying)

        return write

    def tidy(self) -> None:
        """Remove what a killed run has replaced and not yet removed. Raises `RunError`."""
        self._remove_all_but({ranked for ranked, _ in self.ranking})

    def restore(self, ranking: list[Ranked], name: str) -> None:
        """Restore the ranking of a checkpoint, if it is one by the same value."""
        if name == self.name:
            self._rank(ranking)

    def _rank(self, found: list[Ranked]) -> None:
        order = sorted(found, key=lambda ranked: (-self.sign * ranked[1], -ranked[0]))
        self.ranking = order[: self.most]

    def _remove_all_but(self, staying: set[int]) -> None:
        """Remove weights that were among the best by this value, and are not kept for another reason."""
        if self.most:
            others = (kept_file(self.run.folder, step) for step in kept_steps(self.run.folder) if step not in staying)
            self.run.remove([file for file in others if self._is_replaceable(texts_of(file))])

    def _is_replaceable(self, texts: Mapping[str, str]) -> bool:
        return (texts.get(KEPT), texts.get(BEST_OF), texts.get("run")) == ("best", self.name, self.run.id)
