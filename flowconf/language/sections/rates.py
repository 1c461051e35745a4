"""Checks of learning rate schedules that need no data: the points where they end, and the values they depend on."""

from __future__ import annotations

from collections.abc import Iterator

from flowconf.language import registry
from flowconf.language.sections import directions
from flowconf.language.sections.phases import check_value
from flowconf.language.training import Schedule, ScheduleSection, TrainingConfig
from flowconf.report import Label, Reporter
from flowconf.report.origins import Path, dotted


def written(training: TrainingConfig) -> Iterator[tuple[Path, ScheduleSection]]:
    """All schedules with the places where they are written."""
    yield from _listed(training.schedule, ("schedule",))
    for text, group in training.optimizer.groups.items():
        if group.schedule is not None:
            yield from _listed(group.schedule, ("optimizer", "groups", text, "schedule"))


def _listed(schedule: Schedule, where: Path) -> Iterator[tuple[Path, ScheduleSection]]:
    if isinstance(schedule, list):
        yield from (((*where, number), one) for number, one in enumerate(schedule))
    else:
        yield where, schedule


def check(training: TrainingConfig, reporter: Reporter) -> None:
    """Report the errors of the schedules, except their names and arguments."""
    before: dict[Path, tuple[Path, ScheduleSection]] = {}
    for where, section in written(training):
        chain = where[:-1]
        if isinstance(where[-1], int) and chain in before:
            _check_order(before[chain], section, reporter)
        before[chain] = where, section
        _check_values(training, section, where, reporter)
        directions.check_schedule(training, section, where, reporter)


def _check_order(earlier: tuple[Path, ScheduleSection], section: ScheduleSection, reporter: Reporter) -> None:
    """Report a schedule of a list that has no end, or that ends after the next one."""
    where, before = earlier
    after = (*where[:-1], int(where[-1]) + 1)
    if before.until is None:
        message = f"`{dotted(where)}` has no end, so `{dotted(after)}` never begins"
        advice = "write `until: {fraction: 0.1}`, `{epoch: ...}` or `{step: ...}`"
        reporter.error("FC0122", message, reporter.value(where), at=where, advice=advice)
        return
    if section.until is None:
        return
    for key in ("step", "epoch", "fraction"):
        first, second = getattr(before.until, key), getattr(section.until, key)
        if first is not None and second is not None and first >= second:
            message = f"`{dotted(after)}` ends at {key} {second:g}, and the schedule before it at {key} {first:g}"
            labels = (Label("the schedule before it ends here", reporter.value((*where, "until", key))),)
            advice = "write the schedules in the order of their ends"
            reporter.error("FC0123", message, at=(*after, "until", key), labels=labels, advice=advice)


def _check_values(training: TrainingConfig, section: ScheduleSection, where: Path, reporter: Reporter) -> None:
    """Report a schedule that depends on a value that no run reports."""
    if section.name not in registry.schedules:
        return
    for parameter in registry.schedules.signature(section.name).parameters:
        written = section.args.get(parameter.name)
        if parameter.type == "LoggedValue" and isinstance(written, str):
            check_value(training, written, (*where, parameter.name), reporter, trained=True)
