"""Built-in augmentations of any field of numbers. Those of images are in `torchvision.transforms.v2`.

An augmentation is called with a field of one row, and returns a tensor of the same shape and type. The random
generators of Python, NumPy and torch are seeded for each row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowconf.language.value_types import Factor, Fraction

__all__ = ["AddNoise", "ZeroOut"]


class AddNoise:
    """Adds Gaussian noise.

    augment: {measured: AddNoise(0.05)}
    """

    def __init__(self, std: Factor = 0.1) -> None:
        """`std` is the standard deviation of the noise, in the units of the field."""
        self.std = std

    def __call__(self, x: Tensor) -> Tensor:
        """`x` of any shape and a floating-point type: the same with noise."""
        return x + self.std * torch.randn_like(x)


class ZeroOut:
    """Replaces random elements by 0.

    augment: {measured: ZeroOut(0.2)}
    """

    def __init__(self, p: Fraction = 0.1) -> None:
        """`p` is the probability of each element."""
        self.p = p

    def __call__(self, x: Tensor) -> Tensor:
        """`x` of any shape and type: the same with some zeros."""
        return x.masked_fill(torch.rand(x.shape) < self.p, 0)
