"""One seed for every library that draws random numbers."""

from __future__ import annotations

import random
import sys
from contextlib import AbstractContextManager

import torch


def seed_everything(seed: int) -> None:
    """Start Python's, NumPy's (when it is in use) and torch's generators, on every device, from `seed`."""
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def undisturbed(device: torch.device) -> AbstractContextManager[None]:
    """A block after which torch's random numbers go on as if it had not run."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
