"""Numbers that change from step to step in tensors, where a step that is replayed reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def kept(before: Sequence[Tensor] | None, values: Sequence[float], device: torch.device) -> list[Tensor]:
    """The values in the tensors from before, or in new ones if there are none."""
    if before is None:
        return [torch.tensor(value, dtype=torch.float32, device=device) for value in values]  # as fused kernels require
    return [tensor.fill_(value) for tensor, value in zip(before, values, strict=True)]


@torch.no_grad()
def move(moved: list[Tensor], towards: list[Tensor], share: float | Tensor) -> None:
    """Move tensors by a share of the way to others."""
    torch._foreach_lerp_(moved, towards, [share] * len(moved) if isinstance(share, Tensor) else share)
