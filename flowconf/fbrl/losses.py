"""What keeps a reader's gaze honest, and the measure of a word reader.

Locations are `(x, y)` in [-1, 1] as in `flowconf.fbrl.glimpse`. Losses are one number a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowconf.fbrl.glimpse import sample


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


def word_accuracy(letters: Tensor, count: Tensor, letters_target: Tensor, count_target: Tensor) -> Tensor:
    """1 for a row read without a mistake, its length included, else 0.

    `letters` [B, N, classes] and `count` [B, counts] are logits; `letters_target` [B, N] is -100 where the
    word has no letter; `count_target` [B]; the result [B] in float32.
    """
    letters_right = (letters.argmax(dim=-1) == letters_target) | (letters_target == -100)
    return (letters_right.all(dim=1) & (count.argmax(dim=-1) == count_target)).float()
