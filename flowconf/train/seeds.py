"""One seed for every random number generator."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


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


def generators(device: torch.device) -> dict[str, torch.Generator]:
    """torch's generators that a run on a device draws from, by the kind of device."""
    found = {"cpu": torch.default_generator}
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        found["cuda"] = torch.cuda.default_generators[device.index or 0]
    elif device.type == "mps":
        found["mps"] = torch.mps._get_default_mps_generator()
    return found


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch on the CPU and on a device. `torch.manual_seed` notes the seed for every other kind of device too."""
    for generator in generators(device).values():
        generator.manual_seed(seed)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """A block that restores torch's random state at its end."""
    before = [(generator, generator.get_state()) for generator in generators(device).values()]
    try:
        yield
    finally:
        for generator, state in before:
            generator.set_state(state)


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


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of every generator that a run on a device draws from: torch's, Python's, and NumPy's (if imported)."""
    found = {kind: generator.get_state() for kind, generator in generators(device).items()}
    _, numbers, gauss = random.getstate()
    found["python"] = torch.tensor(numbers)
    found["python_gauss"] = torch.tensor([] if gauss is None else [gauss], dtype=torch.float64)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        _, key, *rest = numpy.random.get_state()
        found["numpy"] = torch.tensor(key.tolist())
        found["numpy_rest"] = torch.tensor(rest, dtype=torch.float64)
    return found


def restore_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore `random_state`. A device of another kind than the one before keeps its own state."""
    for kind, generator in generators(device).items():
        if kind in state or kind == "cpu":
            generator.set_state(state[kind])
    gauss = next(iter(state["python_gauss"].tolist()), None)
    random.setstate((random.Random.VERSION, tuple(state["python"].tolist()), gauss))
    if "numpy" in state:
        import numpy

        position, has_gauss, cached = state["numpy_rest"].tolist()
        key = numpy.array(state["numpy"].tolist(), dtype=numpy.uint32)
        numpy.random.set_state(("MT19937", key, int(position), int(has_gauss), cached))


def seed_for(seed: int, *parts: object) -> int:
    """A separate seed for each use (63 bits), the same on every machine."""
    text = repr((seed, *parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
