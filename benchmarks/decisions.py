"""The measurements behind decisions of the design (`docs/design.md`): what was chosen against what was not.

    python benchmarks/decisions.py [--only NAME]

One thread, CPU time, medians; start-up is in wall time, of new processes. Each takes some seconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from clock import now
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, optim
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

import flowconf
from flowconf.train.optim.optimizers import adamw

CPU = torch.device("cpu")
Row = tuple[str, float, str, float]
"""What was chosen, its number, what was not, and its number."""


def median_seconds(run: Callable[[], object], times: int = 7) -> float:
    """The median CPU time of a call, after one that does not count."""
    run()
    found = []
    for _ in range(times):
        began = now(CPU)
        run()
        found.append(now(CPU) - began)
    return statistics.median(found)


class Peak(TorchDispatchMode):
    """The most bytes that results of operations hold at once within the block."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.live += found.nbytes
            self.most = max(self.most, self.live)
            weakref.finalize(found, self.freed, found.nbytes)
        return found

    def freed(self, size: int) -> None:
        self.live -= size


def megabytes(run: Callable[[], object]) -> float:
    """The peak of a call without gradients."""
    with torch.no_grad(), Peak() as peak:
        run()
    return peak.most / 2**20


def intermediates() -> Iterator[Row]:
    """MiB: 24 steps on a tensor of 4 MiB, in generated source and in an interpreter that looks values up by name."""
    graph = flowconf.build({"inputs": {"x": ["B", 1024]}, "flow": {f"step{number}": "Tanh" for number in range(24)}})
    x = torch.rand(1024, 1024)

    def interpreted() -> Tensor:
        values = {"": x}
        for name, module in graph.named_children():
            values[name] = module(list(values.values())[-1])
        return values[name]

    yield "generated source", megabytes(lambda: graph(x)), "interpreter", megabytes(interpreted)


def shapes() -> Iterator[Row]:
    """Seconds: the build of 1,000 layers with its shape check, and their constructors alone."""
    flow = {f"layer{number}": "Linear(8, 8)" for number in range(1000)}
    built = median_seconds(lambda: flowconf.build({"inputs": {"x": ["B", 8]}, "flow": flow}), 3)
    yield "checked build", built, "constructors", median_seconds(lambda: [nn.Linear(8, 8) for _ in range(1000)], 3)


def optimizers() -> Iterator[Row]:
    """Microseconds of a step: fused with tensors collected once, torch's fused, and torch's default on a CPU."""
    for width, layers in ((64, 12), (512, 12)):
        parameters = [nn.Parameter(torch.rand(width, width)) for _ in range(layers)]
        for parameter in parameters:
            parameter.grad = torch.rand_like(parameter)
        made = (adamw([{"params": parameters}]), optim.AdamW(parameters, fused=True), optim.AdamW(parameters))
        once, fused, default = (median_seconds(optimizer.step, 50) * 1e6 for optimizer in made)
        yield f"once, {layers} x {width} x {width}", once, "fused", fused
        yield f"fused, {layers} x {width} x {width}", fused, "default", default


def batches() -> Iterator[Row]:
    """Microseconds of a batch of 32 rows: gathered from tensors in memory, and through a DataLoader."""
    rows, labels = torch.rand(4096, 32), torch.randint(10, (4096,))

    def gathered() -> None:
        for part in torch.randperm(4096).split(32):
            rows.index_select(0, part), labels.index_select(0, part)

    def loaded() -> None:
        for _ in DataLoader(TensorDataset(rows, labels), 32, shuffle=True):
            pass

    scale = 1e6 / (4096 / 32)
    yield "gathered", median_seconds(gathered) * scale, "DataLoader", median_seconds(loaded, 3) * scale


def subtrees() -> Iterator[Row]:
    """Milliseconds: one tensor in a hundred out of a file of 200 MB, and the whole file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_file({f"layer{number}": torch.rand(512, 1024) for number in range(100)}, file)

        def part() -> Tensor:
            with safe_open(file, "pt") as opened:
                return opened.get_tensor("layer7").clone()

        def whole() -> list[Tensor]:
            return [tensor.clone() for tensor in load_file(file).values()]

        yield "by header", median_seconds(part) * 1e3, "whole", median_seconds(whole) * 1e3


def start() -> Iterator[Row]:
    """Seconds of a new process."""

    def took(*words: str) -> float:
        found = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            found.append(time.perf_counter() - began)
        return min(found)

    nothing, torch_alone = took("-c", ""), took("-c", "import torch")
    yield "flowconf --help", took("-m", "flowconf", "--help"), "bare Python", nothing
    digits = str(Path(__file__).parent.parent / "configs" / "digits.yaml")
    compose = f"from flowconf.language.config import load; load({digits!r})"
    yield "compose and plan", took("-c", compose), "import torch", torch_alone
    yield "flowconf check", took("-m", "flowconf", "check", digits), "import torch", torch_alone
    yield "import torch", torch_alone, "and torchmetrics", took("-c", "import torch, torchmetrics")


MEASUREMENTS = {part.__name__: part for part in (intermediates, shapes, optimizers, batches, subtrees, start)}


def main() -> None:
    parser = argparse.ArgumentParser(description="the measurements behind decisions of the design")
    parser.add_argument("--only", choices=MEASUREMENTS, help="one of them")
    wanted = parser.parse_args().only
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, part in MEASUREMENTS.items():
        if wanted in (None, name):
            print(f"\n{name}: {part.__doc__}")
            for chosen, number, other, its in part():
                print(f"  {chosen:28}{number:10,.3f}    {other:18}{its:10,.3f}    ratio {number / its:.3f}", flush=True)


if __name__ == "__main__":
    main()
