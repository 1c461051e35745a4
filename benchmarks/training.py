"""What the training loop costs: against a hand-written loop with the same resident data and the same fused optimizer.

    python benchmarks/training.py [--rounds 9] [--default]

Both loops train the same model on the same rows in the same order, on one thread, in turns; a row shows the medians and
the median of the ratios of each round. A step's time is the difference between a long and a short run, so that what
happens once (the first step, the last checkpoint) is left out. `--default` adds an evaluation each epoch, with its
checkpoints, as `flowconf train` does without being told otherwise. `--start` measures the time to the first step.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import StringIO
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from flowconf.api import load
from flowconf.language.config import Config
from flowconf.train.data import epoch_order
from flowconf.train.job import prepare
from flowconf.train.loop import fit
from flowconf.train.runs import create_run
from flowconf.train.screen import Screen

MODELS = {
    "tiny": ([32, 64, 10], 32, 1500, 300),
    "medium": ([784, 512, 512, 10], 256, 90, 30),
}
"""Name -> (widths, batch size, steps of a long and of a short run)."""

CONFIG = """
model:
  inputs: {{image: [B, {first}]}}
  flow:
{flow}
data: {{name: synthetic, shape: [{first}], rows: {rows}, validation: {held}, test: {held}, batch_size: {batch}}}
loss:
  label: {{fn: cross_entropy, input: logits, target: label}}
metrics:
  accuracy: {{fn: accuracy, input: logits, target: label}}
optimizer: {{name: adamw, lr: 0.001}}
trainer: {{steps: {steps}, runs: {runs}, devices: cpu, threads: 1, checkpoint_every: {saves}}}
"""


def config_of(name: str, folder: Path, default: bool, steps: int) -> Config:
    """The config of one model; by default nothing is evaluated."""
    widths, batch, _, _ = MODELS[name]
    calls = []
    for number, (before, after) in enumerate(pairwise(widths)):
        last = number == len(widths) - 2
        calls.append(f"    {'logits' if last else f'layer{number}'}: Linear({before}, {after})")
        if not last:
            calls.append(f"    act{number}: ReLU")
    held = 0.1 if default else 0.0
    text = CONFIG.format(
        first=widths[0],
        flow="\n".join(calls),
        rows=100 * batch,
        batch=batch,
        held=held,
        steps=steps,
        saves=0 if default else steps,
        runs=folder / "runs",
    )
    file = folder / f"{name}.yaml"
    file.write_text(text, encoding="utf-8")
    return load(str(file))


def ours(config: Config, folder: Path) -> float:
    """Seconds for a whole run of the loop."""
    job = prepare(config, folder / "runs")
    run = create_run(folder / "runs", folder / "bench.yaml", [], 0, {}, {})
    run.open(tensorboard=True)
    screen = Screen(StringIO())
    began = time.process_time()
    fit(job, run, screen)
    seconds = time.process_time() - began
    run.end("finished")
    return seconds


def by_hand(config: Config, name: str, folder: Path, default: bool) -> float:
    """Seconds for as many steps of a plain loop."""
    widths, batch_size, _, _ = MODELS[name]
    job = prepare(config, folder / "runs")
    tensors = job.train.split.tensors  # type: ignore[attr-defined]
    image, label = tensors["image"], tensors["label"]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    total, step, epoch = job.total_steps, 0, 0
    began = time.process_time()
    while step < total:
        for rows in epoch_order(len(image), 0, epoch).split(batch_size):
            loss = F.cross_entropy(model(image.index_select(0, rows)), label.index_select(0, rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step == total:
                break
        epoch += 1
    return time.process_time() - began


def per_step(run: Callable[[int], float], long: int, short: int) -> float:
    """Seconds a step, what happens once left out."""
    return (run(long) - run(short)) / (long - short)


def compare(name: str, rounds: int, default: bool, folder: Path) -> None:
    """One row of the table."""
    _, _, long, short = MODELS[name]
    configs = {steps: config_of(name, folder, default, steps) for steps in (long, short)}
    mine, theirs, ratios = [], [], []
    for number in range(rounds):
        pair = [
            lambda steps: ours(configs[steps], folder),
            lambda steps: by_hand(configs[steps], name, folder, default),
        ]
        order = (0, 1) if number % 2 else (1, 0)
        took = {which: per_step(pair[which], long, short) for which in order}
        mine.append(took[0])
        theirs.append(took[1])
        ratios.append(took[0] / took[1])
    print(
        f"{name:8} {'default' if default else 'stripped':9} {1e6 * statistics.median(mine):9.0f} us"
        f" {1e6 * statistics.median(theirs):9.0f} us {statistics.median(ratios):6.3f}"
    )


BARE = """
import torch
from torch import nn
import torch.nn.functional as F
torch.set_num_threads(1); torch.manual_seed(0)
image, label = torch.randn(3200, 32), torch.randint(10, (3200,))
model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
rows = torch.randperm(3200)[:32]
F.cross_entropy(model(image[rows]), label[rows]).backward()
optimizer.step()
"""


def start_up(rounds: int, folder: Path) -> None:
    """The time from nothing to the end of the first step, in a new process, against bare torch."""
    config_of("tiny", folder, False, 1)
    call = f"from flowconf.cli.main import main; import sys; sys.exit(main(['train', {str(folder / 'tiny.yaml')!r}]))"
    took: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        for name, code in (("ours", call), ("bare", BARE)):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
            took[name].append(time.perf_counter() - began)
    ratios = [mine / theirs for mine, theirs in zip(took["ours"], took["bare"], strict=True)]
    mine, theirs = (statistics.median(took[name]) for name in ("ours", "bare"))
    print(f"{'start-up':8} {'one step':9} {mine:9.2f} s  {theirs:9.2f} s  {statistics.median(ratios):6.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="what the training loop costs")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--default", action="store_true", help="with evaluations and checkpoints")
    parser.add_argument("--start", action="store_true", help="the time to the first step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':18} {'flowconf':>12} {'by hand':>12} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        if options.start:
            start_up(options.rounds, Path(folder))
            return
        for name in MODELS:
            compare(name, options.rounds, options.default, Path(folder))


if __name__ == "__main__":
    main()
