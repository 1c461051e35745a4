"""`trainer.compile`: the modes of `torch.compile`, and the mode of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

DEFAULT = "default"
WITHOUT_CUDA_GRAPHS = {"reduce-overhead": DEFAULT, "max-autotune": "max-autotune-no-cudagraphs"}
"""The modes that use CUDA graphs, and the equivalent of each without them."""


def compiled(view: Callable[..., dict[str, Tensor]], mode: str, device: torch.device) -> Callable[..., Any]:
    """`view`, compiled at its first call; with CUDA graphs, once for each batch size."""
    replays = mode in WITHOUT_CUDA_GRAPHS and device.type == "cuda"
    found: Callable[..., Any] = torch.compile(view, mode=mode, dynamic=False if replays else None)
    return found


def mode_of(asked: bool | str, adds_up: bool) -> str:
    """The mode for `trainer.compile`.

    CUDA graphs reuse the same memory in each call, so they are disabled if values of one call are needed in the next:
    accumulated gradients, or recurrent state (`adds_up`).
    """
    mode = asked if isinstance(asked, str) else DEFAULT
    return WITHOUT_CUDA_GRAPHS.get(mode, mode) if adds_up else mode
