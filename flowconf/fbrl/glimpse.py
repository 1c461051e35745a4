"""Glimpses: small windows on an image.

A location is `(x, y)` in [-1, 1]: the centres of the corner pixels are at -1 and 1 (`align_corners=True` in
`torch.nn.functional.grid_sample`), and everything outside the image is black. The size of a window is in pixels, so the
same block works on images of any size. The output is differentiable in both the image and the location.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

__all__ = ["Glimpse", "View"]


def sample(image: Tensor, grid: Tensor) -> Tensor:
    """The pixels of `image` [B, C, H, W] at the locations `grid` [B, h, w, 2]: [B, C, h, w]."""
    return grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


class _Window(nn.Module):
    """A window, as the pixel offsets of its samples from its centre."""

    across: Tensor
    down: Tensor

    def __init__(self, size: int | Sequence[int], step: float = 1.0) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        if height < 1 or width < 1:
            raise ValueError(f"`size` must be positive, got {height} x {width}")
        if step <= 0:
            raise ValueError(f"`step` must be positive, got {step}")
        self.size, self.step = (height, width), step
        # Each has zeros for the other axis, so that the size of the image only enters as two scalars.
        offsets = torch.zeros(2, 1, height, width, 2)
        offsets[0, ..., 0] = (torch.arange(width) - (width - 1) / 2) * step
        offsets[1, ..., 1] = ((torch.arange(height) - (height - 1) / 2) * step)[:, None]
        self.register_buffer("across", offsets[0].clone(), persistent=False)
        self.register_buffer("down", offsets[1].clone(), persistent=False)

    def crop(self, image: Tensor, at: Tensor) -> Tensor:
        """The window of `image` [B, C, H, W] centred at `at` [B, 2]: [B, C, h, w]."""
        if at.shape[-1] != 2:
            raise ValueError(f"`at` must have 2 coordinates per row, got {at.shape[-1]}")
        if image.dim() != 4:
            raise ValueError(f"`image` must be [batch, channels, height, width], got {image.dim()} dimensions")
        height, width = image.shape[-2:]
        if height < 2 or width < 2:
            raise ValueError(f"`image` must have at least 2 x 2 pixels, got {height} x {width}")
        offsets = self.across * (2 / (width - 1)) + self.down * (2 / (height - 1))
        return sample(image, at[:, None, None, :] + offsets)

    def extra_repr(self) -> str:
        return f"{list(self.size)}, step={self.step:g}"


class Glimpse(_Window):
    """A patch of an image at a location: `size` samples ([h, w], or one number for both), `step` pixels apart."""

    def forward(self, image: Tensor, at: Tensor) -> Tensor:
        """The patch of `image` [B, C, H, W] around `at` [B, 2] in [-1, 1]: [B, C, h, w]."""
        return self.crop(image, at)


class View(_Window):
    """`Glimpse` with the location as the stream: the part of `image` that a nested reader gets."""

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__(size)

    def forward(self, at: Tensor, image: Tensor) -> Tensor:
        """The part of `image` [B, C, H, W] around `at` [B, 2] in [-1, 1]: [B, C, h, w]."""
        return self.crop(image, at)
