"""The Python API: compose and load configs, build graphs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowconf.language import config as configs
from flowconf.language.config import Config
from flowconf.language.plan import GraphPlan
from flowconf.report import Diagnostic
from flowconf.text.compose import Composition
from flowconf.train.checks import road
from flowconf.train.checks.road import GraphSource
from flowconf.train.runs.trusting import trust_project

if TYPE_CHECKING:
    from flowconf.graph.graph import Graph


def compose(file: str | os.PathLike[str], overrides: Sequence[str] = (), *, trust: bool = False) -> Composition:
    """Compose a config, with the place of every value. Raises `ConfigError`.

    `trust`: import the modules of the config's project, even if the current folder is outside that project.
    """
    trust_project(file, trust)
    return configs.compose(file, overrides)


def load(file: str | os.PathLike[str], overrides: Sequence[str] = (), *, trust: bool = False) -> Config:
    """Load a training config: composed and checked, with its graph resolved; `trust` as in `compose`.

    Raises `ConfigError`.
    """
    trust_project(file, trust)
    return road.begin(file, overrides, trained=True).to(road.BEFORE_TORCH).checked


def check(
    source: GraphSource, overrides: Sequence[str] = (), origin: str | None = None, *, trust: bool = False
) -> list[Diagnostic]:
    """Check a config or graph: the diagnostics of the first stage with errors, and warnings.

    Everything is checked that does not require data: keys, graph, sections, shapes, losses and metrics, checkpoints,
    and the configs that those refer to. Nothing is run except the modules of the project; `trust` as in `compose`.
    """
    trust_project(source, trust)
    return road.findings(source, overrides, origin).mistakes


def plan(
    source: GraphSource, overrides: Sequence[str] = (), origin: str | None = None, *, trust: bool = False
) -> GraphPlan:
    """The Plan of a graph, from a file (a training config or a graph document) or a dict. Raises `ConfigError`.

    `origin` is the place that errors in a dict refer to. Graphs that a dict refers to are searched for in `configs`, if
    it exists, or in the current folder. `trust` as in `compose`.
    """
    trust_project(source, trust)
    return road.begin(source, overrides, origin).to(road.BEFORE_TORCH).resolved


def build(
    source: GraphSource,
    overrides: Sequence[str] = (),
    *,
    weights: bool = True,
    runs: str = "runs",
    origin: str | None = None,
    trust: bool = False,
) -> Graph:
    """Build the graph that `source` describes; with `weights`, load the checkpoints of its `checkpoint:` keys.

    `runs` is the folder in which runs of other configs are searched for; `trust` as in `compose`. Raises `ConfigError`.
    """
    from flowconf.graph.build import build_graph, load_checkpoints

    trust_project(source, trust)
    walk = road.begin(source, overrides, origin).to("sizes")
    graph = build_graph(walk.resolved, walk.inference)
    if weights:
        load_checkpoints(graph, walk.resolved, runs)
    return graph


def load_run(run: str | os.PathLike[str], *, last: bool = False, step: int | None = None, trust: bool = False) -> Graph:
    """The graph of a run with its best (or `last`) weights, or those kept of a `step`, in evaluation mode, on the CPU.

    `run` is a run folder, or a folder of runs, of which the newest is loaded. `trust` as in `compose`. Raises
    `ConfigError`.
    """
    from flowconf.graph.weights.sources import chosen
    from flowconf.train.runs.loading import load_run as loaded

    trust_project(run, trust)
    return loaded(Path(run), chosen(last, step))
