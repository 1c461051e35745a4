"""The first real rows of a data set, for a check: where they can be had within about a second."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from flowconf.graph.build import build_graph
from flowconf.graph.shapes.inference import Inference
from flowconf.language import references, registry
from flowconf.language.config import Config
from flowconf.report import FlowconfError
from flowconf.train.checks.invented import Rows
from flowconf.train.data.run_data import make_data
from flowconf.train.data.splits import matching
from flowconf.train.data.streams import RowStream, batch_of
from flowconf.train.seeds import undisturbed

CPU = torch.device("cpu")
QUICK = 2**23
"""Bytes in the files of a data set up to which it is read for a check."""
MOST_PARAMETERS = 10_000_000
"""Numbers in a graph up to which it is built for a check."""


def first_rows(config: Config, inference: Inference, wanted: list[str]) -> Rows | None:
    """The first batch of a config's training rows, with the graph's values `wanted`; None where they are not at hand.

    Mistakes in the data are not reported here: a run reports them with their places.
    """
    data = config.training.data
    parameters = sum(math.prod(shape) for shape in inference.parameters.values())
    if parameters > MOST_PARAMETERS or not _are_quick(registry.datasets.load(data.name), data.args):
        return None
    try:
        split = make_data(config, CPU).train
        if isinstance(split, RowStream):
            return None
        rows = torch.arange(min(data.batch_size, len(split)))
        with torch.no_grad(), undisturbed(CPU):
            batch = batch_of(split, rows, torch.Generator().manual_seed(config.training.seed))
            graph = build_graph(config.model, inference).eval()
            named = [name for name in dict.fromkeys(wanted) if references.names_value(config.model, name)]
            return graph.view(named)(**{name: batch[name] for name in graph.inputs}), batch
    except (FlowconfError, KeyError):
        return None


def _are_quick(factory: Callable[..., Any], args: Mapping[str, Any]) -> bool:
    """Whether a data set reads files, which it declares, and these are small."""
    declared = [args[name] for name in getattr(factory, "paths", ()) if isinstance(args.get(name), str)]
    return bool(declared) and sum(_bytes(path) for path in declared) <= QUICK


def _bytes(path: str) -> float:
    """The size of the files of a path or pattern, or of those below a folder, counted until they are too many."""
    total: float = 0
    files = Path(path).rglob("*") if Path(path).is_dir() else [Path(path)] if Path(path).exists() else matching(path)
    for file in files:
        total += file.stat().st_size + 1000  # to open one takes time as well
        if total > QUICK:
            break
    return total
