"""Loads a run from its folder: its config, with overrides, and its graph with its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowconf.graph.build import build_graph
from flowconf.graph.graph import Graph
from flowconf.graph.weights.sources import CONFIG, Which, find_run_folder, known_record, weights_of
from flowconf.language import config as configs
from flowconf.language import projects
from flowconf.report import ConfigError, Diagnostic, Place, read_json
from flowconf.train.checks import road
from flowconf.train.checks.road import Walk
from flowconf.train.runs.resume import in_its_folder

FITTED_FILE = "data.json"
"""The file of a run folder with what its data set has determined from its training rows."""


def walk_run(folder: Path, overrides: Sequence[str] = (), weights: Path | None = None) -> Walk:
    """A walk with the config of a run; the modules of its project are imported first, if it is trusted.

    `weights` is the file to load instead of those that the config names, None if the run starts from the beginning.
    Raises `ConfigError`.
    """
    origin = started_from(folder)
    warnings = projects.import_project(origin, folder) if origin is not None else ()
    walk = road.composed(configs.compose(folder / CONFIG, overrides), run_weights=weights)
    walk.reporter.diagnostics += warnings
    walk.fitted = fitted_of(folder)
    return walk


def started_from(folder: Path) -> Path | None:
    """The folder of the config file of a run, from its record; None if it does not exist."""
    config = Path(known_record(folder)["config"])
    return config.parent if config.parent.is_dir() else None


def fitted_of(folder: Path) -> Mapping[str, Any] | None:
    """What the data set of a run has determined from its training rows; None if it needs nothing.

    Raises `ConfigError` for a damaged file.
    """
    file = folder / FITTED_FILE
    if not file.is_file():
        return None
    try:
        found = read_json(file)
    except (OSError, ValueError) as problem:
        raise ConfigError(Diagnostic("FC0501", f"`{file}` is damaged: {problem}", Place(str(file)))) from None
    if not isinstance(found, dict):
        raise ConfigError(Diagnostic("FC0501", f"`{file}` is damaged: it must be an object", Place(str(file))))
    return found


def open_run(run: str | Path, which: Which, overrides: Sequence[str] = ()) -> tuple[Path, Path, Walk]:
    """The folder of a run, the file of its chosen weights, and the walk of its config. Raises `ConfigError`."""
    folder = find_run_folder(run).absolute()
    file = weights_of(folder, which)
    return folder, file, walk_run(folder, overrides, file)


def load_run(run: str | Path, which: Which = "best") -> Graph:
    """The graph of a run with its weights, in evaluation mode and on the CPU. Raises `ConfigError`."""
    folder, file, walk = open_run(run, which)
    walk.to(road.BEFORE_TORCH)  # what it names is shown relative to the current folder
    with in_its_folder(folder):
        walk.to("sizes")
    graph = build_graph(walk.resolved, walk.inference)
    graph.load(file)
    return graph.eval()
