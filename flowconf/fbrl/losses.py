"""Losses on the locations of glimpses.

Locations are `(x, y)` in [-1, 1] as in `flowconf.fbrl.glimpse`. Losses are [B].
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowconf.fbrl.glimpse import sample

__all__ = ["diversity", "guide"]


def _places(at: Tensor) -> Tensor:
    """Locations [B, T, 2] from [B, T, 2] or, with one location per row, [B, 2]."""
    return at[:, None, :] if at.ndim == 2 else at


def guide(at: Tensor, field: Tensor) -> Tensor:
    """Attracts glimpses to bright parts of `field`: the negative mean of `field` at the locations.

    `at` is [B, T, 2] or [B, 2], `field` is [B, 1, H, W], the result is [B].
    """
    places = _places(at)
    return -sample(field, places[:, :, None, :]).mean(dim=(1, 2, 3))


def diversity(*at: Tensor, sigma: float = 0.1) -> Tensor:
    """Pushes locations apart: the mean of exp(-distance^2 / (2 sigma^2)) over all ordered pairs.

    `at` is one or more tensors [B, T, 2] or [B, 2], concatenated; `sigma` is in units of the coordinates; the result is
    [B]. The pair of a location with itself adds 0 to the sum, but counts in the mean.
    """
    places = torch.cat([_places(each) for each in at], dim=1)
    count = places.shape[1]
    distance = (places[:, :, None] - places[:, None]).square().sum(dim=-1)
    near = torch.exp(distance / (-2 * sigma**2))
    # Each of the `count` diagonal entries is exactly exp(0) = 1, and their gradient is 0.
    return (near.sum(dim=(1, 2)) - count) / count**2
