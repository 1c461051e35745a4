"""Built-in adapters: small trainable modules that change a weight, for `adapt`.

An adapter is a function of a weight, or a class that is constructed from one, with keyword-only options. It gives a
module whose `forward` takes the weight and gives the adapted weight, of the same shape. Its attribute `adapts`, a tuple
of module classes, says what it extends; by default linear maps, convolutions and attentions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["lora"]


def lora(weight: Tensor, *, rank: int, alpha: float | None = None) -> nn.Module:
    """A change of low rank (LoRA), `scale * up @ down`, which is 0 at first; `scale` is `alpha / rank`, by default 1.

    A convolution is a matrix of one row for each output channel; the projections of an attention are one matrix.
    Raises `ValueError` for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank}")
    return LowRank(weight, rank, 1.0 if alpha is None else alpha / rank)


class LowRank(nn.Module):
    """Adds `scale * up @ down` to a weight of shape [rows, ...]; `down` is [rank, columns], `up` is [rows, rank]."""

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        rows = weight.shape[0]
        self.down = nn.Parameter(torch.empty(rank, weight.numel() // rows, dtype=weight.dtype, device=weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, dtype=weight.dtype, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight."""
        return weight + self.scale * (self.up @ self.down).view_as(weight)
