"""Checks that the weights to load exist and match the graph. Only the headers of files are read."""

from __future__ import annotations

from pathlib import Path

from flowconf.graph.build import check_weights as fits
from flowconf.graph.build import requests
from flowconf.graph.shapes.inference import Inference
from flowconf.graph.weights.loading import Request
from flowconf.graph.weights.sources import check_source, has_run, is_awaited, locate
from flowconf.language.config import Config
from flowconf.language.plan import GraphPlan
from flowconf.language.resolve.module_settings import read_where
from flowconf.language.settings import Checkpoint
from flowconf.report import Reporter

RUNS = "runs"
"""Default folder to search for runs of other configs."""


def check_weights(config: Config | None, plan: GraphPlan, inference: Inference, reporter: Reporter) -> None:
    """Report missing sources of weights, and weights that do not match the graph.

    A config without a finished run has no weights to check yet.
    """
    start = None if config is None else start_of(config)
    sources = [setting.checkpoint for _, setting in plan.all_settings() if setting.checkpoint is not None]
    sources += [start] if start is not None else []
    absent = [problem for source in sources for problem in check_source(source)]
    if absent:
        reporter.diagnostics += absent
        return
    awaited = [one.hub for one in sources if one.hub is not None and is_awaited(one, RUNS)]
    if awaited:
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(awaited))
        reporter.notes.append(f"checked when they are downloaded: the weights of {names}")
    asked = requests(plan, RUNS if config is None else config.training.trainer.runs)
    request = None if start is None or config is None else start_request(start, config)
    asked += [("", request)] if request is not None else []
    reporter.diagnostics += fits(plan, inference, asked)


def check_run_weights(file: Path, plan: GraphPlan, inference: Inference, reporter: Reporter) -> None:
    """Report what prevents loading the weights of a run into the graph of its config."""
    reporter.diagnostics += fits(plan, inference, [("", Request(str(file)))])


def start_of(config: Config) -> Checkpoint | None:
    """The checkpoint of `init_from`. Raises `ConfigError` for a value in `where` that is not plain."""
    source, reporter = config.training.init_from, Reporter(config.composition.document.origins)
    if source is None:
        return None
    if isinstance(source, str):
        return Checkpoint(path=source, place=reporter.value(("init_from",)))
    where, places = read_where(source.where, ("init_from", "where"), reporter)
    reporter.stop_on_errors()
    place = reporter.value(("init_from", "config"))
    places.append(("step", reporter.value(("init_from", "step"))))
    return Checkpoint(config=source.config, where=where, step=source.step, place=place, places=tuple(places))


def start_request(start: Checkpoint, config: Config) -> Request | None:
    """The request of `init_from`: every tensor whose path and shape match; None for a config without a finished run.

    Raises `ConfigError`.
    """
    runs = config.training.trainer.runs
    if start.config is not None and not has_run(start, runs):
        return None
    file = str(locate(start, runs))
    return Request(file, missing="ignore", unused="ignore", mismatched="ignore", place=start.place)
