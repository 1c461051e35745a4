"""The configs that can select a file of a config group."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from flowconf.language.config import is_graph
from flowconf.report import ConfigError
from flowconf.text.defaults import entries
from flowconf.text.documents import SUFFIXES, read
from flowconf.text.library import BUILT_IN, CONFIG_FOLDERS, config_roots
from flowconf.text.source import load

MOST_CONFIGS = 50
"""How many configs of a folder are read."""
MOST_USES = 4
"""In how many configs a file of a group is checked."""
PACKAGE = re.compile(r"\s*#\s*@package\b")


@dataclass(frozen=True)
class Use:
    """A config, and the override that selects the file in it."""

    config: str
    override: str


def concerns(file: Path) -> bool:
    """Whether a file of an editor is one of flowconf: it is in a folder of configs, or has a graph."""
    if file.suffix not in SUFFIXES:
        return False
    try:
        return any(folder.name in CONFIG_FOLDERS for folder in file.parents) or bool(
            {"flow", "model"} & read(str(file)).data.keys()
        )
    except ConfigError:
        return False


def uses_of(file: Path) -> list[Use] | None:
    """The configs that can select a file, in the order of their names; None for a config or a graph by itself."""
    try:
        document = read(str(file))
    except ConfigError:
        return None
    if is_graph(document) or {"model", "data"} <= document.data.keys():
        return None
    found = list(islice(_uses(file), MOST_USES))
    return found if found or PACKAGE.match(load(file).text) else None


def _uses(file: Path) -> Iterator[Use]:
    for root in config_roots(file)[1:]:
        if root == BUILT_IN or not file.is_relative_to(root):
            continue
        group = file.parent.relative_to(root).as_posix()
        for config in _configs_in(root)[:MOST_CONFIGS]:
            if _selects(config, group):
                yield Use(str(config), f"{group}={file.stem}")


def _configs_in(folder: Path) -> list[Path]:
    """The configs in a folder, by name; none if it cannot be read."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.suffix in SUFFIXES)
    except OSError:
        return []


def _selects(config: Path, group: str) -> bool:
    """Whether the defaults list of a config has a group."""
    try:
        return any(entry.group == group and not entry.package for entry in entries(read(str(config))))
    except ConfigError:
        return False
