"""Boxes in pixels of an image: scaled with it, and augmented with it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
"""The numbers of a box: two corners, the first corner or the centre with width and height."""


def scaled_boxes(boxes: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Boxes [..., 4] of an image of one size (height, width) after it is resized to another one."""
    y, x = after[0] / before[0], after[1] / before[1]
    return boxes * torch.tensor([x, y, x, y])


def have_area(boxes: Tensor, form: BoxFormat) -> Tensor:
    """Which boxes [..., 4] have an area: boolean [...]."""
    sizes = boxes[..., 2:] - boxes[..., :2] if form == "xyxy" else boxes[..., 2:]
    return (sizes > 0).all(-1)
