"""Checks of settings of the trainer that have no effect, or cannot have one together."""

from __future__ import annotations

import math
from collections.abc import Iterator

from flowconf.language.points import Point, RunLength
from flowconf.language.sections import rates
from flowconf.language.training import TrainerSection, TrainingConfig
from flowconf.report import Label, Reporter
from flowconf.report.origins import Path


def check(training: TrainingConfig, reporter: Reporter) -> None:
    """Report settings without effect in the same file."""
    trainer, rows = training.trainer, training.data.batch_size
    if trainer.epochs is not None and trainer.steps is not None:
        epochs, steps = (reporter.value(("trainer", key)) for key in ("epochs", "steps"))
        if epochs.file == steps.file:
            message = "`epochs` and `steps` are both set; the run ends at whichever comes first"
            label, place = Label("`epochs` is set here", epochs), reporter.key(("trainer", "steps"))
            reporter.warn("FC0410", message, place, path="trainer.steps", labels=(label,), advice="keep one of them")
    _check_patience(training, reporter)
    if trainer.steps is not None:
        _check_durations(training, RunLength(trainer.steps), reporter)
    if trainer.accumulate > rows:
        place, batch = reporter.value(("trainer", "accumulate")), ("data", "batch_size")
        labels = (Label("the size of a batch", reporter.value(batch)),) if reporter.origins.at(batch) else ()
        message = f"a batch of {rows} row{'s' * (rows > 1)} cannot be split into {trainer.accumulate} parts"
        advice = f"write at most `{rows}`"
        reporter.error("FC0123", message, place, path="trainer.accumulate", labels=labels, advice=advice)


def _check_patience(training: TrainingConfig, reporter: Reporter) -> None:
    """Report a patience that a run of this length cannot exhaust, as far as that is known without the data."""
    trainer = training.trainer
    if trainer.patience is None:
        return
    length, keys = trainer.epochs, ["patience", "epochs"]
    if isinstance(trainer.evaluate_every, Point):
        return
    if trainer.evaluate_every:
        length, keys = trainer.steps, ["patience", "steps", "evaluate_every"]
    if length is None or not reporter.in_one_file(*(("trainer", key) for key in keys)):
        return
    evaluations = math.ceil(length / (trainer.evaluate_every or 1))
    longest = evaluations - 2  # the first evaluation is the best so far, and after the last one the run ends anyway
    if trainer.patience > longest:
        count = f"{evaluations:,} evaluation{'s' * (evaluations > 1)}"
        message = f"`patience` is {trainer.patience:,}, and a run with {count} never ends earlier because of it"
        labels = (Label(f"`{keys[1]}` allows {count}", reporter.value(("trainer", keys[1]))),)
        advice = f"write at most `{longest}`, or remove it" if longest > 0 else "remove it"
        reporter.warn("FC0410", message, at=("trainer", "patience"), labels=labels, advice=advice)


def check_length(training: TrainingConfig, length: RunLength, reporter: Reporter) -> None:
    """Report settings without effect once the length of the run is known."""
    _check_durations(training, length, reporter)
    _check_override(training.trainer, length, reporter)


def _check_override(trainer: TrainerSection, length: RunLength, reporter: Reporter) -> None:
    """Report a length of the command line that a shorter one of the config makes ineffective."""
    if trainer.epochs is None or trainer.steps is None:
        return
    longer, shorter = ("steps", "epochs") if trainer.steps > length.steps else ("epochs", "steps")
    place, other = (reporter.value(("trainer", key)) for key in (longer, shorter))
    in_epochs = trainer.epochs * length.per_epoch
    if place.file is None and other.file is not None and in_epochs != trainer.steps:
        message = f"`trainer.{longer}` has no effect: `trainer.{shorter}` ends the run after step {length.steps:,}"
        labels = (Label(f"`{shorter}` is set here", other),)
        advice = f"add `trainer.{shorter}=null`"
        reporter.warn("FC0410", message, place, path=f"trainer.{longer}", labels=labels, advice=advice)


def _check_durations(training: TrainingConfig, length: RunLength, reporter: Reporter) -> None:
    """Report durations that do not end before the run does."""
    end = ("trainer", "steps" if training.trainer.steps == length.steps else "epochs")
    for at, duration in _durations(training):
        steps, most = length.steps_before(duration), length.steps - (at[-1] == "warmup")
        if steps > most and reporter.origins.at(at) is not None and reporter.in_one_file(at, end):
            message = f"`{at[-1]}` is {steps:,} steps, and the run ends after step {length.steps:,}"
            labels = (Label(f"`{end[-1]}` is set here", reporter.value(end)),)
            reporter.warn("FC0410", message, at=at, labels=labels, advice=f"write at most `{most}`, or remove it")


def _durations(training: TrainingConfig) -> Iterator[tuple[Path, int | Point]]:
    """The durations after which something happens that has no effect at the end of a run, by path."""
    for where, section in rates.written(training):
        yield (*where, "warmup"), section.warmup
    trainer = training.trainer
    for key in ("evaluate_every", "checkpoint_every", "log_every"):
        yield ("trainer", key), getattr(trainer, key)
    keep = trainer.keep
    if keep is not None and keep.every is not None:
        yield ("trainer", "keep", "every"), keep.every
    for name, callback in training.callbacks.items():
        yield ("callbacks", name, "every"), callback.every
