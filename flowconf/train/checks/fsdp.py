"""Settings and graphs that `trainer.strategy: fsdp` does not support, reported before anything is built."""

from __future__ import annotations

from collections.abc import Mapping

from flowconf.language.config import Config
from flowconf.report import Label, Reporter

INSTEAD = "write `strategy: ddp`"


def check_shardable(config: Config, parameters: Mapping[str, tuple[int, ...]], reporter: Reporter) -> None:
    """Report what prevents sharding the weights; `parameters` are the graph's, by name, with their sizes."""
    trainer = config.training.trainer
    if trainer.strategy != "fsdp":
        return
    place = reporter.value(("trainer", "strategy"))
    labels = (Label("`fsdp` is set here", place),)
    for path, step in config.model.deciding():
        message = f"`{path}` decides by its values what runs, but `fsdp` requires all processes to run the same"
        reporter.error("FC0123", message, step.place, path=path, labels=labels, advice=INSTEAD)
    for name, size in parameters.items():
        if not size:
            message = f"`{name}` is a scalar, but `fsdp` shards the first dimension of each parameter"
            reporter.error("FC0123", message, place, path=name, advice=INSTEAD)
    asked = {
        "compile": (trainer.compile, "gathering weights in each step cannot be compiled", "false"),
        "channels_last": (trainer.channels_last, "sharded weights keep the default memory format", "false"),
        "shares": (trainer.shares == "auto", "the processes synchronize in each forward pass", "[2, 1]"),
    }
    for key, (wanted, why, instead) in asked.items():
        if wanted:
            message = f"`{key}` is not supported with `fsdp`: {why}"
            advice = f"write `{key}: {instead}`, or `strategy: ddp`"
            reporter.error("FC0123", message, at=("trainer", key), labels=labels, advice=advice)
