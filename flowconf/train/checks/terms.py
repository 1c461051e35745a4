"""Checks that losses and metrics can be computed from what a config names, with advice if they cannot.

They are tried on fake values before any data is read, and on the first two rows once it is read. The diagnostic is the
same: the reference at fault, all shapes and where they come from, and the change that would fit, if there is only one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowconf.graph.shapes.fake_values import WantsNumbers, quiet, wants_numbers
from flowconf.graph.shapes.locating import number_in
from flowconf.language import references, registry
from flowconf.language.config import Config
from flowconf.language.plan import GraphPlan
from flowconf.language.sections.phases import wanted_values
from flowconf.language.training import MetricSection, TrainingConfig, listed
from flowconf.report import Advice, Diagnostic, Label, Place, Reporter, Suggestion, dtype_name, first_line, raised_here
from flowconf.report.origins import Path, dotted
from flowconf.train.objective.gradients import gradients_for
from flowconf.train.objective.metering import Meter, Metric, TorchMeter, named_numbers
from flowconf.train.objective.terms import Average, Operand, Term

PICKING = ("cross_entropy", "nll")
"""Losses that pick a score by its number: there must be one, and a CUDA device would not say which there is not."""
CLASSES_ALONG = ("cross_entropy", "nll", "accuracy", "exact")
"""Losses and metrics whose input has an axis for the classes, and whose target holds numbers of classes."""

SPEAKING = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
"""Exceptions whose message is reported without their type."""


@dataclass(frozen=True)
class Tried:
    """A loss or metric of a config: where it is written, and how it is computed."""

    path: Path
    section: MetricSection
    term: Term
    new_meter: Callable[[], Meter]

    @property
    def name(self) -> str:
        return dotted(self.path)


def tried_of(training: TrainingConfig, terms: Iterable[Term], metrics: Iterable[Metric]) -> list[Tried]:
    """The losses and metrics to try."""
    losses = [Tried(("loss", t.name), training.loss[t.name], t, partial(Average, t)) for t in terms]
    return losses + [
        Tried(("metrics", m.name), training.metrics[m.name], m.term, partial(m.new_meter, False)) for m in metrics
    ]


@dataclass(frozen=True)
class Given:
    """A reference of a loss or metric, where it is written, and its value."""

    key: str
    where: Path
    source: Operand
    value: Tensor


@dataclass
class TermCheck:
    """What terms are tried on: the graph's `values` by reference, and the fields of a `batch`, real or fake."""

    config: Config
    values: Mapping[str, Any]
    batch: Mapping[str, Tensor]
    show: Callable[[Tensor], str]
    """Formats a shape."""
    reword: Callable[[str], str] = str
    """Replaces the fake sizes in a message of torch."""

    def __post_init__(self) -> None:
        self.origins = self.config.origins
        self.named: dict[str, list[str]] = {}
        """Metric -> the suffixes of the names of its numbers."""

    def operands(self, tried: Tried) -> list[Given] | None:
        """The values that a term takes, None when one of them is not known."""
        path, section, term = tried.path, tried.section, tried.term
        written = [
            (key, (*path, key, number) if isinstance(getattr(section, key), list) else (*path, key))
            for key in ("input", "target", "mask")
            for number in range(len(listed(getattr(section, key))))
        ]
        found = []
        sources = [*term.operands, *([term.mask] if term.mask else [])]
        for (key, where), source in zip(written, sources, strict=True):
            value = (self.batch if source.in_batch else self.values).get(source.name)
            if not isinstance(value, Tensor):
                return None
            found.append(Given(key, where, source, value))
        return found

    def check(self, tried: Tried, into: Reporter, classes: int | None = None) -> None:
        """Note a loss or metric that cannot be computed; `classes` is how many its target has, if that is known."""
        operands, meter = self.operands(tried), tried.new_meter()
        if operands is None:
            return
        problem = self.problem(meter)
        if self._tells_labels(tried, operands, into):
            return
        if problem is not None:
            self._tell(tried, meter, operands, problem, into)
        elif classes is not None:
            self._tell_classes(tried, classes, into)

    def check_wanted(self, into: Reporter) -> None:
        """Report a value that a run decides by if it is none of the numbers of its metric."""
        for path, name in wanted_values(self.config.training):
            split, _, value = name.partition("/")
            metric, slash, part = value.partition("/")
            named = self.named.get(metric, [""])
            if slash + part in named or metric == "loss":
                continue
            known = [f"{split}/{metric}{own}" for own in named]
            gives = f"gives {len(named)} numbers" if len(named) > 1 else "gives one number"
            message = f"`{name}` is no number of `metrics.{metric}`, which {gives}"
            shown = " to ".join(f"`{one}`" for one in dict.fromkeys([known[0], known[-1]]))
            advice = f"they are {shown}" if len(known) > 1 else f"write {shown}"
            into.error("FC0402", message, self.origins.value(path), path=dotted(path), advice=advice)

    def fits(self, meter: Meter, term: Term | None = None) -> bool:
        """Whether a meter, or one like it of another `term`, can be computed, as far as is known."""
        if isinstance(meter, TorchMeter):
            meter.metric.reset()
            return self.problem(TorchMeter(term or meter.term, meter.metric)) is None
        return self.problem(meter if term is None else Average(term)) is None

    def problem(self, meter: Meter) -> Exception | None:
        """The exception of a loss or metric; None if it can be computed, or needs real numbers."""
        try:
            meter.update(self.values, self.batch)
            if isinstance(meter, TorchMeter):
                with quiet():
                    self.named[meter.term.name] = [name for name, _ in named_numbers("", meter.compute())]
        except Exception as problem:  # noqa: BLE001 - a loss or metric of a project may raise anything
            return None if wants_numbers(problem) else problem
        return None

    def elements(self, term: Term) -> Tensor | None:
        """The elements of a term; None if they cannot be computed."""
        try:
            return term.elements(self.values, self.batch)[0]
        except Exception:  # noqa: BLE001 - it is reported elsewhere
            return None

    def _tell(self, tried: Tried, meter: Meter, operands: Sequence[Given], why: Exception, into: Reporter) -> None:
        """Note that a term cannot be computed of these values: one mistake, however many terms take them."""
        name, term, fn = tried.name, tried.term, tried.section.fn
        guilty, advice = self._mended(meter, operands)
        own = {operand.source: operand for operand in operands}.values()
        labels = (*(self.label(operand) for operand in own), *raised_here(why))
        cause = tuple(sorted({(operand.source.name, operand.source.in_batch) for operand in operands}))
        kind = "" if isinstance(why, SPEAKING) else f"{type(why).__name__}: "
        note = Label(f"`{fn}` says: {kind}{self.reword(first_line(why))}", Place())
        if guilty == ("mask",) and term.mask is not None:
            bare = replace(term, mask=None)
            elements, _ = bare.elements(self.values, self.batch)
            mask = operands[-1]
            message = f"the mask {self.named_value(mask)} of `{name}` does not fit its elements, {self.show(elements)}"
            advice = advice or "its sizes must be the first ones of the elements"
            into.error(
                "FC0406", message, self.origins.value(mask.where), path=name, labels=labels, advice=advice, cause=cause
            )
            return
        shown = [self.named_value(operand) for operand in operands if operand.key != "mask"]
        given = f"`{guilty[1]}: {term.args[guilty[1]]}` with " if guilty[0] == "args" and advice is None else ""
        message = f"`{name}`: `{fn}` cannot take {given}{' and '.join(shown)}"
        place = self._place(tried.path, guilty, operands)
        into.error("FC0406", message, place, path=name, labels=(*labels, note), advice=advice, cause=cause)

    def _tells_labels(self, tried: Tried, operands: Sequence[Given], into: Reporter) -> bool:
        """Note labels that are none of the classes of their scores; whether there are some."""
        section, term = tried.section, tried.term
        if section.fn not in PICKING or len(term.operands) != 2:
            return False
        scores, target = operands[0], operands[1]
        axis = dimension(term)
        if axis is None or target.value.dtype.is_floating_point or not -scores.value.ndim <= axis < scores.value.ndim:
            return False
        if scores.value.ndim != target.value.ndim + 1 or not target.value.numel():
            return False
        have, ignored = scores.value.shape[axis], section.args.get("ignore_index", -100)
        try:
            outside = ((target.value < 0) | (target.value >= have)) & (target.value != ignored)
            strange = target.value[outside].tolist()
        except WantsNumbers:
            return False
        if strange:
            name = target.source.name
            message = f"`{name}` holds the label {strange[0]}, and `{scores.source.name}` scores {have} classes"
            labels = tuple(dict.fromkeys(self.label(operand) for operand in (scores, target)))
            advice = f"labels are numbers from 0 to {have - 1}"
            place = self.origins.value(target.where)
            into.error("FC0406", message, place, path=tried.name, labels=labels, advice=advice)
        return bool(strange)

    def _tell_classes(self, tried: Tried, classes: int, into: Reporter) -> None:
        """Note an input with fewer classes than its target has."""
        term = tried.term
        if tried.section.fn not in CLASSES_ALONG or len(term.operands) != 2:
            return
        scores, target = (source.read(self.values, self.batch) for source in term.operands)
        axis = dimension(term)
        if axis is None or target.is_floating_point() or scores.ndim != target.ndim + 1:
            return
        have = scores.shape[axis]
        if have >= classes:
            return
        reference, of = (source.name for source in term.operands)
        message = f"`{reference}` scores {have} classes, and `{of}` has {classes}"
        place = number_behind(self.config.model, reference, have)
        labels = (
            Label(f"`{of}` of the data set `{self.config.training.data.name}` has {classes} classes", self._data()),
            Label(f"`{tried.name}` takes them as scores", self.origins.value((*tried.path, "input"))),
        )
        advice = f"give `{reference}` {classes} classes along dimension {axis}"
        into.error("FC0406", message, place, path=tried.name, labels=labels, advice=advice)

    # what to write

    def _mended(self, meter: Meter, operands: Sequence[Given]) -> tuple[tuple[str, ...], Advice | None]:
        """Which part of a term is at fault, as keys below it, and what mends it."""
        term = meter.term
        if term.mask is not None and self.fits(meter, replace(term, mask=None)):
            return ("mask",), self._fitting("mask", meter, operands)
        for name in () if isinstance(meter, TorchMeter) else term.args:
            if self.fits(meter, replace(term, args={key: value for key, value in term.args.items() if key != name})):
                return ("args", name), None
        found = [(axis, other) for axis, other in self.axes(term, operands) if self.fits(meter, other)]
        if len(found) == 1:
            text = f"dim: {found[0][0]}"
            return ("args", "dim"), f"write `{text}`" if "dim" in term.args else f"write `args: {{{text}}}`"
        target = operands[-1].source.name if operands and operands[-1].key == "target" else ""
        if target in self.batch:
            is_float = self.batch[target].dtype.is_floating_point
            other = self.batch[target].long() if is_float else self.batch[target].float()
            if replace(self, batch={**self.batch, target: other}).fits(meter, term):
                shares = f"make `{target}` floating point in the data set, or store the numbers of its classes"
                return ("target",), f"make `{target}` integers" if is_float else shares
        reshaped = self.reshaped(operands)
        if reshaped is not None and reshaped[1].fits(meter):
            return ("input",), reshaped[0]
        picking = self._picking(term, operands)
        if picking is not None:
            return ("fn",), Suggestion(picking)  # another objective, which `--fix` does not choose
        for key in ("target", "input"):
            advice = self._fitting(key, meter, operands)
            if advice is not None:
                return (key,), advice
        is_known = str(getattr(term.function, "__module__", "")).startswith(("flowconf.", "torchmetrics."))
        return ("input" if is_known else "fn",), None

    def _picking(self, term: Term, operands: Sequence[Given]) -> str | None:
        """The loss that takes scores of classes and the number of a class, if these are what a loss is given."""
        is_loss = any(operand.where[0] == "loss" for operand in operands)
        if not is_loss or term.args or operands[-1].value.dtype.is_floating_point:
            return None
        tried = replace(term, function=registry.losses.load(PICKING[0]))
        return PICKING[0] if term.function is not tried.function and self.fits(Average(tried)) else None

    def _fitting(self, key: str, meter: Meter, operands: Sequence[Given]) -> Suggestion | None:
        """The advice to write the only other value that fits in the place of the one under a key; not for `--fix`."""
        found = [text for text, other in self._others(meter.term, operands, key) if self.fits(meter, other)]
        return Suggestion(found[0]) if len(found) == 1 else None

    @staticmethod
    def axes(term: Term, operands: Sequence[Given]) -> Iterator[tuple[int, Term]]:
        """The term with its classes along each other dimension."""
        dim = dimension(term) if operands else None
        for axis in range(1, operands[0].value.ndim) if dim is not None else ():
            if dim not in (axis, axis - operands[0].value.ndim):
                yield axis, replace(term, args={**term.args, "dim": axis})

    def _others(self, term: Term, operands: Sequence[Given], key: str) -> Iterator[tuple[str, Term]]:
        """The term with another value in the place of its one input, target or mask."""
        places = [number for number, operand in enumerate(operands) if operand.key == key]
        if len(places) != 1:
            return
        current = operands[places[0]].source
        if key == "input":
            names = [step.name for step in self.config.model.steps if isinstance(self.values.get(step.name), Tensor)]
            others = [Operand(name, in_batch=False) for name in names]
        else:
            others = [Operand(name, in_batch=True) for name in self.batch]
        for other in others:
            if other.name == current.name:
                continue
            if key == "mask":
                if self.batch[other.name].dtype.is_floating_point or self.batch[other.name].dtype == torch.bool:
                    yield other.name, replace(term, mask=other)
            else:
                given = list(term.operands)
                given[places[0]] = other
                yield other.name, replace(term, operands=tuple(given))

    def reshaped(self, operands: Sequence[Given]) -> tuple[str, TermCheck] | None:
        """What to add to an input that differs from its target by a last size of 1, and the same check with it."""
        pair = {operand.key: operand for operand in operands if operand.key != "mask"}
        if len(pair) != 2 or len(operands) > 3 or pair["input"].source.in_batch:
            return None
        name, given, wanted = pair["input"].source.name, pair["input"].value, pair["target"].value.shape
        if given.shape != (*wanted, 1) and (*given.shape, 1) != wanted:
            return None
        sizes = ", ".join(str(size) for size in wanted[1:])
        values = {**self.values, name: given.reshape(wanted)}
        return f"end `{name}` with `>> Reshape({sizes})`", replace(self, values=values)

    # places and words

    def named_value(self, operand: Given) -> str:
        return f"`{operand.source.name}` {self.show(operand.value)}"

    def label(self, operand: Given) -> Label:
        name, shown = operand.source.name, self.show(operand.value)
        if operand.source.in_batch:
            return Label(f"`{name}` of the data set `{self.config.training.data.name}` is {shown}", self._data())
        return Label(f"`{name}` gives {shown}", place_of(self.config.model, name))

    def _data(self) -> Place:
        return self.origins.value(("data", "name"))

    def _place(self, path: Path, guilty: tuple[str, ...], operands: Sequence[Given]) -> Place:
        if guilty[0] == "args":
            written = self.origins.at((*path, *guilty)) is not None
            return self.origins.value((*path, *guilty) if written else (*path, "fn"))
        where = next((operand.where for operand in operands if operand.key == guilty[0]), (*path, *guilty))
        return self.origins.value(where)


def dimension(term: Term) -> int | None:
    """The argument `dim` of a term: as it is written, or its default; None for a function without it."""
    parameter = inspect.signature(term.function).parameters.get("dim")
    return None if parameter is None else term.args.get("dim", parameter.default)


def show_rows(value: Tensor) -> str:
    """The shape of a value whose first size is the batch."""
    kind = "" if value.dtype.is_floating_point else f" {dtype_name(value.dtype)}"
    return f"[{', '.join(['B', *(str(size) for size in value.shape[1:])])}]{kind}" if value.ndim else f"[]{kind}"


def place_of(plan: GraphPlan, reference: str) -> Place:
    """Where the value that a reference names is written."""
    return references.place_of(plan, references.find_anywhere(plan, reference))


def number_behind(plan: GraphPlan, reference: str, size: int) -> Place:
    """Where the number is written that makes a step give this size, or else the step."""
    value = references.find_anywhere(plan, reference)
    step = plan.step(value.member)
    if step is None or value.inner is not None:
        return references.place_of(plan, value)
    return number_in(step.body.target, size) or references.place_of(plan, value)


def problems_of(
    config: Config,
    terms: Iterable[Term],
    metrics: Iterable[Metric],
    values: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
) -> list[Diagnostic]:
    """The errors of losses and metrics on a batch and the values of the graph for it."""
    reporter, check = Reporter(), TermCheck(config, values, batch, show_rows)
    for tried in tried_of(config.training, terms, metrics):
        with gradients_for([tried.term] if tried.path[0] == "loss" else []):
            check.check(tried, reporter)
    check.check_wanted(reporter)
    return reporter.mistakes()
