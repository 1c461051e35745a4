"""Which values of a run are better: the larger or the smaller ones."""

from __future__ import annotations

from typing import Any

from flowconf.language import registry
from flowconf.language.sections import torch_metrics
from flowconf.language.signatures import Parameter
from flowconf.language.training import LATEST, ScheduleSection, TrainingConfig
from flowconf.report import Reporter
from flowconf.report.origins import Path, dotted

WORDS = {"min": "smaller", "max": "larger"}


def direction(training: TrainingConfig, value: str, mode: str | None = None) -> str:
    """`min` or `max`: which values are better, by `mode` or by the loss or metric that computes them.

    The larger ones for a metric that does not declare it.
    """
    return mode or declared(training, value) or "max"


def direction_of_best(training: TrainingConfig) -> str:
    """`min` or `max`: which value of `trainer.best` is the best one."""
    best = training.trainer.best
    return "max" if best == LATEST else direction(training, best, training.trainer.mode)


def declared(training: TrainingConfig, value: str) -> str | None:
    """`min` or `max`, None for a value of a metric that does not declare which of its values are better."""
    split, _, name = value.partition("/")
    metric = training.metrics.get(name.partition("/")[0]) if split != "train" else None
    return "min" if metric is None else of_function(metric.fn)


def of_function(fn: str) -> str | None:
    """The same for a metric by the name of its function or class."""
    if fn in registry.losses:
        return "min"
    higher: tuple[object, ...] | None
    if torch_metrics.uses_torchmetrics(fn):
        higher = (torch_metrics.higher_is_better(fn),)
    else:
        higher = registry.metrics.declared(fn, "higher_is_better") if fn in registry.metrics else None
    return "max" if higher == (True,) else "min" if higher == (False,) else None


def with_mode(training: TrainingConfig, section: ScheduleSection) -> dict[str, Any]:
    """The arguments of a schedule: with the `mode` of the value that it depends on, if it takes one that is not set."""
    key = _value_of(section)
    if key is None or section.args.get("mode") is not None:
        return section.args
    return {**section.args, "mode": direction(training, section.args.get(key.name, key.default.strip("\"'")))}


def check(training: TrainingConfig, value: str, mode: str | None, at: Path, reporter: Reporter) -> None:
    """Warn if it is not known which of the values at `at` are better, or if `mode` contradicts what is known."""
    natural = declared(training, value)
    fn = training.metrics[value.split("/")[1]].fn if natural is None else ""
    if mode is None and (fn in registry.metrics or torch_metrics.uses_torchmetrics(fn)):
        message = f"`{dotted(at)}` is `{value}`, whose metric does not declare which values are better"
        advice = "write `mode: max` beside it if larger values are better, as is assumed, or `mode: min`"
        reporter.warn("FC0411", message, at=at, advice=advice)
    elif mode is not None and natural not in (mode, None):
        message = f"`mode` is `{mode}`, but {WORDS[str(natural)]} values of `{value}` are better"
        reporter.warn("FC0411", message, at=(*at[:-1], "mode"), advice=f"write `mode: {natural}`, or remove it")


def check_schedule(training: TrainingConfig, section: ScheduleSection, where: Path, reporter: Reporter) -> None:
    """The same for the value that a schedule depends on."""
    key = _value_of(section)
    if key is not None and isinstance(section.args.get(key.name), str):
        check(training, section.args[key.name], section.args.get("mode"), (*where, key.name), reporter)


def _value_of(section: ScheduleSection) -> Parameter | None:
    """The argument of a schedule that names the value it depends on, if it also takes a `mode`."""
    if section.name not in registry.schedules:
        return None
    signature = registry.schedules.signature(section.name)
    found = (parameter for parameter in signature.parameters if parameter.type == "LoggedValue")
    return next(found, None) if signature.takes("mode") else None
