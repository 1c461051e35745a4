"""Checks of the data itself, where it is available: the first rows, and the splits that a run decides by."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from flowconf.graph.shapes.inference import Inference
from flowconf.language.config import Config
from flowconf.language.sections import torch_metrics
from flowconf.language.sections.phases import wanted_values
from flowconf.report import Reporter
from flowconf.report.origins import Path, dotted
from flowconf.train.checks.finite import Terms, find_spoiled
from flowconf.train.checks.look_ups import check_numbers
from flowconf.train.checks.real_rows import CPU, RealRows
from flowconf.train.checks.terms import problems_of
from flowconf.train.data.batches import RowStream
from flowconf.train.data.run_data import how_to_get
from flowconf.train.objective.gradients import MARK
from flowconf.train.objective.metering import build_metrics, mean_term
from flowconf.train.objective.terms import loss_terms


def check_rows(config: Config, inference: Inference, open_terms: list[str], reporter: Reporter) -> list[str]:
    """Report what the data shows: losses that cannot be computed or are not finite, and settings without their split.

    Returns those of the `open_terms` that are still open, because the data is not available.
    """
    real = RealRows(config, inference)
    if real.splits is None:
        return open_terms
    check_splits(config, [name for name, _ in real.splits.named()], reporter)
    before = len(reporter.diagnostics)
    check_numbers(config, inference, real.splits, reporter)
    left = _check_open(config, real, open_terms, reporter) if open_terms else []
    if reporter.has_errors(before):
        return left
    fields = real.splits.train.fields
    inputs = [given.name for given in config.model.inputs if given.name in fields]
    terms = {path: term for path, term in _means(config, fields).items() if dotted(path) not in left}
    wanted = [name for term in terms.values() for name in term.references]
    for use, split in real.splits.named():
        first = 0 if isinstance(split, RowStream) or use != "train" else config.training.data.batch_size
        batch_of, values_of = partial(real.batch, split), partial(real.values, wanted)
        reporter.diagnostics += find_spoiled(config, terms, inputs, split, use, first, batch_of, values_of)
    return left


def _check_open(config: Config, real: RealRows, open_terms: list[str], reporter: Reporter) -> list[str]:
    """Report the open losses and metrics that cannot be computed of the first batch; returns those still open."""
    batch = real.first_batch()
    if batch is None:
        return open_terms
    losses = loss_terms(config.training.loss, config.model, batch)
    metrics = build_metrics(config.training.metrics, config.model, batch, CPU, Reporter(config.origins))
    wanted = [name for term in (*losses, *(metric.term for metric in metrics)) for name in term.references]
    values = real.values(wanted, batch)
    if values is None:
        return open_terms
    later = [f"loss.{term.name}" for term in losses if getattr(term.function, MARK, False)]  # no gradients here
    found = problems_of(config, [term for term in losses if f"loss.{term.name}" not in later], metrics, values, batch)
    reporter.diagnostics += [one for one in found if one.path in open_terms]
    return later


def _means(config: Config, fields: Collection[str]) -> Terms:
    """The losses, and the metrics that are means over elements."""
    training, plan = config.training, config.model
    terms: Terms = {("loss", term.name): term for term in loss_terms(training.loss, plan, fields)}
    for name, section in training.metrics.items():
        if not torch_metrics.uses_torchmetrics(section.fn):
            terms["metrics", name] = mean_term(name, section, plan, fields)
    return terms


def check_splits(config: Config, splits: Collection[str], reporter: Reporter) -> None:
    """Report settings that require a split that the data set does not have, and turns without a value to judge them."""
    training = config.training
    without = f"and the data set `{training.data.name}` has none"
    if training.metrics and not {*splits} - {"train"}:
        message = f"`metrics` are computed on the validation and test split, {without}"
        advice = how_to_get("validation", config)
        reporter.warn("FC0410", message, reporter.key(("metrics",)), at=("metrics",), advice=advice)
    if "val" in splits:
        if training.turns and reporter.origins.at(("trainer", "best")) is None:
            message = "`val/loss` selects the best weights, but it adds up terms that turns minimise against each other"
            advice = "write `best: last` below `trainer`, which keeps the latest, or a metric, a term, or `val/loss`"
            reporter.warn("FC0411", message, reporter.key(("turns",)), at=("turns",), advice=advice)
        return
    wanted: list[Path] = [path for path, value in wanted_values(training) if value.startswith("val/")]
    if training.trainer.best.startswith("val/"):
        wanted += [("trainer", "patience")] if training.trainer.patience is not None else []
    if training.trainer.best.startswith("val/") or not training.data.evaluate:
        wanted += [("trainer", "keep", "best")] if training.trainer.keep is not None else []
    wanted += [("callbacks", name, "split") for name, one in training.callbacks.items() if one.split == "val"]
    wanted += [("sweep",)] if training.sweep is not None else []
    for path in wanted:
        if reporter.origins.at(path) is not None:
            message = f"`{dotted(path)}` requires a validation split, {without}"
            advice = f"{how_to_get('validation', config)}, or remove `{dotted(path)}`"
            reporter.error("FC0410", message, reporter.key(path), at=path, advice=advice)
