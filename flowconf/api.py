"""The Python interface: load a config, build a graph, check either."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowconf.language import config as configs
from flowconf.language.config import Config
from flowconf.language.plan import GraphPlan
from flowconf.report import Diagnostic
from flowconf.text import Composition
from flowconf.train.checks import road
from flowconf.train.checks.road import GraphSource

if TYPE_CHECKING:
    from flowconf.graph import Graph


def compose(file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Composition:
    """The composed text of a config, with the place of every value. Raises `ConfigError`."""
    return configs.compose(file, overrides)


def load(file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """A training config: composed, validated, its graph resolved, its sections checked. Raises `ConfigError`."""
    return road.begin(file, overrides, trained=True).to(road.BEFORE_TORCH).checked


def check(source: GraphSource, overrides: Sequence[str] = (), origin: str | None = None) -> list[Diagnostic]:
    """Every mistake of the first stage that has one, up to sizes, sources of weights and the configs that they name.

    No data is read, and nothing is run.
    """
    return road.findings(source, overrides, origin).mistakes


def plan(source: GraphSource, overrides: Sequence[str] = (), origin: str | None = None) -> GraphPlan:
    """The Plan of a graph: from a file (a training config or a bare graph), or from a dict. Raises `ConfigError`.

    `origin` names a place for the mistakes of a dict; graphs that a dict names are looked for in the current folder,
    and in its `configs`.
    """
    found = road.begin(source, overrides, origin).to(road.BEFORE_TORCH).plan
    assert found is not None
    return found


def build(
    source: GraphSource,
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

    walk = road.begin(source, overrides, origin).to("sizes")
    assert walk.plan is not None
    graph = build_graph(walk.plan, walk.inference)
    if weights:
        load_checkpoints(graph, walk.plan, runs)
    return graph


def load_run(run: str | os.PathLike[str], *, last: bool = False) -> Graph:
    """The graph of a run with its best weights, or its last ones, in evaluation mode and on the CPU.

    `run` is a run folder, or a folder of runs of which the newest counts. Raises `ConfigError`.
    """
    from flowconf.graph.weights.sources import find_run_folder
    from flowconf.train.runs.loading import load_run as loaded

    return loaded(find_run_folder(Path(run)), last=last)
