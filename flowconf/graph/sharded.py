"""Tensors of which several processes hold a part each, beside plain ones; the code around them treats both alike."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Where processes hold parts of it, all of them have to ask, and each gets a copy."""
    together: Any = getattr(tensor, "full_tensor", None)
    if together is None:
        return tensor
    found: Tensor = together()
    return found


def held(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, without its history: the same numbers in the same place."""
    own: Any = tensor.detach()
    part: Tensor = own.to_local() if hasattr(own, "to_local") else own
    return part


def like(target: Tensor, source: Tensor) -> Tensor:
    """`source` as `target` is held: this process's part of it when `target` is such a part, else all of it."""
    if not hasattr(target, "full_tensor") or hasattr(source, "full_tensor"):
        return source
    from torch.distributed.tensor import distribute_tensor

    held: Any = target
    return distribute_tensor(source.to(target.device), held.device_mesh, held.placements, src_data_rank=None)
