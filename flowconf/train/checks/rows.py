"""Checks of the data itself, where it is at hand: the first rows, and the splits that a run decides by."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from flowconf.graph.shapes.inference import Inference
from flowconf.language import references, registry
from flowconf.language.config import Config
from flowconf.language.sections.checks import uses_torchmetrics
from flowconf.language.sections.phases import wanted_values
from flowconf.report import Reporter
from flowconf.report.origins import Path, dotted
from flowconf.train.checks.finite import MOST, Terms, is_suspicious, rows_to_try, spoiled, told
from flowconf.train.checks.real_rows import RealRows
from flowconf.train.data.run_data import how_to_get
from flowconf.train.data.streams import RowStream
from flowconf.train.objective.metering import mean_term
from flowconf.train.objective.terms import gives_mean, loss_terms


def check_rows(config: Config, inference: Inference, reporter: Reporter) -> None:
    """Report values of the data that make a loss not finite, and settings that require a missing split."""
    real = RealRows(config, inference)
    if real.splits is None:
        return
    check_splits(config, [name for name, _ in real.splits.named()], reporter)
    fields = real.splits.train.fields
    inputs = [given.name for given in config.model.inputs if given.name in fields]
    terms = _means(config, fields)
    wanted = [name for term in terms.values() for name in term.references]
    for use, split in real.splits.named():
        first = 0 if isinstance(split, RowStream) or use != "train" else config.training.data.batch_size
        rows = rows_to_try(terms, inputs, split, first)
        batch = real.batch(split, rows[:MOST]) if len(rows) else None
        if batch is None or not is_suspicious(terms, inputs, batch):
            continue
        values = real.values(wanted, batch)
        if values is not None:
            found = spoiled(terms, inputs, values, batch)
            reporter.diagnostics += told(found, config, split, use, rows, len(rows))


def _means(config: Config, fields: Collection[str]) -> Terms:
    """The losses, and the metrics that are means over elements."""
    training, in_graph = config.training, partial(references.names_value, config.model)
    losses = loss_terms(training.loss, registry.losses.load, gives_mean, fields, in_graph)
    means = {name: section for name, section in training.metrics.items() if not uses_torchmetrics(section.fn)}
    terms: Terms = {("loss", term.name): term for term in losses}
    return terms | {("metrics", name): mean_term(name, section, fields, in_graph) for name, section in means.items()}


def check_splits(config: Config, splits: Collection[str], reporter: Reporter) -> None:
    """Report settings that require a split that the data set does not have."""
    training, origins = config.training, config.composition.document.origins
    without = f"and the data set `{training.data.name}` has none"
    if training.metrics and not {"val", "test"} & {*splits}:
        message = f"`metrics` are computed on the validation and test split, {without}"
        advice = how_to_get("validation", config)
        reporter.warn("FC0410", message, origins.key(("metrics",)), path="metrics", advice=advice)
    if "val" in splits:
        return
    wanted: list[Path] = [path for path, _ in wanted_values(training)]
    wanted += [("trainer", "patience")] if training.trainer.patience is not None else []
    for path in wanted:
        if origins.root.at(path) is not None:
            message = f"`{dotted(path)}` requires a validation split, {without}"
            advice = f"{how_to_get('validation', config)}, or remove `{dotted(path)}`"
            reporter.error("FC0410", message, origins.key(path), path=dotted(path), advice=advice)
