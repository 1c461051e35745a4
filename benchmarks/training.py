"""What the training loop costs: against a hand-written loop with the same resident data and the same fused optimizer.

    python benchmarks/training.py [--rounds 7] [--device cuda]

Both loops train the same model from the same weights on the same rows in the same order, on one thread, in turns. That
they do is looked at first: every loss has to be the same to the bit. A row shows the medians of all rounds and the
median of their ratios, in the time of `clock.py`. A step's time is the difference between a long and a short run, so
that what happens once (the first step, the last checkpoint) is left out.

`stripped` only trains. `default` is `flowconf train` as it comes: an evaluation each epoch with its checkpoints, logs
and TensorBoard; the loop by hand still only trains. `start` is a new process from nothing to the end of its first step.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from io import StringIO
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from clock import now
from torch import Tensor, nn

from flowconf.api import load
from flowconf.language.config import Config
from flowconf.train.data.sampling import epoch_order
from flowconf.train.loop import fit
from flowconf.train.prepare import prepare
from flowconf.train.runs.folder import LINES, create_run
from flowconf.train.screen import Screen

MODELS = {
    "tiny": ([32, 64, 10], 32, 900, 100),
    "medium": ([784, 512, 512, 10], 256, 100, 20),
    "large": ([784, 8192, 8192, 10], 8192, 100, 20),
}
"""Name -> (widths, batch size, steps of a long and of a short run). The large one is for a device."""

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
trainer: {{steps: {steps}, runs: {runs}, devices: {device}, threads: 1, checkpoint_every: {saves}, log_every: {logs}}}
"""


def config_of(name: str, folder: Path, default: bool, steps: int, device: torch.device, logs: int = 50) -> Config:
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
        logs=logs,
        device=device,
        runs=folder / "runs",
    )
    file = folder / f"{name}.yaml"
    file.write_text(text, encoding="utf-8")
    return load(str(file))


def ours(config: Config, folder: Path) -> tuple[float, list[float]]:
    """Seconds of the loop, and the losses in its log."""
    job = prepare(config, folder / "runs")
    run = create_run(folder / "runs", folder / "bench.yaml", [], 0, {}, {})
    run.open(tensorboard=True)
    screen = Screen(StringIO())
    began = now(job.device)
    fit(job, run, screen)
    seconds = now(job.device) - began
    run.end("finished")
    lines = [json.loads(line) for line in (run.folder / LINES).read_text(encoding="utf-8").splitlines()]
    return seconds, [line["train/loss"] for line in lines if "train/loss" in line]


def by_hand(config: Config, folder: Path) -> tuple[float, list[Tensor]]:
    """Seconds of a plain loop over the same model, rows and steps, and its losses."""
    job = prepare(config, folder / "runs")
    tensors = job.train.split.tensors  # type: ignore[attr-defined]
    image, label = tensors["image"], tensors["label"]
    model = nn.Sequential(*job.graph.children())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    total, step, epoch, losses = job.total_steps, 0, 0, []
    began = now(job.device)
    while step < total:
        for rows in epoch_order(len(image), 0, epoch).to(job.device).split(config.training.data.batch_size):
            loss = F.cross_entropy(model(image.index_select(0, rows)), label.index_select(0, rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            step += 1
            if step == total:
                break
        epoch += 1
    return now(job.device) - began, losses


def check_losses(name: str, folder: Path, device: torch.device) -> None:
    """Raise `SystemExit` unless both loops give the same losses."""
    config = config_of(name, folder, False, 150, device, logs=1)
    _, mine = ours(config, folder)
    _, theirs = by_hand(config, folder)
    if mine != [float(loss) for loss in theirs]:
        raise SystemExit(f"{name}: the two loops do not give the same losses")


def compare(name: str, rounds: int, default: bool, folder: Path, device: torch.device) -> None:
    """One row of the table."""
    _, _, long, short = MODELS[name]
    configs = {steps: config_of(name, folder, default, steps, device) for steps in (long, short)}
    loops = {"ours": ours, "by hand": by_hand}
    took: dict[str, list[float]] = {which: [] for which in loops}
    for number in range(rounds):
        for which in list(loops)[:: 1 if number % 2 else -1]:
            seconds = {steps: loops[which](config, folder)[0] for steps, config in configs.items()}
            took[which].append((seconds[long] - seconds[short]) / (long - short))
    row(name, "default" if default else "stripped", *took.values(), unit="us", scale=1e6)


BARE = """
import torch
from torch import nn
import torch.nn.functional as F
torch.set_num_threads(1); torch.manual_seed(0)
image, label = torch.randn(3200, 32).to("{device}"), torch.randint(10, (3200,)).to("{device}")
model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)).to("{device}")
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
rows = torch.randperm(3200)[:32].to("{device}")
F.cross_entropy(model(image[rows]), label[rows]).backward()
optimizer.step()
"""


def start_up(rounds: int, folder: Path, device: torch.device) -> None:
    """A new process from nothing to the end of its first step, against bare torch."""
    config_of("tiny", folder, False, 1, device)
    train = f"from flowconf.cli.main import main; import sys; sys.exit(main(['train', {str(folder / 'tiny.yaml')!r}]))"
    took: dict[str, list[float]] = {train: [], BARE.format(device=device): []}
    for _ in range(rounds):
        for code, seconds in took.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    row("start", "one step", *took.values(), unit="s ", scale=1)


def row(name: str, kind: str, mine: list[float], theirs: list[float], *, unit: str, scale: float) -> None:
    ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
    ours_, hand = (f"{scale * statistics.median(times):10.5g} {unit}" for times in (mine, theirs))
    print(f"{name:8} {kind:9} {ours_} {hand} {ratio:7.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="what the training loop costs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", type=torch.device, default="cpu")
    options = parser.parse_args()
    device = options.device
    torch.set_num_threads(1)
    models = [model for model in MODELS if model != "large" or device.type == "cuda"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in models:
            check_losses(model, folder, device)
        print(f"{'the losses are the same':18} {'flowconf':>8} {'by hand':>13} {'ratio':>7}")
        for default in (False, True):
            for model in models:
                compare(model, options.rounds, default, folder, device)
        start_up(options.rounds, folder, device)


if __name__ == "__main__":
    main()
