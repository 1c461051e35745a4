"""The shape check of a whole graph, and the check as a step of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowconf.graph.shapes import branching_verbs, iterating_verbs
from flowconf.graph.shapes.fake_values import faked
from flowconf.graph.shapes.inference import Inference, Rehearsal
from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.shapes.trial import Trial
from flowconf.language.plan import GraphPlan

VERBS = branching_verbs.VERBS | iterating_verbs.VERBS


def infer(graph: GraphPlan) -> Inference:
    """Check a whole graph. Errors are in the reporter of the result."""
    with faked():
        trial = Trial(VERBS, Sizes())
        trial.whole(graph, {})
        return trial.result


def rehearse(graph: GraphPlan, given: Mapping[str, Any], sizes: Sizes) -> Rehearsal:
    """The check as a step of training, within a block of `faked`: values with autograd history, a module for each path.

    `given` are inputs of which more is known than the graph declares.
    """
    trial = Trial(VERBS, sizes, trains=True)
    scope = trial.whole(graph, given)
    return Rehearsal(trial.result, scope, trial.maker.standing, sizes)
