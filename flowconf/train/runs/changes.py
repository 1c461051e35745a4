"""What of a config can change in a run that goes on.

Most of it: the config is the truth, and state is put back by name where it fits (`runs.state`). What the run has been
built on cannot, and is refused with its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowconf.language.config import Config
from flowconf.report import ConfigError, Diagnostic, Place
from flowconf.report.origins import Path as Keys
from flowconf.report.origins import dotted
from flowconf.train.runs.resume import way_on

FIXED = {
    "seed": "its weights and the order of its data began with it",
    "init_from": "it has weights already",
    "data.batch_size": "its epochs are counted in batches of that size",
    "data.drop_last": "its epochs are counted in the batches that are left",
    "trainer.runs": "it stays in its folder",
}
"""Keys that keep the value they had in the first checkpoint, and why."""
WEIGHTS = {"checkpoint": "it has weights already", "init": "it has weights already"}
"""The same for keys of the graph, at any depth."""


def refuse_changes(run: Path, before: Config, after: Config) -> None:
    """Raise `ConfigError` for what cannot change in a run that has a checkpoint."""
    old, new = (dict(_values(config.composition.document.data, ())) for config in (before, after))
    changed = [keys for keys in {**old, **new} if old.get(keys) != new.get(keys)]
    refused = {fixed: why for keys in changed for fixed, why in _fixed(keys)}
    found = [
        Diagnostic(
            "FC0702",
            f"`{dotted(keys)}` cannot change in a run that goes on: {why}",
            _place(after, keys),
            dotted(keys),
            advice=way_on(run),
        )
        for keys, why in refused.items()
    ]
    if found:
        raise ConfigError(*found)


def _fixed(keys: Keys) -> Iterator[tuple[Keys, str]]:
    """The fixed key that a changed value is or is part of, and why it is fixed."""
    for length in range(1, len(keys) + 1):
        part = keys[:length]
        why = FIXED.get(dotted(part)) or (WEIGHTS.get(str(part[-1])) if part[0] == "model" else None)
        if why is not None:
            yield part, why
            return


def _values(data: Any, path: Keys) -> Iterator[tuple[Keys, Any]]:
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from _values(value, (*path, str(key)))
    else:
        yield path, data


def _place(config: Config, keys: Keys) -> Place:
    return config.composition.document.origins.value(keys)
