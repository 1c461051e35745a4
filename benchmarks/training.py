"""What the training loop costs: flowconf's, and a script's as most would write it, against the tightest loop by hand.

    python benchmarks/training.py [--rounds 5] [--only NAME] [--flag WORD] [--device cuda] [--out FOLDER]

All train the same model from the same weights, on one thread, in turns; a row shows the median of the rounds' ratios.
A step's time is the difference between a long and a short run, so that what happens once is left out. Every loss of
flowconf's loop is first compared with that of the tightest loop, and has to be the same to the bit.

`tightest` gathers resident rows, and uses a fused optimizer. `script` has a `DataLoader`, the optimizer as it comes,
and reads the loss in every step. `stripped` only trains. `default` is `flowconf train` as it comes: an evaluation in
every epoch, with its checkpoints, logs and TensorBoard, which the loops by hand do not have. `flagged` is `default`
with the override `--flag`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
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
from flowconf.train.data.sampling import epoch_order
from flowconf.train.job import Job
from flowconf.train.loop import fit
from flowconf.train.prepare import prepare
from flowconf.train.runs.folder import create_run
from flowconf.train.runs.lock import LINES
from flowconf.train.screen import Screen

MODELS = Path(__file__).parent / "models"
BATCHES = 80
"""In an epoch."""
LONG, SHORT = 160, 80
"""Steps of the two runs."""


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
    """The config of a case; `stripped` evaluates and saves nothing before its end."""
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
    trainer |= {} if default else {"checkpoint_every": steps}
    sections = {"model": model, "data": data, "loss": {"task": loss}, "trainer": trainer}
    file = folder / "config.yaml"
    optimizer = {"name": "adam", "lr": 0.001}
    file.write_text(yaml.safe_dump({**sections, "optimizer": optimizer}, sort_keys=False), encoding="utf-8")
    return load(str(file), words)


def sample(shape: list[int], case: Case) -> Tensor:
    """Two rows of the input."""
    return torch.zeros((2, *shape), dtype=torch.int64 if case.classes else torch.float32)


Losses = list[float]


def ours(case: Case, job: Job, folder: Path) -> tuple[float, Losses]:
    """Seconds of flowconf's loop, and the losses in its log."""
    run = create_run(folder / "runs", folder / "config.yaml", [], 0, {}, {})
    run.open(tensorboard=True)
    began = now(job.device)
    fit(job, run, Screen(StringIO()))
    seconds = now(job.device) - began
    run.end("finished")
    lines = [json.loads(line) for line in (run.folder / LINES).read_text(encoding="utf-8").splitlines()]
    return seconds, [line["train/loss"] for line in lines if "train/loss" in line]


def prepared(case: Case, job: Job) -> tuple[nn.Module, Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """The twin with the weights of the graph, the rows, their targets, and the loss."""
    model = case.twin(**case.params).to(job.device)
    model.load_state_dict(job.graph.state_dict())
    tensors = job.train.split.tensors  # type: ignore[attr-defined]

    def entropy(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, -2), target.flatten())

    given, target = tensors.values()
    return model, given, given if case.itself else target, entropy if case.classes else F.mse_loss


def tightest(case: Case, job: Job, folder: Path) -> tuple[float, Losses]:
    """Seconds of a loop with resident rows and a fused optimizer, and its losses."""
    model, given, target, loss_of = prepared(case, job)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    losses, epoch = [], 0
    began = now(job.device)
    while len(losses) < job.total_steps:
        order = epoch_order(len(given), 0, epoch).to(job.device)
        for rows in order.split(case.batch)[: job.total_steps - len(losses)]:
            loss = loss_of(model(given.index_select(0, rows)), target.index_select(0, rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        epoch += 1
    return now(job.device) - began, [float(loss) for loss in losses]


def script(case: Case, job: Job, folder: Path) -> tuple[float, Losses]:
    """Seconds of a loop as most would write it, and its losses, which depend on the order that its loader draws."""
    model, given, target, loss_of = prepared(case, job)
    loader = DataLoader(TensorDataset(given.cpu(), target.cpu()), case.batch, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses: Losses = []
    began = now(job.device)
    while len(losses) < job.total_steps:
        for rows, wanted in loader:
            optimizer.zero_grad()
            loss = loss_of(model(rows.to(job.device)), wanted.to(job.device))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return now(job.device) - began, losses


def check_losses(case: Case, folder: Path, device: torch.device) -> None:
    """Raise `SystemExit` unless flowconf's loop and the tightest one give the same losses."""
    config = config_of(case, folder, False, 2 * BATCHES, device, ["trainer.log_every=1"])
    mine, theirs = (loop(case, prepare(config, folder / "runs"), folder)[1] for loop in (ours, tightest))
    if mine != theirs:
        raise SystemExit(f"{case.name}: the two loops do not give the same losses")


def compare(case: Case, rounds: int, flag: str, folder: Path, device: torch.device, table: Table) -> None:
    """One row of the table."""
    loops = {
        "tightest": (tightest, False, []),
        "script": (script, False, []),
        "stripped": (ours, False, []),
        "default": (ours, True, []),
        **({"flagged": (ours, True, [flag])} if flag else {}),
    }
    took: dict[str, list[float]] = {which: [] for which in loops}
    for number in range(rounds):
        for which in list(loops)[:: 1 if number % 2 else -1]:
            loop, default, words = loops[which]
            seconds = []
            for steps in (LONG, SHORT):
                job = prepare(config_of(case, folder, default, steps, device, words), folder / "runs")
                seconds.append(loop(case, job, folder)[0])
            took[which].append((seconds[0] - seconds[1]) / (LONG - SHORT))
    base = took.pop("tightest")
    table.add(case.name, f"{1e6 * statistics.median(base):,.0f}", *(ratio(times, base) for times in took.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description="what the training loop costs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only the models whose name starts so")
    parser.add_argument("--flag", default="", help="an override for one more column, such as trainer.compile=true")
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--out", type=Path, help="the folder for `training.json`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    flowconf.register_dataset(drawn)
    about = (
        "The ten published models at small sizes, and one of them larger. `tightest`: a loop by hand over "
        "resident rows, with a fused optimizer, that only trains. Beside it, relative to it: `script`, a loop "
        "as most would write it (a `DataLoader`, the optimizer as it comes, `loss.item()` in each step); "
        "`stripped`, flowconf without evaluations and saves; `default`, flowconf as it comes, which "
        f"evaluates, saves and logs after every {BATCHES} steps here (the loops by hand do not)."
    )
    flagged = [f"`{options.flag}`"] if options.flag else []
    columns = ["model", "tightest, µs a step", "script", "stripped", "default", *flagged]
    table = Table("training", "A step of training", about, columns)
    with tempfile.TemporaryDirectory() as name:
        for case in CASES:
            if case.name.startswith(options.only):
                check_losses(case, Path(name), options.device)
                compare(case, options.rounds, options.flag, Path(name), options.device, table)
    table.save(options.out)


if __name__ == "__main__":
    main()
