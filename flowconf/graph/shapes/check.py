"""The shape check of a whole graph, and the check as a step of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowconf.graph.shapes import branching_verbs, iterating_verbs
from flowconf.graph.shapes.fake_values import faked
from flowconf.graph.shapes.inference import Inference, Rehearsal
from flowconf.graph.shapes.open_sizes import fitting
from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.shapes.trial import Trial
from flowconf.language.plan import GraphPlan

VERBS = branching_verbs.VERBS | iterating_verbs.VERBS


def infer(graph: GraphPlan) -> Inference:
    """Check a whole graph. Mistakes are in the result's reporter."""

    def run(sizes: Sizes) -> Trial:
        trial = Trial(VERBS, sizes)
        trial.whole(graph, {})
        return trial

    with faked():
        return fitting(graph, run, Sizes()).result


def rehearse(graph: GraphPlan, given: Mapping[str, Any], sizes: Sizes) -> Rehearsal:
    """The check as a step of training, within a block of `faked`: values with their history, a module for each path.

    `given` are inputs of which more is known than the graph says.
    """
    scopes = {}

    def run(sizes: Sizes) -> Trial:
        trial = Trial(VERBS, sizes, trains=True)
        scopes[id(trial)] = trial.whole(graph, given)
        return trial

    trial = fitting(graph, run, sizes)
    return Rehearsal(trial.result, scopes[id(trial)], trial.maker.standing, trial.sizes)
