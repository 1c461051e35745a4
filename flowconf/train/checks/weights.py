"""Checks that the weights to load exist and match the graph. Only the headers of files are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flowconf.graph.build import check_weights as fits
from flowconf.graph.build import request_for, requests
from flowconf.graph.shapes.inference import Inference
from flowconf.graph.weights.loading import Request
from flowconf.graph.weights.sources import check_source, is_awaited
from flowconf.language.config import Config
from flowconf.language.plan import GraphPlan
from flowconf.language.resolve.module_settings import read_checkpoint
from flowconf.language.settings import Checkpoint
from flowconf.language.weight_source import CheckpointSource
from flowconf.report import NOWHERE, Reporter, listing, shown_path

JUDGED = ("missing", "unused", "mismatched")
"""The keys of a checkpoint that say what to do with tensors that do not match."""
MISFITS = ("FC0302", "FC0303", "FC0304", "FC0305")
"""The codes of weights that do not fit a graph."""
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
        names = listing(list(dict.fromkeys(awaited)))
        reporter.notes.append(f"checked when they are downloaded: the weights of {names}")
    runs = RUNS if config is None else config.training.trainer.runs
    asked = requests(plan, runs)
    asked += [("", request)] if (request := request_for(start, runs)) is not None else []
    reporter.diagnostics += fits(plan, inference, asked)


def check_run_weights(file: Path, plan: GraphPlan, inference: Inference, reporter: Reporter) -> None:
    """Report what prevents loading the weights of a run into the graph of its config, at the step concerned."""
    advice = f"weights with other sizes begin a new run: `init_from={shown_path(file)}` loads those that fit"
    for found in fits(plan, inference, [("", Request(str(file)))]):
        step = plan.step_at(found.path)
        place = step.body_place if step is not None and found.place == NOWHERE else found.place
        better = advice if found.code in MISFITS else found.advice
        reporter.diagnostics.append(replace(found, place=place, advice=better))


def start_of(config: Config) -> Checkpoint | None:
    """The checkpoint of `init_from`, which ignores what does not match if the config does not say otherwise.

    Raises `ConfigError` for one that is wrong.
    """
    source, reporter = config.training.init_from, Reporter(config.origins)
    found = read_checkpoint(source, ("init_from",), reporter)
    reporter.stop_on_errors()
    written = source.model_fields_set if isinstance(source, CheckpointSource) else ()
    ignored: dict[str, Any] = {key: "ignore" for key in JUDGED if key not in written}
    return None if found is None else replace(found, **ignored)
