"""The metadata of the weights that a run has kept: why they are kept, and what they are best of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flowconf.graph.weights.reading import opened
from flowconf.graph.weights.sources import kept_file, kept_steps
from flowconf.report import ConfigError, Place

KEPT, BEST_OF, VALUE = "kept", "best_of", "value"
"""Texts of a file: why it is kept (`best`, `every`), the name of the value that chooses the best, and its value."""


def texts_of(file: Path) -> Mapping[str, str]:
    """The metadata of a file of weights; empty if it cannot be read."""
    try:
        with opened(file, Place(str(file))) as found:
            return found.texts
    except ConfigError:
        return {}


def described(run: Path) -> list[dict[str, Any]]:
    """The weights that a run has kept, as plain data: `step`, `file`, `kept`, `best_of` and `value`."""
    found: list[dict[str, Any]] = []
    for step in kept_steps(run):
        file = kept_file(run, step)
        texts = texts_of(file)
        found.append({"step": step, "file": str(file)} | {key: texts[key] for key in (KEPT, BEST_OF) if key in texts})
        with suppress(KeyError, ValueError):
            found[-1][VALUE] = float(texts[VALUE])
    return found
