"""The shape check of a whole graph, and the check as a step of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowconf.graph.shapes import branching_verbs, iterating_verbs
from flowconf.graph.shapes.assumed_input import check_assumed
from flowconf.graph.shapes.fake_values import faked
from flowconf.graph.shapes.inference import Inference, Rehearsal
from flowconf.graph.shapes.open_sizes import fitting
from flowconf.graph.shapes.scope import Scope
from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.shapes.trial import Trial
from flowconf.language.plan import GraphPlan

VERBS = branching_verbs.VERBS | iterating_verbs.VERBS


def infer(graph: GraphPlan) -> Inference:
    """Check a whole graph. Errors are in the reporter of the result."""
    with faked():
        return _tried(graph, {}, Sizes(), trains=False)[0].result


def rehearse(graph: GraphPlan, given: Mapping[str, Any], sizes: Sizes) -> Rehearsal:
    """The check as a step of training, within a block of `faked`: values with autograd history, a module for each path.

    `given` are inputs of which more is known than the graph declares.
    """
    trial, scope = _tried(graph, given, sizes, trains=True)
    return Rehearsal(trial.result, scope, trial.maker.standing, trial.sizes)


def _tried(graph: GraphPlan, given: Mapping[str, Any], sizes: Sizes, trains: bool) -> tuple[Trial, Scope]:
    scopes: dict[int, Scope] = {}

    def run(graph: GraphPlan, sizes: Sizes) -> Trial:
        trial = Trial(VERBS, sizes, trains)
        scopes[id(trial)] = trial.whole(graph, given)
        return trial

    trial = fitting(graph, run, sizes)
    check_assumed(graph, trial, scopes[id(trial)], run)
    return trial, scopes[id(trial)]
