"""`flowconf.train`, `open_run`, `evaluate`, `predict` and `data`: what the commands do, for Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from flowconf.graph.weights.sources import chosen, find_run_folder
from flowconf.report import texts
from flowconf.train.checks import road
from flowconf.train.commands.evaluate import evaluate_run
from flowconf.train.commands.predict import Prediction
from flowconf.train.commands.train import train_checked
from flowconf.train.data.python import RunData
from flowconf.train.runs.finished import TrainedRun
from flowconf.train.runs.trusting import trust_project


def train(file: str | os.PathLike[str], overrides: Sequence[str] = (), *, trust: bool = False) -> TrainedRun:
    """Train a config as `flowconf train` does, and before it the configs whose weights it needs.

    Everything is checked before the first step. `trust`: import the modules of the config's project, even if the
    current folder is outside that project. Raises `FlowconfError`.

        run = flowconf.train("configs/digits.yaml", ["seed=1"])
        run.metrics["test/accuracy"]
    """
    trust_project(file, trust)
    return TrainedRun(train_checked(road.begin(file, overrides, trained=True)))


def open_run(run: str | os.PathLike[str], *, trust: bool = False) -> TrainedRun:
    """The run in a folder, as `train` returns it; of a folder of runs, the newest one.

    `trust` as in `train`. Raises `ConfigError`.

        flowconf.open_run("runs/digits").metrics["test/accuracy"]
    """
    trust_project(run, trust)
    return TrainedRun(find_run_folder(Path(run)))


def evaluate(
    run: str | os.PathLike[str],
    splits: Sequence[str] = (),
    overrides: Sequence[str] = (),
    *,
    last: bool = False,
    step: int | None = None,
    trust: bool = False,
) -> dict[str, float]:
    """The losses and metrics of a run's best (or `last`) weights, or of those kept of a `step`, as in `flowconf eval`.

    `run` is a run folder, or a folder of runs, of which the newest is meant; `splits` are `val` and `test` by default.
    `overrides` change its config, such as its data; `trust` as in `train`. Raises `ConfigError`.

        flowconf.evaluate("runs/digits", ["test"])["test/accuracy"]
    """
    trust_project(run, trust)
    return evaluate_run(Path(run), overrides, splits, chosen(last, step))


def predict(
    run: str | os.PathLike[str],
    inputs: str | Path | Mapping[str, Tensor],
    values: Sequence[str] = (),
    overrides: Sequence[str] = (),
    *,
    fields: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    batch_size: int = 256,
    last: bool = False,
    step: int | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """What the graph of a run gives for `inputs`: tensors [rows, ...] by name, a split of its data, or a file (`Path`).

    `values` are references to any values of the graph (default: its outputs), on the CPU. Of a split, `train`, `val` or
    `test`, the rows come in their own order, and `fields` of the data are given as well; `row` is the number of each
    row, and `file`, a list, the file that it comes from. `units` gives values the units of standardized fields, as in
    `{"price": "cost"}`. `overrides` change its config, such as its data; the weights are the best ones, the `last`
    ones, or those kept of a `step`; `trust` as in `train`. Raises `ConfigError` and `PathError`.

        found = flowconf.predict("runs/digits", "test", fields=["label"])
        wrong = found["logits"].argmax(1) != found["label"]
    """
    trust_project(run, trust)
    named, which = texts(fields, "fields"), chosen(last, step)
    asked = Prediction(Path(run), values, named, overrides, batch_size, which, units)
    return asked.gathered(inputs)


def data(file: str | os.PathLike[str], overrides: Sequence[str] = (), *, trust: bool = False) -> RunData:
    """The batches that a run of a config would see, by split; `trust` as in `train`. Raises `ConfigError`.

    for batch in flowconf.data("configs/digits.yaml").train:
        batch["image"]  # [batch_size, ...], on the CPU
    """
    trust_project(file, trust)
    return RunData(road.begin(file, overrides, trained=True).to("machine").checked)
