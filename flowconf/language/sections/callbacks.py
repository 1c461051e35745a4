"""Checks of callbacks that need no data: their names, and how often they are called."""

from __future__ import annotations

from flowconf.language.points import RunLength
from flowconf.language.training import TrainingConfig
from flowconf.report import Label, Reporter

RESERVED = ("train", "val", "test", "lr", "weight", "decay")
"""What the names of logged values begin with that are not those of a callback."""


def check(training: TrainingConfig, reporter: Reporter) -> None:
    """Report names that other logged values have, and callbacks that are never called."""
    for name, callback in training.callbacks.items():
        path = ("callbacks", name)
        if name in RESERVED:
            message = f"a callback cannot be named `{name}`: what it logs would be named like the values of a run"
            reporter.error("FC0126", message, reporter.key(path), at=path, advice="choose another name")
        steps = training.trainer.steps
        if steps is not None and (every := RunLength(steps).steps_before(callback.every)) > steps:
            end = ("trainer", "steps")
            if reporter.in_one_file((*path, "every"), end):
                message = f"`every` is {every:,} steps, and the run ends after step {steps:,}"
                labels = (Label("`steps` is set here", reporter.value(end)),)
                reporter.warn("FC0410", message, at=(*path, "every"), labels=labels, advice=f"write at most `{steps}`")
