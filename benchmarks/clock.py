"""The time that the benchmarks are in."""

from __future__ import annotations

import time

import torch


def now(device: torch.device) -> float:
    """Seconds: of this process's CPU, which other work on the machine disturbs least; on a device, till all is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()
