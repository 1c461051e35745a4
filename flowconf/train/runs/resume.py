"""Resuming and repeating a run from its folder alone.

The `config.yaml` of a run folder means the same wherever it is read: it is composed and resolved, it contains the
graphs that `graph:` names, and paths of checkpoints are absolute. Values from the environment stay references, because
they may be secrets.
"""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from flowconf.graph.weights.reading import check_whole
from flowconf.graph.weights.sources import BEST, CHECKPOINTS, CONFIG, LAST, beside, record
from flowconf.language import projects
from flowconf.language.config import Config
from flowconf.report import ConfigError, Diagnostic, Place, RunError, shown_path
from flowconf.report.origins import Path as Keys
from flowconf.report.origins import dotted
from flowconf.train.checks.weights import start_of


def in_its_folder(run: Path) -> AbstractContextManager[None]:
    """A block in the folder that a run was started in, to which paths of data are relative, if it still exists."""
    folder = record(run).get("folder")
    if isinstance(folder, str) and Path(folder).is_dir():
        return projects.in_folder(Path(folder))
    return contextlib.nullcontext()


WEIGHTS = {"checkpoint", "init_from"}
"""The keys that name sources of weights."""


def advice_to_continue(run: Path, refused: Path | None = None) -> str:
    """Advice for a run that cannot be resumed: start a new run from its best or last weights, or start over.

    `refused` is a file that cannot be used.
    """
    known = record(run)
    config = str(known.get("config", ""))
    if not Path(config).is_file():
        config = str(run / CONFIG)
    command = f"flowconf train {shlex.join([shown_path(config), *known.get('overrides', [])])}"
    for file, whose in ((run / CHECKPOINTS / BEST, "best"), (run / CHECKPOINTS / LAST, "last")):
        with suppress(ConfigError):
            if file == refused:
                continue
            check_whole(file, Place(str(file)))
            source = shlex.quote(f"init_from={shown_path(file)}")
            return f"to start a new run from its {whose} weights: `{command} {source}`"
    return f"to start over: `{command}`"


def last_checkpoint(run: Path) -> Path | None:
    """The checkpoint from which a run is resumed, None if it has saved none. Raises `RunError` if it is missing."""
    file = run / CHECKPOINTS / LAST
    if file.is_file():
        return file
    if record(run).get("saved") or file.with_name(BEST).is_file():
        message = f"`{LAST}` is missing, although the run has saved a checkpoint"
        raise RunError(Diagnostic("FC0301", message, Place(str(file)), advice=advice_to_continue(run)))
    return None


def portable(config: Config) -> dict[str, Any]:
    """The document of a config for a run folder, with absolute paths of checkpoints."""
    document = config.composition.document
    found: dict[str, Any] = document.origins.root.written()
    sources = [setting.checkpoint for _, setting in config.model.all_settings() if setting.checkpoint is not None]
    start = start_of(config)
    places = {source.place for source in (*sources, *([start] if start is not None else []))}
    for path, node in document.origins.items():
        written = not WEIGHTS.isdisjoint(path[-2:]) and path[-1] in (*WEIGHTS, "path", "config")
        if written and node.place in places and isinstance(node.value, str) and node.reference is None:
            near = beside(node.value, node.place)
            # Like `sources.locate`: a path that is not beside the file lies in the current folder.
            absolute = near if near.exists() or path[-1] == "config" else Path(node.value).absolute()
            above: Any = found
            for step in path[:-1]:
                above = above[step]
            above[path[-1]] = str(absolute.resolve())
    return found


# what of its config can change: state is restored by name where it fits, so only what the run was built on cannot

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
            advice=advice_to_continue(run),
        )
        for keys, why in refused.items()
    ]
    if found:
        raise ConfigError(*found)


def _value(config: Config, key: str) -> object:
    return functools.reduce(getattr, key.split("."), config.training)


def _starts(data: Any, path: Keys) -> Iterator[tuple[Keys, Any]]:
    """The initial values of weights that a graph sets, by its path."""
    for key, value in data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ():
        if key in STARTS:
            yield (*path, key), value
        else:
            yield from _starts(value, (*path, key))
