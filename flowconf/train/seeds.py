"""One seed for every random number generator."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy (if imported) and torch, on every device."""
    seed_cpu(seed)
    torch.manual_seed(seed)


def seed_cpu(seed: int) -> None:
    """Seed the generators of Python, NumPy (if imported) and torch on the CPU."""
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch on the CPU and on a device. `torch.manual_seed` notes the seed for every other kind of device too."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


def undisturbed(device: torch.device) -> AbstractContextManager[None]:
    """A block that restores torch's random state at its end."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextmanager
def all_undisturbed(device: torch.device) -> Iterator[None]:
    """A block that restores the random state of torch, Python and NumPy at its end."""
    numpy = sys.modules.get("numpy")
    python, numbers = random.getstate(), None if numpy is None else numpy.random.get_state()
    try:
        with undisturbed(device):
            yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(numbers)


def seed_for(seed: int, *parts: object) -> int:
    """A separate seed for each use (63 bits), the same on every machine."""
    text = repr((seed, *parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
