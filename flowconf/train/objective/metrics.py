"""Built-in metrics: functions with the same signature as losses, averaged over all elements of a split.

A metric returns one value per element, or such values and their weights; `terms.Average` sums them on the device
without synchronizing. Any loss can also be a metric. Metrics that are not means (an F1 score, an area under a curve)
are torchmetrics classes, by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from flowconf.train.objective import losses

__all__ = ["accuracy", "exact", "mae", "mse", "value"]

T = TypeVar("T", bound=Callable[..., Any])


def higher_is_better(yes: bool, /) -> Callable[[T], T]:
    """Declare whether larger values of a metric are better, as classes of torchmetrics do by an attribute.

    @flowconf.register_metric
    @flowconf.higher_is_better(False)
    def worst(predicted: Tensor, target: Tensor) -> Tensor:
        return (predicted - target).abs().flatten(1).amax(1)
    """

    def declare(metric: T) -> T:
        setattr(metric, "higher_is_better", yes)  # noqa: B010 - mypy knows no such attribute of a function
        return metric

    return declare


@higher_is_better(True)
def accuracy(
    predicted: Tensor, target: Tensor, *, dim: int = 1, top: int = 1, ignore_index: int = -100
) -> tuple[Tensor, Tensor]:
    """Whether the target class is among the `top` largest scores along `dim`; `ignore_index` has no weight.

    `target` [B, ...] has class indices, and `predicted` has one more dimension, `dim`, for the classes. Predictions of
    the same shape as the target are class indices, or binary logits if they are floating-point.
    """
    if predicted.shape == target.shape:
        chosen = predicted > 0 if predicted.is_floating_point() else predicted
        return (chosen == target).float(), target != ignore_index
    scores = predicted.movedim(dim, -1)
    if scores.shape[:-1] != target.shape:
        raise ValueError(
            f"targets of shape {list(target.shape)} do not match scores of shape {list(predicted.shape)} "
            f"with classes along dimension {dim}"
        )
    chosen = scores.argmax(-1, keepdim=True) if top == 1 else scores.topk(top, dim=-1).indices
    return (chosen == target[..., None]).any(-1).float(), target != ignore_index


@higher_is_better(True)
def exact(predicted: Tensor, target: Tensor, *, dim: int = -1, ignore_index: int = -100) -> Tensor:
    """Whether all class indices of a row of `target` [B, ...] are right, except those of `ignore_index`; [B]."""
    right, counted = accuracy(predicted, target, dim=dim, ignore_index=ignore_index)
    wrong = (right == 0) & counted
    return torch.logical_not(wrong.flatten(1).any(1)).float()


@higher_is_better(False)
def mae(predicted: Tensor, target: Tensor) -> Tensor:
    """Absolute error."""
    return losses.l1(predicted, target)


@higher_is_better(False)
def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared error."""
    return losses.mse(predicted, target)


def value(values: Tensor) -> Tensor:
    """The values themselves, such as a halting step or an entropy computed by the graph."""
    return values
