"""Batch normalization over a team: the mean and variance of the global batch.

Several processes then compute the same as one, whatever their shares are. torch's `SyncBatchNorm` supports only CUDA,
and requires every process to have rows.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flowconf.train.team.distributed import Team


def over_the_team(module: nn.Module, team: Team) -> None:
    """Synchronize the batch statistics of every batch normalization in `module` during training."""
    if team.size == 1:
        return
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.__dict__["forward"] = functools.partial(_forward, team, part)


def _forward(team: Team, norm: _BatchNorm, x: Tensor) -> Tensor:
    if not norm.training:
        found: Tensor = type(norm).forward(norm, x)
        return found
    norm._check_input_dim(x)  # type: ignore[no-untyped-call]
    rows = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    axes = [axis for axis in range(x.ndim) if axis != 1]
    spread = (1, -1, *[1] * (x.ndim - 2))
    counts = 0.0 if team.idle else 1.0
    count = rows.new_full((1,), counts * x.numel() / x.shape[1])
    added = _summed(torch.cat([rows.sum(axes) * counts, count]), team)
    total = added[-1].detach()
    mean = added[:-1] / total
    centred = rows - mean.view(spread)
    variance = _summed(centred.square().sum(axes) * counts, team) / total
    _remember(norm, mean.detach(), variance.detach(), total)
    out = centred * torch.rsqrt(variance + norm.eps).view(spread)
    if norm.affine:
        out = out * norm.weight.view(spread) + norm.bias.view(spread)
    return out.to(x.dtype)


@torch.no_grad()
def _remember(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Update the running statistics with a batch, with the unbiased variance, as in torch."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    share = 1 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
    unbiased = variance * (count / (count - 1).clamp_min(1))
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)


class _Sum(torch.autograd.Function):
    """The sum over all processes; in the backward pass, the gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, team: Team) -> Tensor:
        ctx.team = team
        return team.add_up(own.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.team.add_up(grads[0].clone()), None


def _summed(own: Tensor, team: Team) -> Tensor:
    total: Tensor = _Sum.apply(own, team)  # type: ignore[no-untyped-call]
    return total
