"""Out of memory before the first step: what was allocated, how much it needs, and how to reduce it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from flowconf.report import Diagnostic, MachineError, bytes_in_words

OUT_OF_MEMORY = ("not enough memory", "out of memory", "can't allocate memory", "Invalid buffer size", "bad_alloc")
"""Messages of torch on devices without a separate exception for it."""


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether an exception means out of memory."""
    known = isinstance(problem, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(problem, RuntimeError) and any(sign in str(problem) for sign in OUT_OF_MEMORY))


@contextmanager
def room_for(what: str, tensors: Collection[Tensor], device: torch.device, advice: str) -> Iterator[None]:
    """A block that moves `tensors` to `device`. Raises `MachineError` if it is out of memory."""
    try:
        yield
    except Exception as problem:  # devices raise different types when out of memory
        if is_out_of_memory(problem):
            taken = f", {bytes_in_words(sum(tensor.nbytes for tensor in tensors))}" if tensors else ""
            there = f", which has {bytes_in_words(torch.cuda.mem_get_info(device)[1])}" if device.type == "cuda" else ""
            message = f"out of memory for {what}{taken}, on `{device}`{there}"
            raise MachineError(Diagnostic("FC0601", message, advice=advice)) from problem
        raise
