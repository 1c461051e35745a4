"""What the training loop costs: flowconf's, and a script's as most would write it, against the tightest loop by hand.

    python benchmarks/training.py [--rounds 5] [--only NAME] [--flag WORD] [--device cuda] [--out FOLDER]

All train the same model from the same weights, on one thread, in turns; a row shows the median of the rounds' ratios.
Every loss of flowconf's loop is first compared with that of the tightest loop, and has to be the same to the bit.

Each step of an epoch is timed after a first epoch, and the lower quartile of the epochs is taken for each: what happens
in the same step of every epoch counts, such as an evaluation, and what another process disturbs does not. What other
threads take is added to it. On a device, where looking at the clock waits for it, whole epochs are timed.

`tightest` gathers resident rows, and uses a fused optimizer. `script` has a `DataLoader`, the optimizer as it comes,
and reads the loss in every step. Both only train, and so does `stripped`. `default` is `flowconf train` as it comes,
which evaluates after every epoch, saves a checkpoint and the best weights, logs for itself and for TensorBoard, and
writes its report.
`full` is the tightest loop with the same work, written plainly: an evaluation, `torch.save` of everything and of the
best weights, and a line of JSON. `--flag` is an override for one more column of `default`: `trainer.compile=true`, on a
device `trainer.compile=reduce-overhead`, if nothing else is given.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import by_hand
import by_hand_more
import torch
import torch.nn.functional as F
import yaml
from clock import now
from table import Table, ratio
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import flowconf
from flowconf.api import load
from flowconf.language.config import Config
from flowconf.train.checks import road
from flowconf.train.commands.train import train_checked
from flowconf.train.data.sampling import epoch_order
from flowconf.train.job import Job
from flowconf.train.prepare import prepare
from flowconf.train.runs.lock import LINES
from flowconf.train.screen import Screen

MODELS = Path(__file__).parent / "models"
BATCHES = 80
"""In an epoch."""
EPOCHS = 6
"""That are timed, after a first one."""


@dataclass(frozen=True)
class Case:
    """A model: its graph and its twin at some sizes, what it trains on, and the output that is trained."""

    name: str
    twin: Callable[..., nn.Module]
    batch: int
    params: dict[str, int] = field(default_factory=dict)
    output: str = "head"
    graph: str = ""
    """The file in `models/`, where the name is another."""
    itself: bool = False
    """Whether the target is the input."""
    classes: bool = False
    """Whether targets are indices, as the inputs are."""

    @property
    def document(self) -> dict[str, Any]:
        text = (MODELS / f"{self.graph or self.name}.yaml").read_text(encoding="utf-8")
        document: dict[str, Any] = yaml.safe_load(text)
        return {**document, "params": {**document.get("params", {}), **self.params}}


CASES = (
    Case("digits_mlp", by_hand_more.digits_mlp, 32, {"hidden": 64}, "logits"),
    Case("mlp", by_hand.Mlp, 16, {"width": 32, "hidden": 64}),
    Case("convnet", by_hand_more.convnet, 2, {"width": 4, "classes": 10}),
    Case("gru_seq", by_hand_more.GruSeq, 8, {"features": 16, "width": 32, "steps": 10}),
    Case("lstm_seq", by_hand_more.LstmSeq, 8, {"features": 16, "width": 32, "steps": 10}),
    Case(
        "transformer",
        by_hand_more.Transformer,
        4,
        {"vocabulary": 64, "length": 16, "width": 32, "heads": 4, "depth": 2},
        "logits",
        classes=True,
    ),
    Case("conv_autoenc", by_hand_more.conv_autoenc, 2, {"width": 4}, "image_again", itself=True),
    Case("residual_tower", by_hand.ResidualTower, 16, {"width": 32}),
    Case("gated_routing", by_hand.GatedRouting, 16, {"width": 32}),
    Case("iterative_refine", by_hand.IterativeRefine, 16, {"width": 32}),
    Case("feedback_fixed", by_hand.IterativeRefine, 16, {"width": 16, "times": 10}, graph="iterative_refine"),
    Case("mlp_wide", by_hand.Mlp, 64, {"width": 128, "hidden": 256}, graph="mlp"),
)


def drawn(
    *, given: str, shape: list[int], target: list[int], rows: int, held: int, classes: int = 0
) -> flowconf.Splits:
    """Rows drawn once: the field `given` of this shape, and a `target`; with `classes`, both are indices."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> flowconf.Resident | None:
        sizes = [(count, *shape), (count, *target)]
        if classes:
            made = [torch.randint(classes, size, generator=generator) for size in sizes]
        else:
            made = [torch.randn(size, generator=generator) for size in sizes]
        return flowconf.Resident(dict(zip((given, "target"), made, strict=True))) if count else None

    found = part(rows)
    assert found is not None
    return flowconf.Splits(found, part(held))


def config_of(case: Case, folder: Path, default: bool, steps: int, device: torch.device, words: list[str]) -> Config:
    """The config of a case; `stripped` evaluates and saves nothing before its end, and writes no report."""
    model = case.document
    ((name, given),) = model["inputs"].items()
    declared = given["shape"] if isinstance(given, dict) else given
    shape = [model["params"].get(size, size) for size in declared[1:]]
    rows = BATCHES * case.batch
    twin = case.twin(**case.params)(sample(shape, case))
    data = {
        "name": "drawn",
        "given": name,
        "shape": shape,
        "target": shape if case.itself or case.classes else [*twin.shape[1:]],
        "rows": rows,
        "held": rows // 10 if default else 0,
        "classes": model["params"]["vocabulary"] if case.classes else 0,
        "batch_size": case.batch,
    }
    loss: dict[str, object] = {"fn": "mse", "input": case.output, "target": name if case.itself else "target"}
    if case.classes:
        loss = {"fn": "cross_entropy", "input": case.output, "target": "target", "args": {"dim": -1}}
    trainer = {"steps": steps, "runs": str(folder / "runs"), "devices": str(device), "threads": 1}
    trainer |= {} if default else {"checkpoint_every": steps, "report": False, "tensorboard": False}
    sections = {"model": model, "data": data, "loss": {"task": loss}, "trainer": trainer}
    file = folder / "config.yaml"
    optimizer = {"name": "adam", "lr": 0.001}
    file.write_text(yaml.safe_dump({**sections, "optimizer": optimizer}, sort_keys=False), encoding="utf-8")
    return load(str(file), words)


def sample(shape: list[int], case: Case) -> Tensor:
    """Two rows of the input."""
    return torch.zeros((2, *shape), dtype=torch.int64 if case.classes else torch.float32)


Losses = list[float]


class Timed(Screen):
    """Notes the time after each step, apart from the first epoch; on a device, after each epoch."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(StringIO())
        self.device, self.every = device, 1 if device.type == "cpu" else BATCHES
        self.noted: list[float] = []
        """Of this thread; on a device, of everything."""
        self.of_all: list[float] = []

    def step(self, step: int) -> None:
        if step >= BATCHES and step % self.every == 0:
            self.of_all.append(now(self.device))
            self.noted.append(time.thread_time() if self.device.type == "cpu" else self.of_all[-1])

    def seconds(self) -> float:
        """Seconds of a step, with an equal share of what other threads did, such as writing a checkpoint."""
        took = [after - before for before, after in pairwise(self.noted)]
        in_epoch = BATCHES // self.every
        own = sum(statistics.quantiles(took[number::in_epoch], n=4)[0] for number in range(in_epoch))
        others = self.of_all[-1] - self.of_all[0] - (self.noted[-1] - self.noted[0])
        return (own + others / EPOCHS) / BATCHES


def ours(case: Case, config: Config, folder: Path, clock: Timed) -> Losses:
    """`flowconf train`; returns the losses in its log."""
    walk = road.begin(str(folder / "config.yaml"), config.composition.overrides, trained=True)
    run = train_checked(walk, clock)
    lines = [json.loads(line) for line in (run / LINES).read_text(encoding="utf-8").splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


LossOf = Callable[[Tensor, Tensor], Tensor]


def prepared(case: Case, job: Job) -> tuple[nn.Module, list[tuple[Tensor, Tensor]], LossOf]:
    """The twin with the weights of the graph, the inputs and targets of each split, and the loss."""
    model = case.twin(**case.params).to(job.device)
    model.load_state_dict(job.graph.state_dict())

    def entropy(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, -2), target.flatten())

    splits: list[Any] = [feed.split for feed in (job.train, *job.held_out.values())]
    rows = [tuple(split.tensors.values()) for split in splits]
    pairs = [(given, given if case.itself else target) for given, target in rows]
    return model, pairs, entropy if case.classes else F.mse_loss


def tightest(case: Case, config: Config, folder: Path, clock: Timed) -> Losses:
    """A loop with resident rows and a fused optimizer; with a validation split, it evaluates and saves."""
    job = prepare(config, folder / "runs")
    model, ((given, target), *held_out), loss_of = prepared(case, job)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    losses, epoch, best = [], 0, math.inf
    while len(losses) < job.total_steps:
        order = epoch_order(len(given), 0, epoch).to(job.device)
        for rows in order.split(case.batch)[: job.total_steps - len(losses)]:
            loss = loss_of(model(given.index_select(0, rows)), target.index_select(0, rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            clock.step(len(losses))
        epoch += 1
        for split in held_out:
            found = evaluated(model, *split, 4 * case.batch, loss_of)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "best": best}
            torch.save(state, folder / "last.pt")
            if found < best:
                best = found
                torch.save(model.state_dict(), folder / "best.pt")
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                mean = torch.stack(losses[-BATCHES:]).mean().item()
                log.write(json.dumps({"epoch": epoch, "train/loss": mean, "val/loss": found}) + "\n")
    return [float(loss) for loss in losses]


@torch.no_grad()
def evaluated(model: nn.Module, given: Tensor, target: Tensor, batch: int, loss_of: LossOf) -> float:
    """The loss over all rows of a split."""
    model.eval()
    total = given.new_zeros((), dtype=torch.float64)
    for rows, wanted in zip(given.split(batch), target.split(batch), strict=True):
        total += loss_of(model(rows), wanted) * len(rows)
    model.train()
    return float(total / len(given))


def script(case: Case, config: Config, folder: Path, clock: Timed) -> Losses:
    """A loop as most would write it; its losses depend on the order that its loader draws."""
    job = prepare(config, folder / "runs")
    model, ((given, target), *_), loss_of = prepared(case, job)
    loader = DataLoader(TensorDataset(given.cpu(), target.cpu()), case.batch, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses: Losses = []
    while len(losses) < job.total_steps:
        for rows, wanted in loader:
            optimizer.zero_grad()
            loss = loss_of(model(rows.to(job.device)), wanted.to(job.device))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            clock.step(len(losses))
    return losses


def check_losses(case: Case, folder: Path, device: torch.device) -> None:
    """Raise `SystemExit` unless flowconf's loop and the tightest one give the same losses."""
    config = config_of(case, folder, False, 2 * BATCHES, device, ["trainer.log_every=1"])
    mine, theirs = (loop(case, config, folder, Timed(device)) for loop in (ours, tightest))
    if mine != theirs:
        raise SystemExit(f"{case.name}: the two loops do not give the same losses")


def compare(case: Case, rounds: int, flag: str, folder: Path, device: torch.device, table: Table) -> None:
    """One row of the table."""
    loops = {
        "tightest": (tightest, False, []),
        "script": (script, False, []),
        "stripped": (ours, False, []),
        "full": (tightest, True, []),
        "default": (ours, True, []),
        **({"flagged": (ours, True, [flag])} if flag else {}),
    }
    took: dict[str, list[float]] = {which: [] for which in loops}
    for number in range(rounds):
        for which in list(loops)[:: 1 if number % 2 else -1]:
            loop, default, words = loops[which]
            config = config_of(case, folder, default, (1 + EPOCHS) * BATCHES, device, words)
            clock = Timed(device)
            loop(case, config, folder, clock)
            took[which].append(clock.seconds())
    base, full = took.pop("tightest"), took["full"]
    ratios = [ratio(times, base) for times in took.values()]
    table.add(case.name, f"{1e6 * statistics.median(base):,.0f}", *ratios, ratio(took["default"], full))


def flag_of(given: str | None, device: torch.device) -> str:
    """The override of the column with a flag; torch needs a C++ compiler to compile for the CPU."""
    if given is not None:
        return given
    if device.type == "cuda":
        return "trainer.compile=reduce-overhead"
    compilers = (os.environ.get("CXX", ""), "g++", "clang++")
    if any(shutil.which(name) for name in compilers if name):
        return "trainer.compile=true"
    print("there is no C++ compiler, so nothing is measured with `trainer.compile=true`")
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="what the training loop costs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only the models whose name starts so")
    parser.add_argument("--flag", help="an override for one more column; an empty one: no such column")
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--out", type=Path, help="the folder for `training.json`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    flowconf.register_dataset(drawn)
    about = (
        "A small network, the ten published models at small sizes, and one of them larger. `tightest`: a loop by hand "
        "over resident rows, with a fused optimizer, that only trains. Relative to it: `script`, a typical loop (a "
        "`DataLoader`, an optimizer with its defaults, `loss.item()` in each step); `stripped`, flowconf without "
        f"evaluations and saves; `full`, the tightest loop that also evaluates and saves after every {BATCHES} steps; "
        "`default`, flowconf with its defaults, which also logs and reports. Such short epochs show the cost of their "
        "end; with longer ones, `default` approaches `stripped`. The last column is `default` to `full`, which is the "
        "same work."
    )
    flag = flag_of(options.flag, options.device)
    about += f" `{flag}`: `default` with this override." if flag else " Not measured with a flag."
    flagged = [f"`{flag}`"] if flag else []
    columns = ["model", "tightest, µs a step", "script", "stripped", "full", "default", *flagged, "default to full"]
    table = Table("training", "A step of training", about, columns)
    with tempfile.TemporaryDirectory() as name:
        for case in CASES:
            if case.name.startswith(options.only):
                check_losses(case, Path(name), options.device)
                compare(case, options.rounds, flag, Path(name), options.device, table)
                table.save(options.out)  # after each model: it takes a while


if __name__ == "__main__":
    main()
