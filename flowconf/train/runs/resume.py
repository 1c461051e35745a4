"""What makes a run folder enough to go on with a run or to repeat it, wherever it is read.

A run folder's `config.yaml` means the same wherever it is read: it is composed and resolved, graphs named by `graph:`
stand in it whole, and paths of checkpoints are absolute.
"""

from __future__ import annotations

import contextlib
import copy
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from flowconf.graph.weights.sources import beside, record
from flowconf.language.config import Config


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
