"""What a save costs the step that it comes after, and the steps that follow while it is written.

    python benchmarks/checkpoints.py [--rounds 5] [--width 8192] [--device cuda] [--out FOLDER]

A network of 67 million parameters with the moments of Adam is saved again and again by the training loop: 806 MB. A
line shows the medians of all rounds. `waits` is the time of the step that saves, `durable` the time until the
checkpoint is on the disk, without training meanwhile; a save in the step itself would take as long. The steps are those
of the same network, before and during a save. Then the run is resumed, and one layer is loaded from the file alone. The
memory is the peak of the process above that before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import torch
from clock import now
from table import Table

from flowconf.api import load
from flowconf.train.job import Job
from flowconf.train.loop import one_step, restore, save
from flowconf.train.prepare import prepare
from flowconf.train.runs.best import Best
from flowconf.train.runs.folder import Run, create_run
from flowconf.train.runs.progress import Window
from flowconf.train.screen import Screen

CONFIG = """
model:
  inputs: {{image: [B, {inner}]}}
  flow:
    wide: Linear({inner}, {width})
    act: ReLU
    narrow: Linear({width}, {outer})
    logits: Linear({outer}, 10)
data: {{name: synthetic, shape: [{inner}], rows: 64, validation: 0, test: 0, classes: 10, batch_size: 8}}
loss:
  label: {{fn: cross_entropy, input: logits, target: label}}
optimizer: {{name: adamw, lr: 0.001}}
trainer: {{steps: 1000, devices: {device}, threads: 1, runs: {runs}}}
"""
MEGABYTES = 1e6


def resident() -> int:
    """The bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def watched() -> Iterator[Callable[[], int]]:
    """A block in which a thread looks at the memory; gives the peak so far."""
    peak, ends = [resident()], threading.Event()

    def watch() -> None:
        while not ends.wait(0.005):
            peak[0] = max(peak[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: peak[0]
    finally:
        ends.set()
        thread.join()


def prepared(folder: Path, width: int, device: torch.device) -> tuple[Job, Run]:
    """A network whose optimizer has made a step, and its run."""
    sizes = {"inner": width // 8, "width": width, "outer": width * 7 // 8}
    file = folder / "large.yaml"
    file.write_text(CONFIG.format(**sizes, device=device, runs=folder / "runs"), encoding="utf-8")
    config = load(str(file))
    job = prepare(config, folder / "runs")
    run = create_run(folder / "runs", config)
    run.open(tensorboard=False)
    run.begin()
    return job, run


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """The time of a call: on the clock, and of the CPU of this process."""
    began, used = time.perf_counter(), now(torch.device("cpu"))
    call()
    return time.perf_counter() - began, now(torch.device("cpu")) - used


def show(table: Table, name: str, found: list[tuple[float, float]], memory: float | None = None) -> None:
    times = (f"{statistics.median(taken):.2f}" for taken in zip(*found, strict=True))
    table.add(name, *times, "" if memory is None else f"{memory:,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="what a save costs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=8192)
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--out", type=Path, help="the folder for `checkpoints.json`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        job, run = prepared(Path(name), options.width, options.device)
        best, screen, rows = Best(job, run), Screen(StringIO()), next(job.sampler.rest_of_epoch())
        step = 0

        def train() -> None:
            nonlocal step
            one_step(job, rows, step)
            step += 1

        def saves() -> None:
            save(job, run, screen, step, best, Window())

        def durably() -> None:
            saves()
            run.wait()

        train()
        alone = [seconds(train) for _ in range(options.rounds)]
        before = resident()
        waited, beside = [], []
        with watched() as peak:
            durable = [seconds(durably) for _ in range(options.rounds)]
            for _ in range(options.rounds):
                waited.append(seconds(saves))
                beside.append(seconds(train))
                run.wait()
            more = (peak() - before) / MEGABYTES
        file = run.checkpoints / "last.safetensors"
        size = file.stat().st_size / MEGABYTES
        layer = sum(one.numel() * one.element_size() for one in job.graph.module_at("wide").parameters()) / MEGABYTES

        def resumes() -> None:
            restore(job, run, screen, Best(job, run), Window())

        def loads() -> None:
            job.graph.load(file, at="wide", source_at="wide", unused="ignore")

        back, part, extra = [], [], []
        for found, call in ((part, loads), (back, resumes)):
            before = resident()
            with watched() as peak:
                found += [seconds(call) for _ in range(options.rounds)]
                extra.append((peak() - before) / MEGABYTES)
        run.end("finished")
    about = (
        f"A network with the moments of Adam, whose checkpoint has {size:,.0f} MB, saved again and again by the "
        "training loop. Seconds on the clock and of the CPU, the medians of all rounds, and the most memory beside "
        "what the process had before, in MB. A resume replaces state that the process already has."
    )
    table = Table("checkpoints", "Checkpoints", about, ["what", "seconds", "of the CPU", "MB of memory"])
    show(table, "the step that saves waits", waited, more)
    show(table, "until the checkpoint is on the disk", durable)
    show(table, "a step alone", alone)
    show(table, "a step beside a save", beside)
    show(table, "resuming the run", back, extra[1])
    show(table, f"loading one layer of {layer:,.0f} MB from it", part, extra[0])
    table.save(options.out)


if __name__ == "__main__":
    main()
