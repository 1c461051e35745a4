"""The shape check of a whole graph, and the check as a step of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowconf.graph.shapes import branching_verbs, iterating_verbs
from flowconf.graph.shapes.assumed_input import check_assumed
from flowconf.graph.shapes.fake_values import faked
from flowconf.graph.shapes.inference import Inference, Rehearsal
from flowconf.graph.shapes.open_sizes import fitting
from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.shapes.trial import Trial
from flowconf.language.plan import GraphPlan

VERBS = branching_verbs.VERBS | iterating_verbs.VERBS


def infer(graph: GraphPlan) -> Inference:
    """Check a whole graph. Errors are in the reporter of the result."""
    with faked():
        return _tried(graph, {}, Sizes(), trains=False).result


def rehearse(graph: GraphPlan, given: Mapping[str, Any], sizes: Sizes) -> Rehearsal:
    """The check as a step of training, within a block of `faked`: values with autograd history, a module for each path.

    `given` are inputs of which more is known than the graph declares.
    """
    trial = _tried(graph, given, sizes, trains=True)
    return Rehearsal(trial.result, trial.scope, trial.maker.standing, trial.sizes)


def _tried(graph: GraphPlan, given: Mapping[str, Any], sizes: Sizes, trains: bool) -> Trial:
    def run(graph: GraphPlan, sizes: Sizes) -> Trial:
        trial = Trial(graph, VERBS, sizes, trains)
        trial.whole(given)
        return trial

    trial = fitting(graph, run, sizes)
    check_assumed(graph, trial, run)
    return trial
