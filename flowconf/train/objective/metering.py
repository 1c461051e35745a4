"""Metrics of an evaluation: built-in means, and torchmetrics classes with the same two methods."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from flowconf.language import registry
from flowconf.language.plan import GraphPlan
from flowconf.language.references import names_value
from flowconf.language.sections import torch_metrics
from flowconf.language.training import MetricSection
from flowconf.report import Diagnostic, MachineError, Reporter, first_line
from flowconf.train.objective.terms import Average, Term, Values, term_of

Result = float | Tensor | Mapping[str, Any] | Sequence[Any]
"""A number, or several: for each class, a matrix, a curve, under names."""
MOST_NUMBERS = 10_000


class Meter(Protocol):
    """Accumulates batches of a term and computes a number, or several."""

    term: Term

    def update(self, values: Values, batch: Values) -> None: ...

    def compute(self) -> Result: ...


class Metric:
    """A named metric of a config: its references, and a new meter for each evaluation.

    `new_meter` takes whether batches are distributed over several processes, so that torchmetrics synchronizes.
    """

    def __init__(self, term: Term, new_meter: Callable[[bool], Meter]) -> None:
        self.term = term
        self.name = term.name
        self.references = term.references
        self.new_meter = new_meter


class TorchMeter:
    """A torchmetrics object as a meter. A mask selects elements, which makes the operands [N] or [N, classes]."""

    def __init__(self, term: Term, metric: Any) -> None:
        self.term = term
        self.metric = metric

    def update(self, values: Values, batch: Values) -> None:
        operands = [source.read(values, batch) for source in self.term.operands]
        if self.term.mask is not None:
            mask = self.term.mask.read(values, batch).bool()
            operands = [operand[mask] for operand in operands]
        try:
            self.metric.update(*operands)
        except Exception as problem:
            problem.add_note(f"in the metric `{self.term.name}`")
            raise

    def compute(self) -> Result:
        try:
            found: Result = self.metric.compute()
            count = sum(1 for _ in named_numbers("", found))
            if count > MOST_NUMBERS:
                raise ValueError(f"it gives {count:,} numbers, and at most {MOST_NUMBERS:,} can be logged")
        except Exception as problem:
            problem.add_note(f"in the metric `{self.term.name}`")
            raise
        return found


def named_numbers(name: str, result: Result) -> Iterator[tuple[str, float]]:
    """The numbers of a result with their names: `f1`, or `f1/0`, `f1/1` for those of a vector."""
    if isinstance(result, Mapping):
        for key, part in result.items():
            yield from named_numbers(f"{name}/{key}", part)
    elif isinstance(result, Tensor) and result.numel() > 1:
        yield from named_numbers(name, result.tolist())
    elif isinstance(result, float | int | Tensor):
        yield name, float(result)
    else:
        for number, part in enumerate(result):
            yield from named_numbers(f"{name}/{number}", part)


def build_metrics(
    sections: Mapping[str, MetricSection],
    plan: GraphPlan,
    fields: Collection[str],
    device: torch.device,
    reporter: Reporter,
) -> list[Metric]:
    """The metrics of a config; one with invalid arguments is reported and omitted.

    torchmetrics is imported only if one of its names is used.
    """
    found = []
    for name, section in sections.items():
        if torch_metrics.uses_torchmetrics(section.fn):
            term = term_of(name, section, _never_called, fields, partial(names_value, plan))
            metric = _torch_metric(term, section, device, reporter)
            found += [metric] if metric is not None else []
        else:
            term = mean_term(name, section, plan, fields)
            found.append(Metric(term, partial(_average, term)))
    return found


def mean_term(name: str, section: MetricSection, plan: GraphPlan, fields: Collection[str]) -> Term:
    """A metric that is a mean over elements: a registered metric or loss."""
    table = registry.metrics if section.fn in registry.metrics else registry.losses
    return term_of(name, section, table.load(section.fn), fields, partial(names_value, plan))


def _average(term: Term, dealt: bool) -> Meter:
    return Average(term)


def _torch_metric(term: Term, section: MetricSection, device: torch.device, reporter: Reporter) -> Metric | None:
    at = ("metrics", term.name, "fn")
    try:
        made = getattr(importlib.import_module(torch_metrics.homes()[section.fn]), section.fn)
    except ModuleNotFoundError:
        message = f"the metric `{section.fn}` requires torchmetrics"
        raise MachineError(
            Diagnostic("FC0601", message, reporter.value(at), advice="run `pip install torchmetrics`")
        ) from None
    if torch_metrics.lacks_task(section):
        message = f"`{section.fn}` requires the argument `task`"
        advice = "write `args: {task: ...}` with `binary`, `multiclass` or `multilabel`"
        reporter.error("FC0133", message, at=at, path=f"metrics.{term.name}", advice=advice)
        return None
    try:
        metric = made(**section.args).to(device)
    except (TypeError, ValueError, ModuleNotFoundError) as problem:
        takes = inspect.signature(made).parameters
        lacking = [name for name in re.findall(r"`(\w+)`", str(problem)) if name in takes and name not in section.args]
        message = f"invalid arguments for `{section.fn}` of torchmetrics: {first_line(problem)}"
        message = f"`{section.fn}` requires the argument `{lacking[0]}`" if lacking else message
        needs = f"write `args: {{{lacking[0]}: ...}}`" if lacking else None
        reporter.error("FC0133", message, at=at, path=f"metrics.{term.name}", advice=needs)
        return None

    def new_meter(dealt: bool) -> Meter:
        metric.reset()
        metric.distributed_available_fn = lambda: dealt
        return TorchMeter(term, metric)

    return Metric(term, new_meter)


def _never_called(*operands: Tensor) -> Tensor:
    raise AssertionError("a torchmetrics metric has no element-wise function")
