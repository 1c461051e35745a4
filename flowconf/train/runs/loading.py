"""Loads a run from its folder: its config, with overrides, and its graph with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowconf.graph.build import build_graph
from flowconf.graph.graph import Graph
from flowconf.graph.weights.sources import CONFIG, Which, known_record, weights_of
from flowconf.language import config as configs
from flowconf.language import projects
from flowconf.train.checks import road
from flowconf.train.checks.road import Walk
from flowconf.train.runs.resume import in_its_folder


def walk_run(folder: Path, overrides: Sequence[str] = (), weights: Path | None = None) -> Walk:
    """A walk with the config of a run; the modules of its project are imported first, if it is trusted.

    `weights` is the file to load instead of those that the config names, None if the run starts from the beginning.
    Raises `ConfigError`.
    """
    origin = started_from(folder)
    warnings = projects.import_project(origin, folder) if origin is not None else ()
    walk = road.composed(configs.compose(folder / CONFIG, overrides), run_weights=weights)
    walk.reporter.diagnostics += warnings
    return walk


def started_from(folder: Path) -> Path | None:
    """The folder of the config file of a run, from its record; None if it does not exist."""
    config = Path(known_record(folder)["config"])
    return config.parent if config.parent.is_dir() else None


def load_run(folder: Path, which: Which = "best") -> Graph:
    """The graph of a run with its weights, in evaluation mode and on the CPU. Raises `ConfigError`."""
    folder = folder.absolute()
    file = weights_of(folder, which)
    walk = walk_run(folder, weights=file).to(road.BEFORE_TORCH)  # what it names is said as seen from the current folder
    with in_its_folder(folder):
        walk.to("sizes")
    assert walk.plan is not None
    graph = build_graph(walk.plan, walk.inference)
    graph.load(file)
    return graph.eval()
