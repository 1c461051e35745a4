"""What keeps a reader's gaze honest.

Locations are `(x, y)` in [-1, 1] as in `flowconf.fbrl.glimpse`. Losses are one number a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowconf.fbrl.glimpse import sample

__all__ = ["diversity", "guide"]


def _places(at: Tensor) -> Tensor:
    """Locations [B, T, 2] from [B, T, 2], or from one location a row, [B, 2]."""
    return at[:, None, :] if at.ndim == 2 else at


def guide(at: Tensor, field: Tensor) -> Tensor:
    """Draws the gaze to where `field` is bright: minus its mean at the locations.

    `at` [B, T, 2] or [B, 2]; `field` [B, 1, H, W]; the result [B].
    """
    places = _places(at)
    return -sample(field, places[:, :, None, :]).mean(dim=(1, 2, 3))


def diversity(*at: Tensor, sigma: float = 0.1) -> Tensor:
    """Drives locations apart: the mean over all ordered pairs of exp(-distance^2 / (2 sigma^2)).

    `at`: one or more of [B, T, 2] or [B, 2], taken together; `sigma` in units of the coordinates; the
    result [B]. A location's pair with itself counts 0, but counts in the mean.
    """
    places = torch.cat([_places(each) for each in at], dim=1)
    count = places.shape[1]
    distance = (places[:, :, None] - places[:, None]).square().sum(dim=-1)
    near = torch.exp(distance / (-2 * sigma**2))
    # Each of the `count` diagonal entries is exactly exp(0) = 1, and their gradient is 0.
    return (near.sum(dim=(1, 2)) - count) / count**2
