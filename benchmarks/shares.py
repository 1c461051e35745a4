"""What `trainer.shares` is worth with unequal devices: two processes, of which the second is three times as slow.

    python benchmarks/shares.py [--steps 120] [--out FOLDER]

A row of a batch takes 1 ms in the first process and 3 ms in the second one: a module waits for that time, so that
other work on the machine disturbs little. Steps are timed on the clock, in the second half of a run, when `auto` has
measured. The weights at the end are compared with those of one process that trains on whole batches.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file
from table import Table
from torch import Tensor

SLOWED = '''
import os
import time

import flowconf
from torch import nn


@flowconf.register
class Slowed(nn.Module):
    """Takes `seconds` for each row, and in the second process three times as long. Rank 0 notes when it is called."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        rank = os.environ.get("RANK", "0")
        if rank == "0":
            with open("times.txt", "a") as file:
                print(time.perf_counter(), file=file)
        time.sleep(len(x) * self.seconds * (1 if rank == "0" else 3))
        return x
'''
CONFIG = """
model:
  inputs: {image: [B, 32]}
  flow: {slowed: Slowed(0.001), hidden: 'Linear(32, 64) >> Tanh', logits: 'Linear(64, 10)'}
data: {name: synthetic, rows: 640, shape: [32], validation: 0, test: 0, batch_size: 32}
loss: {label: {fn: cross_entropy, input: logits, target: label}}
optimizer: {name: sgd, lr: 0.1}
trainer: {devices: 2, threads: 1, report: false}
"""
RUNS = {
    "one process, not slowed": ["trainer.devices=cpu"],
    "equal": [],
    "`[3, 1]`": ["trainer.shares=[3, 1]"],
    "`auto`": ["trainer.shares=auto"],
}


def run(folder: Path, name: str, words: list[str], steps: int) -> tuple[float, dict[str, Tensor]]:
    """The seconds of a step, and the weights at the end."""
    times = folder / "times.txt"
    times.unlink(missing_ok=True)
    runs = f"runs{list(RUNS).index(name)}"
    command = [sys.executable, "-m", "flowconf", "train", "c.yaml", f"trainer.steps={steps}", f"trainer.runs={runs}"]
    subprocess.run([*command, *words], check=True, cwd=folder, capture_output=True)
    called = [float(line) for line in times.read_text(encoding="ascii").splitlines()][-(steps // 2) :]
    (file,) = (folder / runs).glob("*/*/checkpoints/last.safetensors")
    weights = {key: value for key, value in load_file(file).items() if key.startswith(("hidden", "logits"))}
    return statistics.median(after - before for before, after in itertools.pairwise(called)), weights


def main() -> None:
    parser = argparse.ArgumentParser(description="what unequal shares are worth")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--out", type=Path, help="the folder for `shares.json`")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    about = (
        "Two processes, of which the second is three times as slow: a row of a batch of 32 takes 1 ms in the first "
        "one, and 3 ms in the second one. Milliseconds on the clock, the median of the second half of "
        f"{options.steps} steps. The weights at the end are those of one process that trains on whole batches, up to "
        "the order of sums: the greatest difference of any of them."
    )
    columns = ["`trainer.shares`", "ms a step", "time to equal shares", "greatest difference of a weight"]
    table = Table("shares", "Unequal devices", about, columns)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "slowed.py").write_text(SLOWED, encoding="utf-8")
        (folder / "c.yaml").write_text(CONFIG, encoding="utf-8")
        (folder / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["slowed"]\n', encoding="utf-8")
        found = {name: run(folder, name, words, options.steps) for name, words in RUNS.items()}
    (_, whole), (equal, _) = found["one process, not slowed"], found["equal"]
    for name, (took, weights) in found.items():
        off = max(float((weights[key] - whole[key]).abs().max()) for key in whole)
        table.add(name, f"{1e3 * took:.1f}", f"{took / equal:.2f}", f"{off:.0e}" if off else "0")
    table.save(options.out)


if __name__ == "__main__":
    main()
