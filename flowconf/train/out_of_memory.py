"""RecurrentState that is missing before the first step: for what, how much of it that is, and what takes less."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from flowconf.report import bytes_in_words

OUT_OF_MEMORY = ("not enough memory", "out of memory", "can't allocate memory", "Invalid buffer size", "bad_alloc")
"""What torch says on devices that have no exception of their own for it."""


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether an exception says that memory is missing."""
    known = isinstance(problem, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(problem, RuntimeError) and any(sign in str(problem) for sign in OUT_OF_MEMORY))


@contextmanager
def room_for(what: str, tensors: Collection[Tensor], device: torch.device, advice: str) -> Iterator[None]:
    """A block that puts `tensors` on `device`; an exception that says there is no room for them gains a note."""
    try:
        yield
    except Exception as problem:  # whatever a device says when its memory is full
        if is_out_of_memory(problem):
            taken = f", {bytes_in_words(sum(tensor.nbytes for tensor in tensors))}" if tensors else ""
            there = f", which has {bytes_in_words(torch.cuda.mem_get_info(device)[1])}" if device.type == "cuda" else ""
            problem.add_note(f"memory is what is missing for {what}{taken}, on `{device}`{there}: {advice}")
        raise
