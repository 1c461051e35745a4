"""Checks of phases, and of the values of evaluations that they depend on, that need no data."""

from __future__ import annotations

from collections.abc import Iterator

from flowconf.language import registry
from flowconf.language.advice import other_tools
from flowconf.language.sections import data_sets, directions, phase_order
from flowconf.language.training import (
    LATEST,
    Condition,
    MetricSection,
    PhaseSection,
    TrainingConfig,
    Trend,
    evaluated_on,
    listed,
    placed,
)
from flowconf.report import Label, Reporter, Suggestion, suggest
from flowconf.report.origins import Path, dotted


def check(training: TrainingConfig, reporter: Reporter) -> None:
    """Report the errors of `phases`."""
    before: str | None = None
    for name, phase in training.phases.items():
        _check_order(training, name, before, reporter)
        _check_phase(training, phase, ("phases", name), reporter)
        before = name
    phase_order.check(training, reporter)


def check_value(training: TrainingConfig, name: str, path: Path, reporter: Reporter, trained: bool = False) -> None:
    """Report a name that is not a value of an evaluation during the run; `trained`: nor of the training losses."""
    own, sets = (registry.metrics, registry.losses), ("val", *training.data.evaluate)
    known, several = [], []
    for split in (*sets, "train") if trained else sets:
        terms = [term for term, loss in training.loss.items() if split == "train" or _is_on(training, loss, split)]
        known += [f"{split}/loss", *(f"{split}/loss/{term}" for term in terms)]
    for split in sets:
        metrics = {metric: s for metric, s in training.metrics.items() if _is_on(training, s, split)}
        known += [f"{split}/{metric}" for metric in metrics]
        several += [f"{split}/{metric}/" for metric, s in metrics.items() if not any(s.fn in table for table in own)]
    known += [f"train/turn/{name}" for name in training.turns] if trained else []
    if name not in known and not name.startswith(tuple(several)):
        of = "a run" if trained else "the evaluations" if training.data.evaluate else "the validation split"
        message = f"unknown value `{name}` of {of}"
        _, meant = other_tools.for_pair("best", name, ["best"]) or ("", name)
        advice = Suggestion(meant, instead_of=name) if meant in known else suggest(name, known, "values")
        reporter.error("FC0402", message, at=path, advice=advice)


def _is_on(training: TrainingConfig, section: MetricSection, split: str) -> bool:
    """Whether a loss or metric is evaluated on a split, or may be: one of its splits is unknown, which is reported."""
    known = (*data_sets.SPLITS, *training.data.evaluate)
    return evaluated_on(section, split) or any(one not in known for one in listed(section.splits))


def wanted_values(training: TrainingConfig) -> Iterator[tuple[Path, str]]:
    """The values of evaluations that a run decides by, and where they are written."""
    if training.trainer.best != LATEST:
        yield ("trainer", "best"), training.trainer.best
    for phase, section in training.phases.items():
        for when, condition in (("when", section.when), ("until", section.until)):
            if condition is not None and condition.trend is not None:
                yield ("phases", phase, when, condition.key, "metric"), condition.trend.metric


def _check_order(training: TrainingConfig, name: str, before: str | None, reporter: Reporter) -> None:
    """Report a phase that never begins."""
    phase, where = training.phases[name], ("phases", name)
    if before is not None and phase.when is None and training.phases[before].until is None:
        message = f"the phase `{name}` never begins, because `{before}` before it has no end"
        advice = f"set the beginning of `{name}` (`when`) or the end of `{before}` (`until`)"
        reporter.error("FC0122", message, reporter.key(where), at=where, advice=advice)


def _check_phase(training: TrainingConfig, phase: PhaseSection, where: Path, reporter: Reporter) -> None:
    for key in ("when", "until"):
        condition: Condition | None = getattr(phase, key)
        if condition is not None:
            _check_condition(training, condition, (*where, key), reporter)
    frozen = {path: at for at, path in placed(phase.freeze, (*where, "freeze"))}
    for at, path in placed(phase.thaw, (*where, "thaw")):
        if path in frozen:
            labels = (Label("frozen here", reporter.value(frozen[path])),)
            message = f"`{dotted(where)}` both freezes and thaws `{path}`"
            reporter.error("FC0123", message, at=at, labels=labels, advice="keep one of them")
    for name in phase.loss:
        if name not in training.loss:
            at = (*where, "loss", name)
            message = f"unknown term `{name}` of the loss"
            advice = suggest(name, training.loss, "terms")
            reporter.error("FC0402", message, reporter.key(at), at=at, advice=advice)
    data_sets.check_phase(training, phase, where, reporter)


def _check_condition(training: TrainingConfig, condition: Condition, where: Path, reporter: Reporter) -> None:
    watched, at = condition.trend, (*where, condition.key, "metric")
    if watched is not None:
        check_value(training, watched.metric, at, reporter)
        if isinstance(watched, Trend):
            directions.check(training, watched.metric, watched.mode, at, reporter)
