"""flowconf: train PyTorch networks that are described in YAML.

Public names are imported on first use, so that `flowconf --help` imports none of torch, Hydra and Pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowconf.api import build, check, compose, load, load_run, plan
    from flowconf.graph.builder import Flow, flow
    from flowconf.graph.graph import Graph
    from flowconf.graph.weights.loading import WeightReport
    from flowconf.language.registry import (
        offer,
        register,
        register_adapter,
        register_augmentation,
        register_callback,
        register_dataset,
        register_logger,
        register_loss,
        register_metric,
        register_optimizer,
        register_schedule,
    )
    from flowconf.report import ConfigError, Diagnostic, FlowconfError, MachineError, PathError, RunError, StepError
    from flowconf.train.callbacks.watched_run import WatchedRun
    from flowconf.train.data.declarations import provides
    from flowconf.train.data.splits import Resident, Splits
    from flowconf.train.objective.gradients import differentiates
    from flowconf.train.objective.losses import Logits, LogProbabilities, Probabilities
    from flowconf.train.objective.metrics import higher_is_better
    from flowconf.train.python import data, evaluate, open_run, predict, train
    from flowconf.train.runs.finished import TrainedRun

__version__ = "0.1.0"

_HOMES = {
    "flowconf.api": ("build", "check", "compose", "load", "load_run", "plan"),
    "flowconf.report": (
        "ConfigError", "Diagnostic", "FlowconfError", "MachineError", "PathError", "RunError", "StepError",
    ),
    "flowconf.graph.graph": ("Graph",),
    "flowconf.graph.weights.loading": ("WeightReport",),
    "flowconf.graph.builder": ("Flow", "flow"),
    "flowconf.language.registry": (
        "offer", "register", "register_adapter", "register_augmentation", "register_callback", "register_dataset",
        "register_logger",
        "register_loss", "register_metric", "register_optimizer", "register_schedule",
    ),
    "flowconf.train.python": ("data", "evaluate", "open_run", "predict", "train"),
    "flowconf.train.runs.finished": ("TrainedRun",),
    "flowconf.train.callbacks.watched_run": ("WatchedRun",),
    "flowconf.train.data.declarations": ("provides",),
    "flowconf.train.data.splits": ("Resident", "Splits"),
    "flowconf.train.objective.gradients": ("differentiates",),
    "flowconf.train.objective.losses": ("LogProbabilities", "Logits", "Probabilities"),
    "flowconf.train.objective.metrics": ("higher_is_better",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ConfigError",
    "Diagnostic",
    "Flow",
    "FlowconfError",
    "Graph",
    "LogProbabilities",
    "Logits",
    "MachineError",
    "PathError",
    "Probabilities",
    "Resident",
    "RunError",
    "Splits",
    "StepError",
    "TrainedRun",
    "WatchedRun",
    "WeightReport",
    "build",
    "check",
    "compose",
    "data",
    "differentiates",
    "evaluate",
    "flow",
    "higher_is_better",
    "load",
    "load_run",
    "offer",
    "open_run",
    "plan",
    "predict",
    "provides",
    "register",
    "register_adapter",
    "register_augmentation",
    "register_callback",
    "register_dataset",
    "register_logger",
    "register_loss",
    "register_metric",
    "register_optimizer",
    "register_schedule",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module `flowconf` has no attribute `{name}`")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return [*__all__, "__version__"]
