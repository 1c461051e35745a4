"""The shares of time, memory and operations in a profile, as the colours and overlays of a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from flowconf.report import ConfigError, Diagnostic, Place, bytes_in_words, read_json

T = TypeVar("T")

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


def overlays_of(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The overlays of a page: time, time forward and backward, allocated memory, and operations, by path."""
    unit = "device" if data["step"]["device"] else "cpu"
    rows = data["graph"]

    def overlay(title: str, way: str, key: str, text: Callable[[float], str]) -> dict[str, Any]:
        most = rows[0][way][key] or 1.0
        values = {row["path"]: [row[way][key] / most, text(row[way][key])] for row in rows}
        return {"title": title, "group": "profile", "values": values}

    time = {path: list(one) for path, one in heat_of(data).items()}
    return {
        "time": {"title": "time of a step", "group": "profile", "values": time},
        "forward": overlay("time forward", "forward", unit, "{:.3g} ms".format),
        "backward": overlay("time backward", "backward", unit, "{:.3g} ms".format),
        "memory": overlay("memory allocated", "forward", "memory", bytes_in_words),
        "operations": overlay("operations", "forward", "flops", "{:.3g} FLOPs".format),
    }


def read(path: Path) -> Heat:
    """The heat of a profile, from its file, its folder, or the folder of its run. Raises `ConfigError`."""
    return _read(path, heat_of)


def read_overlays(path: Path) -> dict[str, dict[str, Any]]:
    """The overlays of a profile, as `read`."""
    return _read(path, overlays_of)


def _read(path: Path, made: Callable[[Mapping[str, Any]], T]) -> T:
    candidates = [path, path / NUMBERS, path / "profile" / NUMBERS]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        message, advice = f"`{path}` does not contain a profile", "create one with `flowconf profile`"
        raise ConfigError(Diagnostic("FC0301", message, Place(str(path)), advice=advice))
    try:
        return made(read_json(file))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        raise ConfigError(Diagnostic("FC0301", f"`{file.name}` is not a profile", Place(str(file)))) from None
