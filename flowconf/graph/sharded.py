"""Helpers for tensors that are sharded over processes; plain tensors are returned unchanged."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """The full tensor. For a sharded one, all processes must call this, and each gets a copy."""
    together: Any = getattr(tensor, "full_tensor", None)
    if together is None:
        return tensor
    found: Tensor = together()
    return found


def held(tensor: Tensor) -> Tensor:
    """The local shard of a tensor, detached; it shares memory with the tensor."""
    own: Any = tensor.detach()
    part: Tensor = own.to_local() if hasattr(own, "to_local") else own
    return part


def like(target: Tensor, source: Tensor) -> Tensor:
    """`source` with the sharding of `target`, or unchanged if `target` is not sharded."""
    if not hasattr(target, "full_tensor") or hasattr(source, "full_tensor"):
        return source
    from torch.distributed.tensor import distribute_tensor

    held: Any = target
    return distribute_tensor(source.to(target.device), held.device_mesh, held.placements, src_data_rank=None)
