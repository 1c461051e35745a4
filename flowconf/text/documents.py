"""One file, or one dict, as a document: no composition, no graph names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flowconf.report import ConfigError, Diagnostic, Place
from flowconf.report.origins import Document, from_plain
from flowconf.text import toml, yaml
from flowconf.text.source import load

SUFFIXES = (".yaml", ".yml", ".toml")


def read(file: str | os.PathLike[str], text: str | None = None, flow: str | None = None) -> Document:
    """One YAML or TOML file, or `text` as its content.

    TOML has no null: there, the text `remove` is null for the members of a mapping whose key is `flow`.

    Raises `ConfigError`: FC0001 for a file that cannot be read, FC0002 to FC0007 for its content.
    """
    source = load(file, text)
    assert source.file is not None
    if Path(source.file).suffix not in SUFFIXES:
        message = f"`{Path(source.file).name}` is neither a YAML nor a TOML file"
        raise ConfigError(Diagnostic("FC0001", message, Place(source.file), advice="use the suffix `.yaml` or `.toml`"))
    root, warnings = toml.parse(source, flow) if source.file.endswith(".toml") else yaml.parse(source)
    if not isinstance(root.value, dict):
        kind = "a list" if isinstance(root.value, list) else "a single value"
        message = f"the file contains {kind}, expected a mapping"
        raise ConfigError(Diagnostic("FC0123", message, root.place, advice="write `key: value` lines"))
    return Document.of(root, source.file, warnings)


def from_data(data: dict[str, Any], origin: str | None = None) -> Document:
    """A Python dict; every place is `origin` as a whole. Leaves may be objects of any type.

    Raises `ConfigError`: FC0005 or FC0006 for data that contains itself, or is too deep or too large.
    """
    return Document.of(from_plain(data, Place(origin)), origin)
