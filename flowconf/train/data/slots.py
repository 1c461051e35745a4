"""Memory in which workers hand over their batches.

torch makes a file in shared memory for each tensor of each batch, and sends it through a socket, which takes longer
than making 64 images of 32 x 32. This memory is mapped once, before the workers are forked, and used again by later
batches. They are copied from it, which pays for tensors of up to 32 MB.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowconf.train.data.collate import LARGEST, Batch, Field

ALIGNMENT = 64
"""Bytes. Each tensor begins at a multiple of this."""


class Held(NamedTuple):
    """Where a tensor is, and what it is."""

    slot: int
    begin: int
    end: int
    dtype: torch.dtype
    shape: torch.Size


class Slots:
    """A ring of `count` slots, each for a batch of `rows` rows with these fields.

    Batch number `n` is in the slot of batch `n - count`. So at most `count - 1` batches may be made in advance, and a
    batch is to be taken before the next one is requested. What does not fit into its slot, is larger than `LARGEST`, is
    not contiguous, or is made by a process that was not forked is left to torch.
    """

    def __init__(self, count: int, rows: int, fields: Mapping[str, Field]) -> None:
        sizes = [rows * math.prod(shape) * dtype.itemsize for shape, dtype in fields.values()]
        forks = multiprocessing.get_start_method() == "fork"
        size = sum(_aligned(size) for size in sizes if 0 <= size <= LARGEST) if forks else 0
        memory = mmap.mmap(-1, count * size or 1)
        self._slots = [torch.frombuffer(memory, dtype=torch.uint8)[i * size : (i + 1) * size] for i in range(count)]

    def put(self, number: int, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Copy the tensors of batch `number` into its slot. Returns what is to be sent instead of the batch."""
        slot, end, sent = number % len(self._slots), 0, {}
        for name, tensor in batch.items():
            begin = _aligned(end)
            if _is_put(tensor) and begin + tensor.nbytes <= len(self._slots[slot]):
                end = begin + tensor.nbytes
                sent[name] = Held(slot, begin, end, tensor.dtype, tensor.shape)
                self._in_slot(sent[name]).copy_(tensor)
            else:
                sent[name] = tensor
        return sent

    def take(self, sent: Mapping[str, Any], copied: Callable[[Tensor], Tensor] = torch.clone) -> Batch:
        """The batch that was sent, with `copied` tensors."""
        return {name: copied(self._in_slot(one)) if isinstance(one, Held) else one for name, one in sent.items()}

    def _in_slot(self, held: Held) -> Tensor:
        return self._slots[held.slot][held.begin : held.end].view(held.dtype).view(held.shape)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _is_put(value: Any) -> bool:
    """Whether a value is a tensor that its bytes, type and shape describe, and not a large one."""
    return (
        type(value) is Tensor
        and value.device.type == "cpu"
        and value.layout is torch.strided
        and not (value.is_nested or value.is_quantized)
        and value.nbytes <= LARGEST
        and value.is_contiguous()
    )
