"""The Python interface: load a config, build a graph, check either."""

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
    """The composed text of a config, with the place of every value. Raises `ConfigError`."""
    return configs.compose(file, overrides)


def load(file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """A training config: composed, validated, its graph resolved. Raises `ConfigError`."""
    return configs.load(file, overrides)


def plan(source: Source, overrides: Sequence[str] = (), origin: str | None = None) -> GraphPlan:
    """The Plan of a graph: from a file (a training config or a bare graph), or from a dict. Raises `ConfigError`.

    `origin` names a place for the mistakes of a dict; graphs that a dict names are looked for in the current folder,
    and in its `configs`.
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
    """The graph that `source` describes, as a module; with the weights that its `checkpoint:` keys name.

    `runs` is the folder in which runs of other configs are looked for. Raises `ConfigError`.
    """
    from flowconf.graph import build_graph, load_checkpoints

    found = plan(source, overrides, origin)
    graph = build_graph(found)
    if weights:
        load_checkpoints(graph, found, runs)
    return graph


def load_run_config(run: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """The config of a run, with changes; what its project registers is imported first. Raises `ConfigError`."""
    from flowconf.graph.weights.sources import CONFIG, find_run_folder, known_record

    folder = find_run_folder(Path(run))
    original = known_record(folder)["config"]
    if Path(original).parent.is_dir():
        registry.import_project(Path(original).parent)
    return configs.load(folder / CONFIG, overrides)


def load_run(run: str | os.PathLike[str], *, last: bool = False) -> Graph:
    """The graph of a run with its best weights, or its last ones, in evaluation mode and on the CPU.

    `run` is a run folder, or a folder of runs of which the newest counts. Raises `ConfigError`.
    """
    from flowconf.graph.weights.sources import CHECKPOINTS, LAST, best_checkpoint, find_run_folder

    folder = find_run_folder(Path(run))
    graph = build(load_run_config(folder).model, weights=False)
    graph.load(folder / CHECKPOINTS / LAST if last else best_checkpoint(folder))
    return graph.eval()
