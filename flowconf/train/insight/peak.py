"""How many operations a second a device reaches at best: in a product of two large matrices."""

from __future__ import annotations

import time

import torch

from flowconf.train.precision import Precision

SIZES = {"cuda": 4096, "cpu": 512}
OTHER = 1024
TRIES = 5


def peak(precision: Precision) -> float:
    """Floating-point operations a second of the fastest of some products, in the number format of a run."""
    device = precision.device
    size = SIZES.get(device.type, OTHER)
    one = torch.ones(size, size, device=device)
    best = float("inf")
    with torch.no_grad(), precision.forward():
        for _ in range(1 + TRIES):
            began = time.perf_counter()
            torch.mm(one, one)
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best
