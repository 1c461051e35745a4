"""Checks of the names that the training sections take from tables: data sets, losses, optimizers and so on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from flowconf.language import registry
from flowconf.language.advice import other_tools
from flowconf.language.keys.arguments import Arguments
from flowconf.language.keys.misplaced import TABLES
from flowconf.language.registry import Table
from flowconf.language.sections import data_sets, rates, torch_metrics
from flowconf.language.training import MetricSection, OpenSection, TrainingConfig, listed
from flowconf.report import Advice, Place, Reporter, Suggestion
from flowconf.report.origins import Node, Path, dotted

IsKnown = Callable[[str], bool]
"""Whether a reference is one of the graph or of the data set, as far as that is known."""


def check(training: TrainingConfig, is_known: IsKnown, reporter: Reporter) -> None:
    """Report unknown names and invalid arguments."""
    _check_section(registry.datasets, ("data",), training.data.name, training.data, reporter)
    for path, further in data_sets.further_sets(training).items():
        name, shared = further.name or training.data.name, training.data.args if further.name is None else {}
        if further.name is not None or name in registry.datasets:  # else reported already
            _check_section(registry.datasets, path, name, further, reporter, shared)
    for path, schedule in rates.written(training):
        _check_section(registry.schedules, path, schedule.name, schedule, reporter)
    _check_optimizer(training, reporter)
    for term, loss in training.loss.items():
        _check_function([registry.losses], ("loss", term), loss, is_known, reporter)
    for name, metric in training.metrics.items():
        if torch_metrics.uses_torchmetrics(metric.fn):
            _check_torchmetric(("metrics", name), metric, reporter)
        else:
            _check_function([registry.metrics, registry.losses], ("metrics", name), metric, is_known, reporter)
    for name, args in training.loggers.items():
        path, table = ("loggers", name), registry.loggers
        if name not in table:
            reporter.add(table.unknown(name, reporter.key(path), dotted(path)))
            continue
        arguments = Arguments(name, table.signature(name), args, path, reporter, table.passed(name))
        arguments.check()
        arguments.require(table.missing(name, args), reporter.key(path), path)
    for name, callback in training.callbacks.items():
        _check_section(registry.callbacks, ("callbacks", name), callback.name, callback, reporter)


def check_overruled(written: Mapping[Path, Node], reporter: Reporter) -> None:
    """Report unknown names in a file even if a config group overrides them."""
    for path, node in written.items():
        table = TABLES.get(str(path[0])) if path[1:] == ("name",) else None
        if table is not None and isinstance(node.value, str) and node.value not in table:
            reporter.add(table.unknown(node.value, node.place, dotted(path)))


def _check_section(
    table: Table, path: Path, name: str, section: OpenSection, reporter: Reporter, shared: Collection[str] = ()
) -> None:
    """Check the name of a section and its arguments; `shared` ones are written in another section."""
    place, given = reporter.value((*path, "name")), {*section.args, *shared}
    if name not in table:
        advice = table.advice_for(name)
        if isinstance(advice, Suggestion):
            advice = _with_required(advice, table.missing(advice.write, given))
        reporter.add(table.unknown(name, place, dotted(path), advice))
        return
    signature = table.signature(name)
    arguments = Arguments(name, signature, section.args, path, reporter, table.passed(name), section)
    arguments.require(arguments.check(table.missing(name, given)), place, path)


def _check_optimizer(training: TrainingConfig, reporter: Reporter) -> None:
    """Check the optimizer, and the arguments or optimizers of its groups."""
    section, table = training.optimizer, registry.optimizers
    _check_section(table, ("optimizer",), section.name, section, reporter)
    for selector, group in section.groups.items():
        path = ("optimizer", "groups", selector)
        if group.name is not None:
            _check_section(table, path, group.name, group, reporter)
        elif section.name in table:
            taken = table.passed(section.name)
            Arguments(section.name, table.signature(section.name), group.args, path, reporter, taken, group).check()


def _check_torchmetric(path: Path, section: MetricSection, reporter: Reporter) -> None:
    """Check the arguments of a class of torchmetrics; its task may follow from the shapes."""
    signature = torch_metrics.signature(section.fn)
    arguments = Arguments(section.fn, signature, section.args, (*path, "args"), reporter)
    lacking = arguments.check(signature.missing(0, set(section.args)))
    lacking = [argument for argument in lacking if argument != "task"]
    arguments.require(lacking, reporter.value((*path, "fn")), path, form="args: {{{}: ...}}")


def _check_function(
    tables: list[Table], path: Path, section: MetricSection, is_known: IsKnown, reporter: Reporter
) -> None:
    """Check a loss or metric: its name, the number of references, its arguments."""
    table = next((table for table in tables if section.fn in table), None)
    if table is None:
        _report_unknown_function(tables, path, section, reporter)
        return
    signature = table.signature(section.fn)
    read = (*listed(section.input), *listed(section.target))
    takes, lacking = signature.positional, signature.missing(len(read), set(section.args))
    taken = {*table.hidden, *takes[: len(read)]}
    arguments = Arguments(section.fn, signature, section.args, (*path, "args"), reporter, taken)
    left = arguments.check([argument for argument in lacking if argument not in takes])
    if not any(argument in takes for argument in lacking) and (len(read) <= len(takes) or signature.variadic):
        arguments.require(left, reporter.value((*path, "fn")), path, form="args: {{{}: ...}}")
    elif all(map(is_known, read)):  # unknown references are reported first
        message, place = _wrong_number(section, len(read), takes, path, reporter)
        advice = "write `target: ...`" if section.target is None and len(read) < len(takes) else None
        reporter.error("FC0133", message, place, at=path, advice=advice)


def _wrong_number(
    section: MetricSection, given: int, takes: list[str], path: Path, reporter: Reporter
) -> tuple[str, Place]:
    """The message and its place for a function that gets the wrong number of values."""
    shown = ", ".join(f"`{argument}`" for argument in takes)
    if section.target is None and given < len(takes):
        return f"`{dotted(path)}` requires `target`: `{section.fn}` takes {shown}", reporter.key(path)
    both = "" if section.target is None else " and `target`"
    key = "target" if section.target is not None and len(listed(section.input)) * 2 == len(takes) else "input"
    return f"`{section.fn}` takes {shown}, got {given} values from `input`{both}", reporter.value((*path, key))


def _report_unknown_function(tables: list[Table], path: Path, section: MetricSection, reporter: Reporter) -> None:
    """Report a name that is in none of the tables; registered names are suggested before torchmetrics' classes."""
    first, name = tables[0], section.fn
    known = [name for table in tables for name in table.names()]
    known += torch_metrics.homes() if first is registry.metrics else ()
    advice = other_tools.for_name(first.kind, first.plural, name, known)
    if isinstance(advice, Suggestion) and torch_metrics.uses_torchmetrics(advice.write):
        signature = torch_metrics.signature(advice.write)
        advice = _with_required(advice, signature.missing(0, set(section.args)), "args: {{{}}}")
    variant = re.fullmatch(r"(Binary|Multiclass|Multilabel)(\w+)", name)
    if variant is not None and variant[2] in known:
        advice = f"write `{variant[2]}`, and `args: {{task: {variant[1].lower()}}}`"
    reporter.add(first.unknown(name, reporter.value((*path, "fn")), dotted(path), advice))


def _with_required(advice: Suggestion, lacking: Sequence[str], form: str = "{}") -> Advice:
    """The advice to write a name, with the arguments that it requires."""
    arguments = form.format(", ".join(f"{argument}: ..." for argument in lacking))
    return f"write `{advice.write}`, and `{arguments}`" if lacking else advice
