"""Finished and unfinished runs by their folders: which one is meant, and the config to go on with or to repeat it.

A run folder's `config.yaml` means the same wherever it is read: it is composed and resolved, graphs named by `graph:`
stand in it whole, and paths of checkpoints are absolute.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from flowconf.diagnostics import ConfigError, Diagnostic, Place, nearest, shown_path
from flowconf.graph.sources import RECORD, beside, record
from flowconf.language import config as configs
from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.train.runs import CONFIG


def find_run_folder(path: str | Path) -> Path:
    """The run folder `path`, or the newest one right below it. Raises `ConfigError` when there is none."""
    folder = Path(path)
    if (folder / RECORD).is_file():
        return folder
    runs = sorted(inner.parent for inner in folder.glob(f"*/{RECORD}"))
    if runs:
        return max(runs, key=lambda run: (str(record(run).get("started", "")), run.name))
    others = [str(other) for other in folder.parent.glob("*") if other.is_dir()]
    close = nearest(str(folder), sorted(others))
    advice = f"write `{close}`" if close else "a run folder looks like `runs/CONFIG/DATE_TIME` and holds `run.json`"
    message = f"`{shown_path(str(folder))}` is not a run folder"
    raise ConfigError(Diagnostic("FC0301", message, Place(str(folder)), help=advice))


def load_run_config(run: Path, overrides: Sequence[str] = ()) -> Config:
    """The config of a run, with changes. What its project registers is imported first. Raises `ConfigError`."""
    original = record(run).get("config")
    if isinstance(original, str) and Path(original).parent.is_dir():
        registry.import_project(Path(original).parent)
    return configs.load(run / CONFIG, overrides)


def in_its_folder(run: Path) -> AbstractContextManager[None]:
    """A block in the folder that a run was started in, which relative paths of data mean; where it is still there."""
    folder = record(run).get("folder")
    if isinstance(folder, str) and Path(folder).is_dir():
        return contextlib.chdir(folder)
    return contextlib.nullcontext()


def portable(config: Config) -> dict[str, Any]:
    """The document of a config with the paths of its checkpoints made absolute."""
    document = config.composition.document
    found = copy.deepcopy(document.data)
    sources = [setting.checkpoint for _, setting in config.model.all_settings() if setting.checkpoint is not None]
    places = {source.place for source in sources}
    for path, node in document.origins.items():
        written = "checkpoint" in path[-2:] and path[-1] in ("checkpoint", "path", "config")
        if written and isinstance(node.value, str) and node.place in places:
            near = beside(node.value, node.place)
            # Like `sources.locate`: a path that is not beside the file lies in the current folder.
            absolute = near if near.exists() or path[-1] == "config" else Path(node.value).absolute()
            _set(found, path, str(absolute.resolve()))
    return found


def _set(data: Any, path: tuple[str | int, ...], value: str) -> None:
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = value
