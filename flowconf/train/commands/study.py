"""Optuna's part of a search: it proposes values, and says which runs are hopeless. Its study is in memory alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from flowconf.language.training import SweepSection
from flowconf.text.ranges import Range
from flowconf.train.runs.sweeps import FAILED, FINISHED, PRUNED, SweepRun

ENDED = (FINISHED, PRUNED, FAILED)
"""The status of a run that is not trained any further."""


class Study:
    """The trials of a search, by number. A trial depends on the seed, its number, and what is known of the others."""

    def __init__(self, section: SweepSection, ranges: Sequence[Range], mode: str) -> None:
        with _quiet() as optuna:
            pruner = {
                None: optuna.pruners.NopPruner,
                "median": optuna.pruners.MedianPruner,
                "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1),
            }[section.prune]()
            direction = "maximize" if mode == "max" else "minimize"
            self._study = optuna.create_study(direction=direction, pruner=pruner, study_name="flowconf")
        self.section = section
        self.ranges = ranges
        self._trials: dict[int, Any] = {}
        self._evaluations: dict[int, int] = {}

    def propose(self, number: int) -> list[str]:
        """The words of a new trial; numbers begin at 1, in order."""
        with _quiet() as optuna:
            seed = Random(f"{self.section.seed} {number}").randrange(2**32)
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=self.section.jobs > 1)
            trial = self._trials[number] = self._study.ask()
            self._evaluations[number] = 0
            return [one.word(_suggested(trial, one)) for one in self.ranges]

    def repeat(self, run: SweepRun) -> None:
        """Add the trial of an earlier run, with what is known of it."""
        with _quiet():
            self._study.enqueue_trial({one.key: one.value(run.overrides) for one in self.ranges})
        self.propose(run.number)
        if run.status in ENDED:
            self.evaluated(run.number, run.evaluations())
            self.end(run)

    def evaluated(self, number: int, values: Sequence[float]) -> bool:
        """Note the values of further evaluations of a trial; whether one of them makes it hopeless."""
        hopeless = False
        with _quiet():
            for value in values:
                self._evaluations[number] += 1
                self._trials[number].report(value, self._evaluations[number])
                hopeless = self._trials[number].should_prune() or hopeless
        return hopeless

    def end(self, run: SweepRun) -> None:
        """Note how a trial has ended."""
        with _quiet() as optuna:
            states, value = optuna.trial.TrialState, run.value
            if run.status == FINISHED and value is not None:
                self._study.tell(self._trials[run.number], value)
            else:
                pruned = run.status == PRUNED and self._evaluations[run.number]
                self._study.tell(self._trials[run.number], state=states.PRUNED if pruned else states.FAIL)


def _suggested(trial: Any, one: Range) -> str | float:
    """The value of a trial for one key."""
    value: str | float
    if one.choices:
        value = trial.suggest_categorical(one.key, one.choices)
    elif one.is_whole:
        value = trial.suggest_int(one.key, one.low, one.high, step=int(one.step or 1), log=one.log)
    else:
        value = trial.suggest_float(one.key, one.low, one.high, step=one.step, log=one.log)
    return value


@contextmanager
def _quiet() -> Iterator[Any]:
    """A block with Optuna that neither logs nor warns."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)
