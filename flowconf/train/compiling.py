"""`trainer.compile`: the modes of torch's compiler, and which of them a run gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

DEFAULT = "default"
WITHOUT_CUDA_GRAPHS = {"reduce-overhead": DEFAULT, "max-autotune": "max-autotune-no-cudagraphs"}
"""The modes that replay CUDA graphs, and what each is without them."""


def compiled(view: Callable[..., dict[str, Tensor]], mode: str, device: torch.device) -> Callable[..., Any]:
    """`view`, compiled at its first call; where CUDA graphs are replayed, once for each size of batch."""
    replays = mode in WITHOUT_CUDA_GRAPHS and device.type == "cuda"
    found: Callable[..., Any] = torch.compile(view, mode=mode, dynamic=False if replays else None)
    return found


def mode_of(asked: bool | str, adds_up: bool) -> str:
    """The mode that `trainer.compile` stands for.

    CUDA graphs compute in the same memory each time, so that there are none where something of one call is still needed
    in the next: gradients that add up over the parts of a batch, or values that the graph keeps (`adds_up`).
    """
    mode = asked if isinstance(asked, str) else DEFAULT
    return WITHOUT_CUDA_GRAPHS.get(mode, mode) if adds_up else mode
