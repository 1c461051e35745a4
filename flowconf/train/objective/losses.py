"""Built-in losses: thin functions over `torch.nn.functional` with explicit arguments.

A loss takes its inputs, then its targets, and returns one value per element (any shape that starts with the batch), or
such values and the weights of the elements, by whose sum the mean is divided. With `reduction="mean"` it returns the
mean, using torch's fused kernel if there is one. A loss that a project registers needs neither `reduction` nor
weights. Predictions and targets of different shapes are rejected: torch would broadcast `[64, 1]` against `[64]`,
which is never intended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from flowconf.language.value_types import Factor
from flowconf.report import dtype_name
from flowconf.train.objective.gradients import differentiates

Logits: TypeAlias = Annotated[Tensor, "Logits"]
Probabilities: TypeAlias = Annotated[Tensor, "Probabilities"]
LogProbabilities: TypeAlias = Annotated[Tensor, "LogProbabilities"]
"""What an argument of a loss holds, or a module returns; a check compares the two."""
Result = Tensor | tuple[Tensor, Tensor]
"""One value per element, or these and the weight of each element."""


def cross_entropy(
    logits: Logits,
    target: Tensor,
    *,
    dim: int = 1,
    weight: Sequence[float] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "none",
) -> Result:
    """Cross entropy of `logits` along the class dimension `dim`.

    `target` has class indices (the shape of `logits` without `dim`) or class probabilities (the shape of `logits`).
    `weight` is one factor per class. Elements whose target is `ignore_index` have no weight.
    """
    rows = _classes_last(logits, dim)
    classes = weight if weight is None else torch.tensor(weight, dtype=logits.dtype, device=logits.device)
    if target.is_floating_point():
        if target.shape == rows.shape[:-1]:
            raise ValueError(f"class indices must be integers, got targets of type {dtype_name(target.dtype)}")
        _same_shape(logits, target)
        goal = _flat(_classes_last(target, dim))
    else:
        if target.shape != rows.shape[:-1]:
            raise ValueError(
                f"targets of shape {list(target.shape)} do not match logits of shape {list(logits.shape)} "
                f"with classes along dimension {dim}"
            )
        target = target.long()
        goal = target if target.ndim == 1 else target.reshape(-1)
    values = F.cross_entropy(_flat(rows), goal, classes, None, ignore_index, None, reduction, label_smoothing)
    if reduction != "none":
        return values
    values = values.view(rows.shape[:-1])
    if target.is_floating_point():
        return values
    counted = target != ignore_index
    if classes is None:
        return values, counted
    # torch has already multiplied the values by the class weights; undo it, and return the weights separately.
    share = classes[target.clamp_min(0)] * counted
    return torch.where(share > 0, values / share.clamp_min(torch.finfo(share.dtype).tiny), 0), share


def nll(log_probabilities: LogProbabilities, target: Tensor, *, dim: int = 1, ignore_index: int = -100) -> Result:
    """Negative log-likelihood of class indices under log-probabilities along `dim`."""
    if target.is_floating_point():
        raise ValueError(f"class indices must be integers, got targets of type {dtype_name(target.dtype)}")
    rows, target = _flat(_classes_last(log_probabilities, dim)), target.long()
    values = F.nll_loss(rows, target.reshape(-1), None, None, ignore_index, None, "none")
    return values.view(target.shape), target != ignore_index


def bce_with_logits(
    logits: Logits,
    target: Tensor,
    *,
    pos_weight: float | Sequence[float] | None = None,
    dim: int = 1,
    reduction: str = "none",
) -> Tensor:
    """Binary cross entropy of `logits` with targets in [0, 1].

    `pos_weight` is the weight of positive targets: a number, or one for each label along `dim`.
    """
    goal = _matching(target, logits)
    factor = None if pos_weight is None else _along(dim, pos_weight, logits)
    return F.binary_cross_entropy_with_logits(logits, goal, pos_weight=factor, reduction=reduction)


def bce(probabilities: Probabilities, target: Tensor, *, reduction: str = "none") -> Tensor:
    """Binary cross entropy of probabilities in [0, 1]; prefer `bce_with_logits`, which is accurate near 0 and 1."""
    return F.binary_cross_entropy(probabilities, _matching(target, probabilities), reduction=reduction)


def mse(predicted: Tensor, target: Tensor, *, reduction: str = "none") -> Tensor:
    """Squared error."""
    return F.mse_loss(predicted, _matching(target, predicted), reduction=reduction)


def l1(predicted: Tensor, target: Tensor, *, reduction: str = "none") -> Tensor:
    """Absolute error."""
    return F.l1_loss(predicted, _matching(target, predicted), reduction=reduction)


def smooth_l1(predicted: Tensor, target: Tensor, *, beta: float = 1.0, reduction: str = "none") -> Tensor:
    """Squared error below `beta`, absolute error above, scaled by `1 / beta` so that the slope above is 1."""
    return F.smooth_l1_loss(predicted, _matching(target, predicted), reduction=reduction, beta=beta)


def huber(predicted: Tensor, target: Tensor, *, delta: float = 1.0, reduction: str = "none") -> Tensor:
    """Squared error below `delta`, absolute error with slope `delta` above."""
    return F.huber_loss(predicted, _matching(target, predicted), reduction=reduction, delta=delta)


def kl_div(log_probabilities: LogProbabilities, target: Tensor, *, dim: int = 1, log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence of `target` from log-probabilities, summed along `dim`.

    `target` has probabilities, or log-probabilities with `log_target`.
    """
    _same_shape(log_probabilities, target)
    return F.kl_div(log_probabilities, target, reduction="none", log_target=log_target).sum(dim)


def poisson_nll(predicted: Tensor, target: Tensor, *, log_input: bool = True, reduction: str = "none") -> Tensor:
    """Negative log-likelihood of counts under a Poisson rate; with `log_input`, `predicted` is the logarithm of it."""
    return F.poisson_nll_loss(predicted, _matching(target, predicted), log_input=log_input, reduction=reduction)


def gaussian_nll(mean: Tensor, variance: Tensor, target: Tensor, *, full: bool = False, eps: float = 1e-6) -> Tensor:
    """Negative log-likelihood of a normal distribution; `full` adds the constant term, `eps` clamps the variance."""
    return F.gaussian_nll_loss(mean, _matching(target, mean), variance, full=full, eps=eps, reduction="none")


def cosine(predicted: Tensor, target: Tensor, *, dim: int = -1) -> Tensor:
    """One minus the cosine similarity along `dim`: 0 for the same direction, 2 for the opposite."""
    _same_shape(predicted, target)
    return 1 - F.cosine_similarity(predicted, target, dim=dim)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions from the standard one, summed over all but the batch.

    One value per row: of a `Gaussian` named `latent`, `input` is `[latent.mean, latent.log_variance]`.
    """
    _same_shape(mean, log_variance)
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


def load_balance(weights: Tensor, *, k: int = 1) -> Tensor:
    """How unevenly a router uses its experts, as in Switch Transformer: 1 if all are used alike, more otherwise.

    `weights` [..., experts] are those of the router of a `gate`, `input: experts.router`. This is the sum over experts
    of their mean weight times the share of the rows for which they are among the `k` highest, times the number of
    experts. There is one value per row, whose mean that is; the shares are those of the batch.
    """
    if not 1 <= k <= weights.shape[-1]:
        raise ValueError(f"`k` must be from 1 to {weights.shape[-1]}, the number of weights, got {k}")
    chosen = torch.zeros_like(weights).scatter(-1, weights.topk(k, -1).indices, 1.0)
    shares = chosen.flatten(0, -2).mean(0) / k
    return weights.shape[-1] * (weights @ shares)


def value(values: Tensor) -> Tensor:
    """The values themselves: for penalties and rewards computed by the graph (a reward has a negative weight)."""
    return values


@differentiates
def gradient_penalty(score: Tensor, point: Tensor, *, norm: Factor = 1.0) -> Tensor:
    """The squared difference of `norm` and the norm of the gradient of `score` with respect to `point`: [B].

    `score` [B, ...] is computed from `point` [B, ...], a value that has passed through `Differentiable`. WGAN-GP has a
    norm of 1, the R1 and R2 penalties 0.
    """
    if not point.requires_grad:
        raise ValueError("the point has no gradient: let it pass through `Differentiable` before the score is computed")
    (gradient,) = torch.autograd.grad(score.sum(), point, create_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError("the score does not depend on the point")
    lengths: Tensor = gradient.flatten(1).norm(dim=1)
    return (lengths - norm) ** 2


def _same_shape(predicted: Tensor, target: Tensor) -> None:
    if predicted.shape != target.shape:
        raise ValueError(
            f"predictions of shape {list(predicted.shape)} do not match targets of shape {list(target.shape)}"
        )


def _along(dim: int, weight: float | Sequence[float], like: Tensor) -> Tensor:
    """A weight for all of `like`, or one for each index along `dim`, in a shape that is broadcast to it."""
    weights = torch.tensor(weight, dtype=like.dtype, device=like.device)
    if weights.ndim == 0:
        return weights
    if not -like.ndim <= dim < like.ndim or like.shape[dim] != len(weights):
        raise ValueError(f"{len(weights)} weights do not match {list(like.shape)} along dimension {dim}")
    shape = [1] * like.ndim
    shape[dim] = len(weights)
    return weights.reshape(shape)


def _classes_last(scores: Tensor, dim: int) -> Tensor:
    return scores if dim in (-1, scores.ndim - 1) else scores.movedim(dim, -1)


def _flat(rows: Tensor) -> Tensor:
    return rows if rows.ndim == 2 else rows.reshape(-1, rows.shape[-1])


def _matching(target: Tensor, like: Tensor) -> Tensor:
    """A target of the same shape in a floating-point type. Raises `ValueError` for another shape."""
    _same_shape(like, target)
    return target if target.is_floating_point() else target.to(like.dtype)
