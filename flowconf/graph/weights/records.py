"""Reads and validates `run.json`, the record of a run, which other programs may have changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeGuard

from flowconf.report import read_json, why_not

DEEPEST = 20
"""The maximum nesting depth of a record."""


def read_record(file: Path) -> tuple[dict[str, Any], str | None]:
    """The record in a file, or an empty one with the reason why it is invalid."""
    found: object = None
    try:
        found = read_json(file)
    except OSError as problem:
        return {}, why_not(problem)
    except ValueError as problem:
        return {}, str(problem)
    wrong = _wrong_with(found)
    return (found, None) if wrong is None and isinstance(found, dict) else ({}, wrong)


def lacks(record: dict[str, Any]) -> str | None:
    """Why a record is incomplete, or None."""
    missing = next((key for key in ("config", "status", "metrics") if key not in record), None)
    return None if missing is None else f"it has no valid `{missing}`"


def _wrong_with(found: object) -> str | None:
    """Why a record is invalid, or None."""
    if not isinstance(found, dict):
        return "it is not a mapping"
    if not _is_shallow(found, DEEPEST):
        return f"it is nested more than {DEEPEST} levels deep"
    for key, fits in FIELDS.items():
        if key in found and not fits(found[key]):
            return f"it has no valid `{key}`"
    for name, value in found.get("metrics", {}).items():
        if not is_number(value):
            return f"`metrics.{name}` is not a number"
    for key in ("started", "ended"):
        if found.get(key) is not None and not _is_time(found[key]):
            return f"`{key}` is not a time with a time zone"
    return None


def _is_shallow(value: object, depth: int) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_shallow(member, depth - 1) for member in members)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a JSON text is a number that a float can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return float(value) is not None
    except OverflowError:
        return False


def _is_time(value: object) -> bool:
    try:
        return datetime.fromisoformat(str(value)).tzinfo is not None
    except ValueError:
        return False


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _are(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(fits(member) for member in value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_number, value.values()))


FIELDS: dict[str, Callable[[object], bool]] = {
    "id": _is_text,
    "config": _is_text,
    "overrides": _are(_is_text),
    "folder": _is_text,
    "status": _is_text,
    "seed": is_number,
    "host": _is_text,
    "saved": lambda value: isinstance(value, bool),
    "resumed": _are(_is_mapping),
    "metrics": _is_mapping,
    "weights": _is_mapping,
    "sweep": _is_text,
    "git": lambda value: value is None or isinstance(value, dict),
    "environment": lambda value: isinstance(value, dict) and isinstance(value.get("packages", {}), dict),
    "resources": _are_numbers,
}
