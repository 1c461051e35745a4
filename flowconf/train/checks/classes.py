"""The number of classes or labels of a metric of torchmetrics, which the graph knows as well."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from flowconf.graph.shapes.inference import Rehearsal
from flowconf.language import references, signatures
from flowconf.language.config import Config
from flowconf.language.sections.checks import TORCHMETRICS, uses_torchmetrics
from flowconf.language.training import MetricSection, listed

COUNTS = {"multiclass": "num_classes", "multilabel": "num_labels"}
"""Task -> the argument for the number of scores, which are along dimension 1."""


def with_counts(config: Config, found: Rehearsal) -> Config:
    """The config with the number of classes of each metric that leaves it out and reads scores of a known size."""
    training = config.training
    metrics = {name: _with_count(section, config, found) for name, section in training.metrics.items()}
    if metrics == training.metrics:
        return config
    return replace(config, training=training.model_copy(update={"metrics": metrics}))


def _with_count(section: MetricSection, config: Config, found: Rehearsal) -> MetricSection:
    count = COUNTS.get(section.args.get("task", ""))
    if count is None or count in section.args or not uses_torchmetrics(section.fn):
        return section
    scores = listed(section.input)[0]
    takes = signatures.read_constructor(TORCHMETRICS, section.fn).takes(count)
    if not takes or not references.names_value(config.model, scores):
        return section
    value = found.value(references.find_anywhere(config.model, scores))
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim < 2:
        return section
    size = value.shape[1]
    if found.sizes.number(size) != str(size):
        return section
    return section.model_copy(update={"args": {**section.args, count: size}})
