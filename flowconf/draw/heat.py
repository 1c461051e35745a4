"""The shares of time in a profile, as the colours of a drawing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowconf.report import ConfigError, Diagnostic, Place

NUMBERS = "profile.json"
"""The file with the numbers of `flowconf profile` and `trainer.profile`."""

Heat = dict[str, tuple[float, str]]
"""Path -> its share of a step's time, and the share as text."""


def heat_of(data: Mapping[str, Any]) -> Heat:
    """The heat of a profile, by device time if there is any, otherwise by CPU time."""
    unit = "device" if data["step"]["device"] else "cpu"
    return {
        row["path"]: (row["share"], f"{row['share']:.1%} · {row['forward'][unit] + row['backward'][unit]:.3g} ms")
        for row in data["graph"]
    }


def read(path: Path) -> Heat:
    """The heat of a profile, from its file, its folder, or the folder of its run. Raises `ConfigError`."""
    candidates = [path, path / NUMBERS, path / "profile" / NUMBERS]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        message, advice = f"`{path}` does not contain a profile", "create one with `flowconf profile`"
        raise ConfigError(Diagnostic("FC0301", message, Place(str(path)), advice=advice))
    try:
        return heat_of(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError):
        raise ConfigError(Diagnostic("FC0301", f"`{file.name}` is not a profile", Place(str(file)))) from None
