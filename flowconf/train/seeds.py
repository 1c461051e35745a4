"""One seed for every random number generator."""

from __future__ import annotations

import random
import sys
from contextlib import AbstractContextManager

import torch


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy (if imported) and torch, on every device."""
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def undisturbed(device: torch.device) -> AbstractContextManager[None]:
    """A block that restores torch's random state at its end."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
