"""The resources of a run: time, processor, and memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import torch

RESOURCES = "resources.jsonl"
"""The resources of a run over its steps, in a separate log: unlike everything else, they differ from run to run."""
PAGES = Path("/proc/self/statm")
HAS_PAGES = PAGES.is_file()
KILO = 1 if sys.platform == "darwin" else 1024
"""The unit in which the system gives the memory of a process."""


class ResourceMeter:
    """Measures a run from now on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._began = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began[0]

    def read(self, steps: int, batch: int) -> dict[str, float]:
        """What `steps` steps of `batch` rows took: speeds, processors in use, and the most memory in bytes so far."""
        seconds = max(self.seconds, 1e-9)
        found = {
            "seconds": float(f"{seconds:.4g}"),
            "steps_per_second": float(f"{steps / seconds:.4g}"),
            "rows_per_second": float(f"{steps * batch / seconds:.4g}"),
            "processors": round((time.process_time() - self._began[1]) / seconds, 2),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILO,
        }
        if self.device.type == "cuda":
            found["device_memory"] = torch.cuda.max_memory_allocated(self.device)
        return found


def memory_in_use() -> int:
    """The bytes of the memory of this process; where the system does not tell them, the most so far."""
    if HAS_PAGES:
        return int(PAGES.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILO
