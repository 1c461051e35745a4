"""Checks of the training sections that need no data: names, arguments, references, fields.

Signatures and the declared fields of data sets are read from source, so torch is not needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

from flowconf.language import references, registry, value_types
from flowconf.language.advice import other_tools, sections, vocabulary
from flowconf.language.advice.sections import SECTIONS
from flowconf.language.keys.misplaced import TABLES
from flowconf.language.keys.validate import shown
from flowconf.language.open_size import bound
from flowconf.language.plan import GraphPlan, Input
from flowconf.language.registry import Table
from flowconf.language.section import Section
from flowconf.language.sections import (
    augmentations,
    callbacks,
    data_sets,
    directions,
    ineffective,
    phases,
    rates,
    selections,
    sweeps,
    torch_metrics,
    turns,
)
from flowconf.language.sections.phases import check_value
from flowconf.language.signatures import Signature
from flowconf.language.training import (
    FITTED,
    LATEST,
    CallbackSection,
    DataSection,
    GroupSection,
    MetricSection,
    MixtureSection,
    OptimizerSection,
    References,
    ScheduleSection,
    SetSection,
    TrainingConfig,
    listed,
)
from flowconf.report import NOWHERE, Advice, Available, Label, Place, Reporter, Suggestion, dtype_name, nearest, suggest
from flowconf.report.origins import Node, Path, dotted

NO_LABELS: tuple[Label, ...] = ()
OWN_KEYS: dict[type[Section], list[str]] = {
    section: [key for key in section.model_fields if key != "name"]
    for section in (
        DataSection,
        SetSection,
        MixtureSection,
        OptimizerSection,
        GroupSection,
        ScheduleSection,
        CallbackSection,
    )
}
CONVERTED = {"float64", "float16", "bfloat16", "uint8"}
"""Types of data that float32 weights do not take, and that are no numbers of classes."""


def check(training: TrainingConfig, plan: GraphPlan, reporter: Reporter) -> None:
    """Report the errors of the training sections."""
    own = provided_fields(training.data.name)
    fields = None if own is None else (*own, *augmentations.views(training, own))
    check_names(training, plan, fields, reporter)
    selections.check(training, plan, reporter)
    _check_devices(training, reporter)
    ineffective.check(training, reporter)
    phases.check(training, reporter)
    rates.check(training, reporter)
    turns.check(training, reporter)
    callbacks.check(training, reporter)
    sweeps.check(training, reporter)
    data_sets.check(training, reporter)
    data_sets.check_cut_inputs(training, plan, reporter)
    augmentations.chains(training, reporter)
    if own is not None and fields is not None:
        augmentations.check_fields(training, own, reporter)
        data_sets.check_buckets(training, own, reporter)
        fields = (*fields, *_of_another_set(training, plan, fields, reporter))
    check_references(training, plan, fields, reporter)
    reporter.defines("the step", _unnamed(training, plan))
    if fields is not None:
        check_inputs(plan, dict.fromkeys(fields), reporter)


def _unnamed(training: TrainingConfig, plan: GraphPlan) -> dict[str, Place]:
    """The steps that no reference uses, with their places."""
    named = {value.member for step in plan.steps for value in step.reads if value.place != NOWHERE}
    named |= {value.member for _, value in plan.outputs if value.place != NOWHERE} | training.named()
    return {step.name: step.place for step in plan.steps if step.name not in named}


def check_names(training: TrainingConfig, plan: GraphPlan, fields: Collection[str] | None, reporter: Reporter) -> None:
    """Report unknown data sets, losses, metrics, optimizers and schedules, and invalid arguments of these."""
    checker = _Names(plan, fields, reporter)
    checker.section(
        registry.datasets,
        ("data",),
        training.data.name,
        training.data.args,
        supplied=("seed", FITTED),
        hidden=(FITTED,),
    )
    data = training.data
    for path, further in data_sets.further_sets(training).items():
        supplied = ["seed", FITTED, *(data.args if further.name is None else ())]
        name = further.name or data.name
        if further.name is not None or name in registry.datasets:  # else reported already
            checker.section(registry.datasets, path, name, further.args, supplied=supplied, hidden=(FITTED,))
    for path, schedule in rates.written(training):
        checker.section(registry.schedules, path, schedule.name, schedule.args, given=1)
    _check_optimizer(training.optimizer, checker)
    for name, loss in training.loss.items():
        checker.function([registry.losses], ("loss", name), loss)
    for name, metric in training.metrics.items():
        if torch_metrics.uses_torchmetrics(metric.fn):
            checker.torchmetric(("metrics", name), metric)
        else:
            checker.function([registry.metrics, registry.losses], ("metrics", name), metric)
    for name, args in training.loggers.items():
        checker.logger(name, args)
    for name, callback in training.callbacks.items():
        checker.section(registry.callbacks, ("callbacks", name), callback.name, callback.args)
    _check_best(training, reporter)


def _check_optimizer(section: OptimizerSection, checker: _Names) -> None:
    """Report unknown optimizers, and invalid arguments of them and of groups."""
    checker.section(registry.optimizers, ("optimizer",), section.name, section.args, given=1)
    for selector, group in section.groups.items():
        path = ("optimizer", "groups", selector)
        if group.name is not None:
            checker.section(registry.optimizers, path, group.name, group.args, given=1)
        elif section.name in registry.optimizers:
            signature = registry.optimizers.signature(section.name)
            checker.arguments(section.name, signature, group.args, path, given=1, own=OWN_KEYS[GroupSection])


def check_overruled(written: Mapping[Path, Node], reporter: Reporter) -> None:
    """Report unknown names in a file even if a config group overrides them."""
    for path, node in written.items():
        table = TABLES.get(str(path[0])) if path[1:] == ("name",) else None
        if table is not None and isinstance(node.value, str) and node.value not in table:
            reporter.add(table.unknown(node.value, node.place, dotted(path)))


def provided_fields(data_set: str) -> tuple[str, ...] | None:
    """The fields that a data set declares (`@provides(...)`), or None without a declaration.

    For data sets that are not imported yet, this is read from source, like their signatures.
    """
    return (registry.datasets.declared(data_set, "provides") if data_set in registry.datasets else None) or None


def check_references(
    training: TrainingConfig,
    plan: GraphPlan,
    fields: Collection[str] | None,
    reporter: Reporter,
) -> None:
    """Report references that are neither a value of the graph nor one of the `fields` (None: not known yet)."""
    for where, written in _references(training):
        for number, reference in enumerate(listed(written)):
            place = (*where, number) if isinstance(written, list) else where
            _check_reference(reference, plan, fields, place, reporter)


def _references(training: TrainingConfig) -> Iterator[tuple[Path, References | None]]:
    """What losses, metrics and callbacks refer to, by path."""
    for path, section in measured(training).items():
        for key in ("input", "target", "mask"):
            yield (*path, key), getattr(section, key)
    for name, callback in training.callbacks.items():
        yield ("callbacks", name, "read"), callback.read


def _of_another_set(
    training: TrainingConfig, plan: GraphPlan, fields: Collection[str], reporter: Reporter
) -> list[str]:
    """Report and return two or more missing fields of the data set: the config is for a different data set."""
    needed = {given.name: _place_of(given, reporter) for given in plan.inputs if not given.captured}
    for path, section in measured(training).items():
        for key in ("target", "mask"):
            for reference in listed(getattr(section, key)):
                if reference.isidentifier() and not references.names_value(plan, reference):
                    needed.setdefault(reference, reporter.value((*path, key)))
    lacks = [name for name in needed if name not in fields and not nearest(name, fields)]
    if len(lacks) < 2:
        return []
    name, shown = training.data.name, ", ".join(f"`{name}`" for name in lacks)
    message = f"the data set `{name}` has no fields {shown}"
    labels = tuple(Label(f"`{name}` is used here", needed[name]) for name in lacks[:4])
    others = [f"`{one}`" for one in registry.datasets.names() if set(needed) <= {*(provided_fields(one) or ())}]
    advice: Advice = Available("fields", tuple(fields))
    if others:
        advice = f"{', '.join(others)} {'have' if len(others) > 1 else 'has'} them"
    reporter.error("FC0502", message, reporter.value(("data", "name")), path="data.name", labels=labels, advice=advice)
    return lacks


def measured(training: TrainingConfig) -> dict[Path, MetricSection]:
    """All losses and metrics by path."""
    found: dict[Path, MetricSection] = {("loss", name): loss for name, loss in training.loss.items()}
    return found | {("metrics", name): metric for name, metric in training.metrics.items()}


def _check_devices(training: TrainingConfig, reporter: Reporter) -> None:
    """Report duplicate devices, and shares whose number differs from that of the devices."""
    trainer, where = training.trainer, ("trainer", "devices")
    if isinstance(trainer.devices, list):
        for number, device in enumerate(trainer.devices):
            if device in trainer.devices[:number]:
                message = f"duplicate device `{device}`"
                place = reporter.value((*where, number))
                reporter.error("FC0123", message, place, at=where, advice="list each device once")
    if isinstance(trainer.devices, str) or not isinstance(trainer.shares, list):
        return
    count = trainer.nodes * (trainer.devices if isinstance(trainer.devices, int) else len(trainer.devices))
    if len(trainer.shares) != count:
        message = f"`trainer.shares` must have one number for each of {count} devices, got {len(trainer.shares)}"
        labels = (Label("the devices are set here", reporter.value(where)),)
        place = reporter.value(("trainer", "shares"))
        advice = "write one number for each device"
        reporter.error("FC0123", message, place, path="trainer.shares", labels=labels, advice=advice)


def _check_reference(
    reference: str,
    plan: GraphPlan,
    fields: Collection[str] | None,
    where: Path,
    reporter: Reporter,
) -> None:
    if fields is not None and reference in fields:
        return
    try:
        references.find_anywhere(plan, reference)
    except references.NotFound as problem:
        removed = reporter.key(("model", "flow", reference)) if _is_removed(plan, reference) else None
        advice, severity = problem.advice_for(reference), "error"
        message, labels = f"`{reference}` is neither a value of the graph nor a field of the data", NO_LABELS
        output = dict(plan.outputs).get(reference)
        if output is not None and (fields is not None or where[2] == "input"):
            message = f"`{reference}` is the name of an output, which is `{output}` in the graph"
            advice, severity = Suggestion(str(output), reference), "warning" if fields is None else "error"
        elif reference.isidentifier() and not isinstance(problem, references.Ambiguous):
            names = [*(fields or ()), *plan.names()]
            advice = suggest(reference, names, "fields and steps")
            if fields is None:  # it may be a field of a data set that does not declare its fields
                if where[2] != "input" or (removed is None and nearest(reference, names) is None):
                    return
                message, severity = f"`{reference}` is not a value of the graph, and may not be a field", "warning"
        if removed is not None:
            message, labels = f"`{reference}` is used here, but was removed", (Label("removed here", removed),)
            advice = f"remove `{'.'.join(str(part) for part in where[:2])}` too"
        name, place = reference.split(".")[0], reporter.value(where)
        reporter.missing(
            name,
            "FC0402",
            message,
            place,
            at=where,
            cause=(reference,),
            advice=advice,
            labels=labels,
            severity=severity,
        )


def _is_removed(plan: GraphPlan, reference: str) -> bool:
    """Whether the flow has a null member of that name."""
    flow = plan.document.get("flow") if isinstance(plan.document, Mapping) else None
    return isinstance(flow, Mapping) and reference in flow and flow[reference] is None


def check_inputs(plan: GraphPlan, fields: Mapping[str, Any], reporter: Reporter) -> None:
    """Report inputs of the graph that the data set does not have, or has with a different shape or dtype.

    `fields` are those of a `Split`; of a field that is None, only the name is known.
    """
    sizes: dict[str, int] = {}
    for given in plan.inputs:
        if given.captured:
            continue
        if given.name not in fields:
            message = f"the data set has no field for the input `{given.name}` of the graph"
            advice = suggest(given.name, fields, "fields")
            reporter.error("FC0502", message, _place_of(given, reporter), path="data", advice=advice)
        elif fields[given.name] is not None and given.shape is not None:
            rows = next(name for name in ("B", "N", "Rows") if name not in dict(plan.params))
            _check_shape(given, fields[given.name], rows, sizes, reporter)


def _check_shape(given: Input, field: Any, rows: str, sizes: dict[str, int], reporter: Reporter) -> None:
    """Report an input that is not like its field in the data; `rows` is a name for the size of a batch."""
    shape, dtype = field
    assert given.shape is not None
    kind = dtype_name(dtype)
    wrong = _misfit(given, shape, sizes)
    if wrong is None and kind == given.dtype:
        return
    declared, gives = (_shape(given.shape), _shape([rows, *shape])) if wrong is not None else (given.dtype, kind)
    message = f"the input `{given.name}` is declared as {declared}, but the data set has {gives}"
    labels = (Label(f"`{given.name}` is {gives} here", reporter.value(("data", "name"))),)
    where: Path = ("model", "inputs", given.name)
    advice: Advice
    if wrong is not None:
        place, advice = _written(reporter, (*where, "shape"), where) or _place_of(given, reporter), Suggestion(gives)
    else:
        typed = _written(reporter, (*where, "dtype"))
        place, advice = typed or _place_of(given, reporter), f"write `{'' if typed else 'dtype: '}{kind}`"
        if given.dtype == "float32" and kind in CONVERTED:
            advice = f"convert `{given.name}` to float32 in the data set, as by `.float()`"
    sizes_differ = [want != have for want, have in zip(given.shape[1:], shape, strict=False) if isinstance(want, int)]
    if wrong is not None and 0 < wrong < len(given.places) and sum(sizes_differ) == 1:
        place, advice = given.places[wrong], Suggestion(str(shape[wrong - 1]), instead_of=str(given.shape[wrong]))
    reporter.error("FC0502", message, place, path="data", labels=labels, advice=advice)


def _written(reporter: Reporter, *paths: Path) -> Place | None:
    """The place of the first of these paths that exists."""
    return next((node.place for path in paths if (node := reporter.origins.at(path)) is not None), None)


def _misfit(given: Input, shape: tuple[int, ...], sizes: dict[str, int]) -> int | None:
    """The first dimension of an input that does not match the data, 0 for all of them, None if all match.

    The first size is that of a batch, which differs between batches. `sizes` are those of symbols.
    """
    assert given.shape is not None
    if len(given.shape) != len(shape) + 1 or isinstance(given.shape[0], int):
        return 0
    for position, (want, have) in enumerate(zip(given.shape[1:], shape, strict=True), 1):
        if not bound(want, have, sizes):
            return position
    return None


def _shape(sizes: Iterable[object]) -> str:
    return f"[{', '.join(str(size) for size in sizes)}]"


def _place_of(given: Input, reporter: Reporter) -> Place:
    return given.place if given.place != Place() else reporter.value(("model", "inputs"))


def _check_best(training: TrainingConfig, reporter: Reporter) -> None:
    trainer, where = training.trainer, ("trainer", "best")
    if trainer.best != LATEST:
        check_value(training, trainer.best, where, reporter)
        directions.check(training, trainer.best, trainer.mode, where, reporter)
        return
    comparing: dict[Path, object] = {("trainer", key): getattr(trainer, key) for key in ("patience", "mode")}
    for path in (path for path, value in {**comparing, ("sweep",): training.sweep}.items() if value is not None):
        message = f"`{dotted(path)}` compares values, and `trainer.best` is `{LATEST}`, which is no value"
        label = Label("the latest weights, without a comparison", reporter.value(where))
        advice = f"remove `{dotted(path)}`, or write a value in `trainer.best`, such as `val/loss`"
        reporter.error("FC0410", message, reporter.key(path), path=dotted(path), labels=(label,), advice=advice)


def _section(path: Path) -> str:
    """The section whose table has the name at a path."""
    return "schedule" if "schedule" in path else str(path[0])


def own_keys(path: Path) -> list[str]:
    """The keys of the section at a path that are not arguments of its registered name."""
    if _section(path) == "schedule":
        return OWN_KEYS[ScheduleSection]
    if path[0] == "callbacks":
        return OWN_KEYS[CallbackSection]
    if path[0] == "data" and len(path) > 1:
        return OWN_KEYS[MixtureSection if path[1] == "mixture" else SetSection]
    return OWN_KEYS[GroupSection if len(path) > 1 else SECTIONS[str(path[0])]]


def _with_required(advice: Suggestion, lacking: Sequence[str], form: str = "{}") -> Advice:
    """The advice to write a name, with the arguments that it requires."""
    arguments = form.format(", ".join(f"{argument}: ..." for argument in lacking))
    return f"write `{advice.write}`, and `{arguments}`" if lacking else advice


class _Names:
    """Looks up names in the registry and checks arguments. `given` is the number of positional arguments."""

    def __init__(self, plan: GraphPlan, fields: Collection[str] | None, reporter: Reporter) -> None:
        self.plan, self.fields = plan, fields
        self.reporter = reporter

    def section(
        self,
        table: Table,
        path: Path,
        name: str,
        args: Mapping[str, Any],
        given: int = 0,
        supplied: Collection[str] = (),
        hidden: Collection[str] = (),
    ) -> None:
        """Check a section with a name and its arguments; the trainer passes the first `given` ones, and `supplied`.

        No config may set the `hidden` ones.
        """
        if name not in table:
            advice = table.advice_for(name)
            if isinstance(advice, Suggestion):
                advice = _with_required(advice, table.signature(advice.write).missing(given, {*args, *supplied}))
            self.reporter.add(table.unknown(name, self.reporter.value((*path, "name")), dotted(path), advice))
            return
        signature = table.signature(name)
        lacking = signature.missing(given, {*args, *supplied})
        unknown = self.arguments(name, signature, args, path, given, hidden, own_keys(path), lacking)
        self.required(name, lacking[1:] if unknown else lacking, path)

    def logger(self, name: str, args: Mapping[str, Any]) -> None:
        """Check a logger, whose name is its key."""
        path = ("loggers", name)
        if name not in registry.loggers:
            self.reporter.add(registry.loggers.unknown(name, self.reporter.key(path), dotted(path)))
            return
        signature = registry.loggers.signature(name)
        self.arguments(name, signature, args, path, given=1)
        for argument in signature.missing(1, set(args)):
            message = f"`{name}` requires the argument `{argument}`"
            advice = f"write `{argument}: ...`"
            self.reporter.error("FC0133", message, self.reporter.key(path), at=path, advice=advice)

    def torchmetric(self, path: Path, section: MetricSection) -> None:
        """Check the arguments of a class of torchmetrics; its task may follow from the shapes."""
        signature = torch_metrics.signature(section.fn)
        lacking = signature.missing(0, set(section.args))
        unknown = self.arguments(section.fn, signature, section.args, (*path, "args"), 0, lacking=lacking)
        lacking = lacking[1:] if unknown else lacking
        self.required(section.fn, [argument for argument in lacking if argument != "task"], path)

    def function(self, tables: list[Table], path: Path, section: MetricSection) -> None:
        """Check a loss or metric: its name, the number of references, its arguments."""
        table = next((table for table in tables if section.fn in table), None)
        if table is None:
            self.unknown_function(tables, path, section.fn, section.args)
            return
        signature = table.signature(section.fn)
        given = len(listed(section.input)) + len(listed(section.target))
        lacking = signature.missing(given, set(section.args))
        takes = signature.positional
        own = [argument for argument in lacking if argument not in takes]
        unknown = self.arguments(
            section.fn, signature, section.args, (*path, "args"), given, {"reduction"}, lacking=own
        )
        written = (*listed(section.input), *listed(section.target))
        unknown_there = self.fields is not None and any(
            one not in self.fields and not references.names_value(self.plan, one) for one in written
        )
        if any(argument in takes for argument in lacking) or (given > len(takes) and not signature.variadic):
            if unknown_there:  # unknown references are reported first
                return
            advice = "write `target: ...`" if section.target is None and given < len(takes) else None
            self.reporter.error("FC0133", *self.count(section, given, takes, path), at=path, advice=advice)
        else:
            self.required(section.fn, lacking[1:] if unknown else lacking, path)

    def count(self, section: MetricSection, given: int, takes: list[str], path: Path) -> tuple[str, Place]:
        """The message and its place for a function that gets the wrong number of values."""
        shown = ", ".join(f"`{argument}`" for argument in takes)
        if section.target is None and given < len(takes):
            return f"`{dotted(path)}` requires `target`: `{section.fn}` takes {shown}", self.reporter.key(path)
        both = "" if section.target is None else " and `target`"
        message = f"`{section.fn}` takes {shown}, got {given} values from `input`{both}"
        key = "target" if section.target is not None and len(listed(section.input)) * 2 == len(takes) else "input"
        return message, self.reporter.value((*path, key))

    def unknown_function(self, tables: list[Table], path: Path, name: str, args: Collection[str]) -> None:
        """Report a name that is in none of the tables; registered names are suggested before torchmetrics' classes."""
        kind = tables[0].kind
        known = [name for table in tables for name in table.names()]
        known += torch_metrics.homes() if tables[0] is registry.metrics else ()
        place = self.reporter.value((*path, "fn"))
        advice = other_tools.for_name(kind, tables[0].plural, name, known)
        if isinstance(advice, Suggestion) and torch_metrics.uses_torchmetrics(advice.write):
            signature = torch_metrics.signature(advice.write)
            advice = _with_required(advice, signature.missing(0, set(args)), "args: {{{}}}")
        variant = re.fullmatch(r"(Binary|Multiclass|Multilabel)(\w+)", name)
        if variant is not None and variant[2] in known:
            advice = f"write `{variant[2]}`, and `args: {{task: {variant[1].lower()}}}`"
        self.reporter.error(tables[0].code, f"unknown {kind} `{name}`", place, at=path, advice=advice)

    def arguments(
        self,
        name: str,
        signature: Signature,
        args: Mapping[str, Any],
        path: Path,
        given: int,
        hidden: Collection[str] = (),
        own: Collection[str] = (),
        lacking: Collection[str] = (),
    ) -> bool:
        """Report unknown arguments and arguments of the wrong type; `own` keys are suggested too.

        Returns whether the only unknown argument was probably meant as the only `lacking` one.
        """
        taken = {*signature.positional[:given], *hidden}
        allowed = [argument for argument in signature.names if argument not in taken] + [*own]
        types = {parameter.name: parameter.type for parameter in signature.parameters}
        unknown = [argument for argument in args if argument in taken or not signature.takes(argument)]
        only = next(iter(lacking)) if len(unknown) == len(lacking) == 1 else None
        for argument, value in args.items():
            where = (*path, argument)
            wanted = value_types.misfit(types.get(argument, ""), value, required=True)
            if wanted is None and isinstance(value, float) and not math.isfinite(value):
                wanted = "a finite number"
            if argument in unknown:
                message = f"`{name}` takes no argument `{argument}`"
                free = [name for name in allowed if name not in args]
                named = sections.name_of(where, value, free, self.reporter)
                hint = named or self.instead(argument, free, allowed, path, only)
                labels, hint = self.of_another_name(name, where, path, hint)
                self.reporter.error("FC0133", message, self.reporter.key(where), at=where, labels=labels, advice=hint)
            elif wanted is not None:
                better, example = value_types.instead(types.get(argument, ""), value), sections.example(where)
                item = value_types.misfit_item(types.get(argument, ""), value)
                if item is not None:
                    where, wanted, value = (*where, item[0]), item[1], value[item[0]]
                message = f"`{dotted(where)}` must be {wanted}, got {shown(value)}"
                instead = example if better is None else Suggestion(better, instead_of=str(value))
                self.reporter.error("FC0123", message, at=where, advice=instead)
            elif value_types.is_ambiguous(types.get(argument, ""), value) and self.is_bare(where, value):
                better = value_types.meant(value, (bool, NoneType))
                advice = f'write `{better}`, or quote it: `"{value}"`'
                self.reporter.warn("FC0008", f"`{value}` is read as a string", at=where, advice=advice)
        self.shares({name: value for name, value in args.items() if "Share" in types.get(name, "")}, path)
        return only is not None

    def is_bare(self, where: Path, value: str) -> bool:
        """Whether a string is written in a file without quotes."""
        place = self.reporter.value(where)
        return place.word is None and place.length == len(value)

    def of_another_name(
        self, name: str, where: Path, path: Path, hint: Advice | None
    ) -> tuple[tuple[Label, ...], Advice | None]:
        """The label and advice for an argument of another name, which an override or a later file has replaced."""
        key = (*path[:-1], "fn") if path[-1] == "args" else (*path, "name")
        chosen, place = self.reporter.value(key), self.reporter.key(where)
        before = [one for one in self.reporter.origins.history(key) if one.file == place.file]
        if isinstance(hint, Suggestion) or not before or chosen in before:
            return (), hint
        return (Label(f"`{name}` is chosen here", chosen),), f"remove it too: `~{dotted(where)}`"

    def shares(self, shares: Mapping[str, Any], path: Path) -> None:
        """Report shares of a data set that add up to all of it."""
        given = {name: value for name, value in shares.items() if isinstance(value, int | float)}
        if len(given) > 1 and sum(given.values()) >= 1 and all(0 <= value < 1 for value in given.values()):
            *others, last = given
            taken = " and ".join(f"`{name}` ({value:g})" for name, value in given.items())
            labels = tuple(Label(f"`{name}` is set here", self.reporter.value((*path, name))) for name in others)
            message = f"{taken} leave no rows for training"
            place, advice = self.reporter.value((*path, last)), "their sum must be below 1"
            self.reporter.error("FC0123", message, place, at=(*path, last), labels=labels, advice=advice)

    def instead(
        self, argument: str, free: list[str], allowed: Collection[str], path: Path, lacking: str | None
    ) -> Advice | None:
        """The advice for an unknown argument: a `free` one, the `lacking` one, another level, or the list."""
        known = other_tools.meant(argument, vocabulary.LOSS_ARGUMENTS, free) or other_tools.for_key(argument, free)
        listed = suggest(argument, free, "arguments", listed=allowed)
        if known is not None:
            return Suggestion(known, instead_of=argument, otherwise=f"use `{known}`")
        explained = vocabulary.NOT_NEEDED.get(argument)
        if isinstance(listed, Suggestion) and explained is None:
            return listed
        if lacking is not None:
            return explained or f"write `{lacking}`, which is missing"
        table = sections.TABLES.get(_section(path))
        elsewhere = sections.other_owners(table, argument) if table is not None else None
        if elsewhere is None and explained is None and len(path) == 1:
            elsewhere = sections.belongs(argument, _section(path))
        return elsewhere or explained or listed

    def required(self, name: str, lacking: Iterable[str], path: Path) -> None:
        """Report missing required arguments."""
        for argument in lacking:
            message = f"`{name}` requires the argument `{argument}`"
            key = "fn" if path[0] in ("loss", "metrics") else "name"
            advice = f"write `{'args: {' if key == 'fn' else ''}{argument}: ...{'}' if key == 'fn' else ''}`"
            self.reporter.error("FC0133", message, self.reporter.value((*path, key)), at=path, advice=advice)
