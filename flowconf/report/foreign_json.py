"""JSON that any program may have written: files of runs, profiles and indices of weights."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

LARGEST = 1 << 26
"""The maximum size of a file in bytes."""


def from_json(text: str | bytes) -> Any:
    """The data of a JSON text. Raises `ValueError`, also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(file: Path) -> Any:
    """The data of a JSON file. Raises `OSError`, and `ValueError` with the reason for anything else."""
    known = file.stat()
    if not stat.S_ISREG(known.st_mode):
        raise ValueError("it is not a regular file")
    if known.st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST:,} bytes")
    try:
        return from_json(file.read_bytes())
    except ValueError:
        raise ValueError("it is not valid JSON") from None
