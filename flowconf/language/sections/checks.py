"""Checks of the training sections that need no data: what they refer to, and the fields of the data set.

The declared fields of data sets are read from source, like signatures, so torch is not needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from flowconf.language import references, registry
from flowconf.language.open_size import bound
from flowconf.language.plan import GraphPlan, Input
from flowconf.language.sections import (
    augmentations,
    data_sets,
    directions,
    ineffective,
    names,
    phases,
    rates,
    selections,
    sweeps,
    turns,
)
from flowconf.language.sections.phases import check_value
from flowconf.language.training import LATEST, MetricSection, TrainingConfig, listed, placed
from flowconf.report import NOWHERE, Advice, Available, Label, Place, Reporter, Suggestion, dtype_name, nearest, suggest
from flowconf.report.origins import Path, dotted

RESERVED = {
    "data": ("a further set", (*data_sets.SPLITS, "validation", "lr", data_sets.MAIN)),
    "metrics": ("a metric", ("loss",)),
    "callbacks": ("a callback", (*data_sets.SPLITS, "lr", "weight", "decay")),
}
"""Section -> its members in messages, and the names that they cannot have."""
CONVERTED = {"float64", "float16", "bfloat16", "uint8"}
"""Types of data that float32 weights do not take, and that are no numbers of classes."""


def check(training: TrainingConfig, plan: GraphPlan, reporter: Reporter) -> None:
    """Report the errors of the training sections."""
    own = provided_fields(training.data.name)
    fields = None if own is None else (*own, *augmentations.views(training, own))
    known = fields or ()
    names.check(training, lambda one: fields is None or one in known or references.names_value(plan, one), reporter)
    _check_best(training, reporter)
    selections.check(training, plan, reporter)
    _check_devices(training, reporter)
    ineffective.check(training, reporter)
    phases.check(training, reporter)
    rates.check(training, reporter)
    turns.check(training, reporter)
    _check_reserved(training, reporter)
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


def provided_fields(data_set: str) -> tuple[str, ...] | None:
    """The fields that a data set declares (`@provides(...)`), or None without a declaration.

    For data sets that are not imported yet, this is read from source, like their signatures.
    """
    return (registry.datasets.declared(data_set, "provides") if data_set in registry.datasets else None) or None


def check_references(
    training: TrainingConfig, plan: GraphPlan, fields: Collection[str] | None, reporter: Reporter
) -> None:
    """Report references that are neither a value of the graph nor one of the `fields` (None: not known yet)."""
    for where, reference in _references(training):
        _check_reference(reference, plan, fields, where, reporter)


def _references(training: TrainingConfig) -> Iterator[tuple[Path, str]]:
    """The references of losses, metrics and callbacks, by path."""
    for path, section in measured(training).items():
        for key in ("input", "target", "mask"):
            yield from placed(getattr(section, key), (*path, key))
    for name, callback in training.callbacks.items():
        yield from placed(callback.read, ("callbacks", name, "read"))


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


def _check_reserved(training: TrainingConfig, reporter: Reporter) -> None:
    """Report members with the names of other logged values."""
    members: list[Path] = [*data_sets.further_sets(training)]
    members += [(key, name) for key in ("metrics", "callbacks") for name in getattr(training, key)]
    for path in members:
        what, reserved = RESERVED[str(path[0])]
        if path[-1] in reserved:
            message = f"{what} cannot be named `{path[-1]}`, which is the name of other logged values"
            reporter.error("FC0126", message, reporter.key(path), at=path, advice="rename it")


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
    reference: str, plan: GraphPlan, fields: Collection[str] | None, where: Path, reporter: Reporter
) -> None:
    if fields is not None and reference in fields:
        return
    try:
        references.find_anywhere(plan, reference)
    except references.NotFound as problem:
        removed = reporter.key(("model", "flow", reference)) if _is_removed(plan, reference) else None
        advice, severity = problem.advice_for(reference), "error"
        message, labels = f"`{reference}` is neither a value of the graph nor a field of the data", tuple[Label, ...]()
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
