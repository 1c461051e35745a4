"""`flowconf.train` and `flowconf.data`: what the command does, for Python."""

from __future__ import annotations

import os
from collections.abc import Sequence

from flowconf.train.checks import road
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
    if trust:
        trust_project(file)
    return TrainedRun(train_checked(road.begin(file, overrides, trained=True)))


def data(file: str | os.PathLike[str], overrides: Sequence[str] = (), *, trust: bool = False) -> RunData:
    """The batches that a run of a config would see, by split; `trust` as in `train`. Raises `ConfigError`.

    for batch in flowconf.data("configs/digits.yaml").train:
        batch["image"]  # [batch_size, ...], on the CPU
    """
    if trust:
        trust_project(file)
    return RunData(road.begin(file, overrides, trained=True).to("machine").checked)
