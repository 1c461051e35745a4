"""The task and the number of classes of a metric of torchmetrics, which the graph and the data know as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from flowconf.graph.shapes.inference import Rehearsal
from flowconf.graph.shapes.sizes import Sizes
from flowconf.language import references
from flowconf.language.config import Config
from flowconf.language.sections import torch_metrics
from flowconf.language.training import MetricSection, listed
from flowconf.report import Reporter, Suggestion

COUNTS = {"multiclass": "num_classes", "multilabel": "num_labels"}
"""Task -> the argument for the number of scores, which are along dimension 1."""


def completed(config: Config, found: Rehearsal, batch: Mapping[str, Tensor], reporter: Reporter) -> Config:
    """The config with the `task` and the number of classes of each metric that leaves out what is certain.

    A number that contradicts the graph is reported. `batch` has the declared fields of the data.
    """
    training = config.training
    metrics = {
        name: _completed(section, config, found, batch, reporter.below(("metrics", name)))
        for name, section in training.metrics.items()
    }
    if metrics == training.metrics:
        return config
    return replace(config, training=training.model_copy(update={"metrics": metrics}))


def _completed(
    section: MetricSection, config: Config, found: Rehearsal, batch: Mapping[str, Tensor], reporter: Reporter
) -> MetricSection:
    inputs, targets = listed(section.input), listed(section.target)
    if not torch_metrics.uses_torchmetrics(section.fn) or not references.names_value(config.model, inputs[0]):
        return section
    scores = found.value(references.find_anywhere(config.model, inputs[0]))
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        return section
    signature = torch_metrics.signature(section.fn)
    args: dict[str, Any] = dict(section.args)
    if "task" not in args and signature.takes("task") and len(inputs) == len(targets) == 1 and targets[0] in batch:
        args |= _task(scores, batch[targets[0]])
    count = COUNTS.get(args.get("task", ""))
    if count is not None and signature.takes(count):
        known = _count(count, scores, found.sizes)
        if known and args.get(count, known[count]) != known[count]:
            shape = found.sizes.show(scores)
            message = f"`{count}` of `{section.fn}` is {args[count]}, but `{inputs[0]}` is {shape}"
            advice = Suggestion(str(known[count]), instead_of=str(args[count]))
            reporter.error("FC0406", message, at=("args", count), advice=advice)
        args |= known
    return section if args == section.args else section.model_copy(update={"args": args})


def _task(scores: Tensor, target: Tensor) -> dict[str, str]:
    """The task that follows from the shapes; labels for each of several scores may be one task or another."""
    if target.is_floating_point():
        return {}
    if scores.ndim > 1 and (scores.shape[0], *scores.shape[2:]) == target.shape:
        return {"task": "multiclass"}
    return {"task": "binary"} if scores.ndim == 1 and scores.shape == target.shape else {}


def _count(count: str, scores: Tensor, sizes: Sizes) -> dict[str, int]:
    """The number of scores, if it is not an open size."""
    size = scores.shape[1] if scores.ndim > 1 else 0
    return {count: size} if size and sizes.number(size) == str(size) else {}
