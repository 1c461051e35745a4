"""Metrics by name: functions of the same form as losses, averaged over every element of a split.

A metric gives one value for every element, or such values with their weights; `terms.Average` sums
them on the device, so that nothing waits for it. Any loss can be a metric too. What is not a mean (an F1 score, an
area under a curve) comes from torchmetrics by its class name.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowconf.train.objective import losses


def accuracy(
    predicted: Tensor, target: Tensor, *, dim: int = 1, top: int = 1, ignore_index: int = -100
) -> tuple[Tensor, Tensor]:
    """Whether the target class is among the `top` largest scores along `dim`; `ignore_index` counts nothing.

    `target` [B, ...] holds class indices, and `predicted` has one axis more, `dim`, for the classes. Predictions of the
    target's own shape are taken as class indices, or as logits of a yes-or-no question when they are not integers.
    """
    if predicted.shape == target.shape:
        chosen = predicted > 0 if predicted.is_floating_point() else predicted
        return (chosen == target).float(), target != ignore_index
    scores = predicted.movedim(dim, -1)
    if scores.shape[:-1] != target.shape:
        raise ValueError(
            f"targets of shape {list(target.shape)} do not fit scores of shape {list(predicted.shape)} "
            f"with their classes along dimension {dim}"
        )
    chosen = scores.argmax(-1, keepdim=True) if top == 1 else scores.topk(top, dim=-1).indices
    return (chosen == target[..., None]).any(-1).float(), target != ignore_index


def exact(predicted: Tensor, target: Tensor, *, dim: int = -1, ignore_index: int = -100) -> Tensor:
    """Whether a whole row is right: every class index of `target` [B, ...], those with `ignore_index` aside; [B]."""
    right, counted = accuracy(predicted, target, dim=dim, ignore_index=ignore_index)
    wrong = (right == 0) & counted
    return torch.logical_not(wrong.flatten(1).any(1)).float()


def mae(predicted: Tensor, target: Tensor) -> Tensor:
    """Absolute error."""
    return losses.l1(predicted, target)


def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared error."""
    return losses.mse(predicted, target)


def value(values: Tensor) -> Tensor:
    """The values themselves, such as a halting step or an entropy that the graph works out."""
    return values
