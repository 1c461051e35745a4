"""Weights of loss terms over a run: plain functions of progress (0 at the first step, 1 at the end)."""

from __future__ import annotations

import math

from flowconf.language.training import Changing, Ramp, Weight


def weight_at(weight: Weight, progress: float) -> float:
    """The weight at a progress of the run (0: the first step, 1: the end)."""
    if not isinstance(weight, Changing):
        return weight
    if weight.steps is not None:
        return weight.steps.values[sum(progress >= edge for edge in weight.steps.at)]
    ramp = weight.linear or weight.cosine
    assert isinstance(ramp, Ramp)
    done = min(max((progress - ramp.after) / ramp.over, 0.0), 1.0)
    if weight.cosine is not None:
        done = 0.5 - 0.5 * math.cos(math.pi * done)
    return ramp.start + (ramp.to - ramp.start) * done


def final_weight(weight: Weight) -> float:
    """The weight at the end of the run, which evaluations use."""
    return weight_at(weight, 1.0)
