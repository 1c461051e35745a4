"""The Python API: compose and load configs, build graphs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowconf.language import config as configs
from flowconf.language import registry
from flowconf.language.config import Config, plan_of
from flowconf.language.plan import GraphPlan
from flowconf.language.resolve import resolve
from flowconf.text import Composition, from_data, with_graphs

if TYPE_CHECKING:
    from flowconf.graph import Graph

Source = GraphPlan | Mapping[str, Any] | str | os.PathLike[str]


def compose(file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Composition:
    """Compose a config, with the place of every value. Raises `ConfigError`."""
    return configs.compose(file, overrides)


def load(file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Load a training config: composed and validated, with its graph resolved. Raises `ConfigError`."""
    return configs.load(file, overrides)


def plan(source: Source, overrides: Sequence[str] = (), origin: str | None = None) -> GraphPlan:
    """The Plan of a graph, from a file (a training config or a graph document) or a dict. Raises `ConfigError`.

    `origin` is the place that errors in a dict refer to. Graphs that a dict refers to are searched for in `configs`, if
    it exists, or in the current folder.
    """
    if isinstance(source, GraphPlan):
        return source
    if isinstance(source, Mapping):
        folder = "configs" if Path("configs").is_dir() else "."
        return resolve(with_graphs(from_data(dict(source), origin), folder, configs.RULES))
    return plan_of(compose(source, overrides))


def build(
    source: Source,
    overrides: Sequence[str] = (),
    *,
    weights: bool = True,
    runs: str = "runs",
    origin: str | None = None,
) -> Graph:
    """Build the graph that `source` describes; with `weights`, load the checkpoints of its `checkpoint:` keys.

    `runs` is the folder in which runs of other configs are searched for. Raises `ConfigError`.
    """
    from flowconf.graph import build_graph, load_checkpoints

    found = plan(source, overrides, origin)
    graph = build_graph(found)
    if weights:
        load_checkpoints(graph, found, runs)
    return graph


def load_run_config(run: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """The config of a run, with overrides. The modules of its project are imported first. Raises `ConfigError`."""
    from flowconf.graph.weights.sources import CONFIG, find_run_folder, record

    folder = find_run_folder(Path(run))
    original = record(folder).get("config")
    if isinstance(original, str) and Path(original).parent.is_dir():
        registry.import_project(Path(original).parent)
    return configs.load(folder / CONFIG, overrides)


def load_run(run: str | os.PathLike[str], *, last: bool = False) -> Graph:
    """The graph of a run with its best (or `last`) weights, in evaluation mode, on the CPU.

    `run` is a run folder, or a folder of runs, of which the newest is loaded. Raises `ConfigError`.
    """
    from flowconf.graph.weights.sources import CHECKPOINTS, LAST, best_checkpoint, find_run_folder

    folder = find_run_folder(Path(run))
    graph = build(load_run_config(folder).model, weights=False)
    graph.load(folder / CHECKPOINTS / LAST if last else best_checkpoint(folder))
    return graph.eval()
