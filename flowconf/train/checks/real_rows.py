"""The first real rows of a data set, for a check: where they can be had within about a second."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from flowconf.graph.build import build_graph
from flowconf.graph.shapes.inference import Inference
from flowconf.language import references
from flowconf.language.config import Config
from flowconf.report import FlowconfError
from flowconf.train.data.batches import RowStream, batch_of
from flowconf.train.data.collate import Batch
from flowconf.train.data.declarations import DataSet, data_sets, matching
from flowconf.train.data.run_data import make_data
from flowconf.train.data.splits import Split, Splits
from flowconf.train.seeds import undisturbed

CPU = torch.device("cpu")
QUICK = 2**23
"""Bytes in the files of a data set up to which it is read for a check."""
MOST_PARAMETERS = 10_000_000
"""Numbers in a graph up to which it is built for a check."""


class RealRows:
    """The first training rows of a config, and what its graph gives for them.

    Mistakes in the data are not reported here: a run reports them with their places.
    """

    def __init__(self, config: Config, inference: Inference) -> None:
        self.config, self.inference = config, inference

    @cached_property
    def splits(self) -> Splits | None:
        """The splits of the data set; None if they are not available."""
        if not all(map(_is_quick, data_sets(self.config.training).values())):
            return None
        try:
            return make_data(self.config, CPU)
        except FlowconfError:
            return None

    def batch(self, split: Split, rows: Tensor) -> Batch | None:
        """Some rows of a split; None if they cannot be made."""
        try:
            with undisturbed(CPU):
                return batch_of(split, rows, torch.Generator().manual_seed(self.config.training.seed))
        except FlowconfError:
            return None

    def first_batch(self) -> Batch | None:
        """The first batch of training rows, in their own order; None if they are not available."""
        if self.splits is None or isinstance(self.splits.train, RowStream):
            return None
        split = self.splits.train
        return self.batch(split, torch.arange(min(self.config.training.data.batch_size, len(split))))

    def values(self, wanted: Sequence[str], batch: Batch) -> Mapping[str, Tensor] | None:
        """The `wanted` values of the graph for a batch; None for a large graph, or one that fails."""
        parameters = sum(math.prod(shape) for shape in self.inference.parameters.values())
        if parameters > MOST_PARAMETERS:
            return None
        model = self.config.model
        named = [name for name in dict.fromkeys(wanted) if references.names_value(model, name)]
        try:
            with torch.no_grad(), undisturbed(CPU):
                graph = build_graph(model, self.inference).eval()
                found: dict[str, Tensor] = graph.view(named)(**{name: batch[name] for name in graph.inputs})
                return found
        except Exception:  # noqa: BLE001 - a module of a project may raise anything; a run reports it with its place
            return None


def _is_quick(data_set: DataSet) -> bool:
    """Whether a data set reads files, which it declares, and these are small."""
    files = data_set.files.values()
    return bool(files) and not data_set.refused_files() and sum(map(_bytes, files)) <= QUICK


def _bytes(path: str) -> float:
    """The size of the files of a path or pattern, or of those below a folder, counted until they are too many."""
    total: float = 0
    files = Path(path).rglob("*") if Path(path).is_dir() else [Path(path)] if Path(path).exists() else matching(path)
    for file in files:
        total += file.stat().st_size + 1000  # to open one takes time as well
        if total > QUICK:
            break
    return total
