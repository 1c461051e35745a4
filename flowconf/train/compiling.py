"""`trainer.compile`: the modes of `torch.compile`, and the mode of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

DEFAULT = "default"
WITHOUT_CUDA_GRAPHS = {"reduce-overhead": DEFAULT, "max-autotune": "max-autotune-no-cudagraphs"}
"""The modes that use CUDA graphs, and the equivalent of each without them."""


def compiled(
    view: Callable[..., dict[str, Tensor]], mode: str, replayed: bool, device: torch.device
) -> Callable[..., Any]:
    """`view`, compiled at its first call; if CUDA graphs replay it, once for each batch size."""
    replays = replayed or (mode in WITHOUT_CUDA_GRAPHS and device.type == "cuda")
    found: Callable[..., Any] = torch.compile(view, mode=mode, dynamic=False if replays else None)
    return found


def mode_of(asked: bool | str, without_graphs: bool) -> str:
    """The mode for `trainer.compile`, if need be without torch's own CUDA graphs.

    They reuse the same memory in each call, so they are disabled if values of one call are needed in the next
    (accumulated gradients, or recurrent state), and where CUDA graphs of whole steps take their place.
    """
    mode = asked if isinstance(asked, str) else DEFAULT
    return WITHOUT_CUDA_GRAPHS.get(mode, mode) if without_graphs else mode
