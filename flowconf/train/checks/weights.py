"""Whether the weights that are going to be loaded are there, and fit the graph. Only the headers of files are read."""

from __future__ import annotations

from pathlib import Path

from flowconf.graph.build import check_weights as fits
from flowconf.graph.build import requests
from flowconf.graph.shapes.inference import Inference
from flowconf.graph.weights.loading import Request
from flowconf.graph.weights.sources import check_source, locate
from flowconf.language.config import Config
from flowconf.language.plan import Checkpoint, GraphPlan
from flowconf.report import Reporter

RUNS = "runs"
"""Where runs of other configs are looked for, unless a config says otherwise."""


def check_weights(config: Config | None, plan: GraphPlan, inference: Inference, reporter: Reporter) -> None:
    """Note sources of weights that are not there, and weights that do not fit.

    A config that has no finished run yet gives no weights to look at.
    """
    start = None if config is None else start_of(config)
    sources = [setting.checkpoint for _, setting in plan.all_settings() if setting.checkpoint is not None]
    sources += [start] if start is not None else []
    absent = [problem for source in sources for problem in check_source(source)]
    if absent:
        reporter.diagnostics += absent
        return
    asked = requests(plan, RUNS if config is None else config.training.trainer.runs)
    asked += [("", start_request(start))] if start is not None else []
    reporter.diagnostics += fits(plan, inference, asked)


def check_run_weights(file: Path, plan: GraphPlan, inference: Inference, reporter: Reporter) -> None:
    """Note what keeps the weights of a run from being loaded into the graph of its config."""
    reporter.diagnostics += fits(plan, inference, [("", Request(str(file)))])


def start_of(config: Config) -> Checkpoint | None:
    """What `init_from` names."""
    if config.training.init_from is None:
        return None
    place = config.composition.document.origins.value(("init_from",))
    return Checkpoint(path=config.training.init_from, place=place)


def start_request(start: Checkpoint) -> Request:
    """What `init_from` asks for: whatever still has its path and shape. Raises `ConfigError`."""
    file = str(locate(start, ""))
    return Request(file, missing="ignore", unused="ignore", mismatched="ignore", place=start.place)
