"""What of a config can change in a run that goes on.

Most of it: the config is the truth, and state is put back by name where it fits (`runs.state`). What the run has been
built on cannot, and is refused with its place.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowconf.language.config import Config
from flowconf.report import ConfigError, Diagnostic
from flowconf.report.origins import Path as Keys
from flowconf.report.origins import dotted
from flowconf.train.runs.resume import way_on

FIXED = {
    "seed": "the weights and the data order depend on it",
    "init_from": "the run already has weights",
    "data.batch_size": "epochs are counted in batches of this size",
    "data.drop_last": "it changes the number of batches in an epoch",
    "trainer.runs": "the run stays in its folder",
}
"""Keys that keep the value they had in the first checkpoint, and why."""
STARTS = ("checkpoint", "init")
"""Keys of the graph, at any depth, that say how weights start."""


def refuse_changes(run: Path, before: Config, after: Config) -> None:
    """Raise `ConfigError` for what cannot change in a run that has a checkpoint."""
    refused: dict[Keys, str] = {
        tuple(key.split(".")): why for key, why in FIXED.items() if _value(before, key) != _value(after, key)
    }
    old = dict(_starts(before.composition.document.data["model"], ("model",)))
    new = dict(_starts(after.composition.document.data["model"], ("model",)))
    refused |= {keys: "the run already has weights" for keys, start in new.items() if old.get(keys) != start}
    found = [
        Diagnostic(
            "FC0702",
            f"`{dotted(keys)}` cannot be changed when resuming: {why}",
            after.origins.value(keys),
            dotted(keys),
            advice=way_on(run),
        )
        for keys, why in refused.items()
    ]
    if found:
        raise ConfigError(*found)


def _value(config: Config, key: str) -> object:
    return functools.reduce(getattr, key.split("."), config.training)


def _starts(data: Any, path: Keys) -> Iterator[tuple[Keys, Any]]:
    """What a graph says of how weights start, by its path."""
    for key, value in data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ():
        if key in STARTS:
            yield (*path, key), value
        else:
            yield from _starts(value, (*path, key))
