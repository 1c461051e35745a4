"""A folder with rendered images, for data sets whose config sets `cache`.

The name of a file is a hash of everything that its content depends on, so files are never stale. Files are written
atomically, and a file that cannot be read is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from torch import Tensor

from flowconf.graph.weights.files import write_atomically


def cached(folder: str | None, key: dict[str, object], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """`make()`, or its earlier result for the same `key` (plain data) and the same code of this package."""
    if folder is None:
        return make()
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    file = Path(folder) / f"{_digest(key)}.safetensors"
    if file.is_file():
        try:
            return load(file.read_bytes())
        except (SafetensorError, OSError, ValueError, KeyError):
            pass  # truncated or not ours: replaced below
    made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, save(made))
    return made


def _digest(key: dict[str, object]) -> str:
    code = sorted((entry.name, entry.read_bytes()) for entry in files("flowconf.fbrl").iterdir() if entry.is_file())
    parts = [json.dumps(key, sort_keys=True).encode(), *(part for name, text in code for part in (name.encode(), text))]
    return sha256(b"\0".join(sha256(part).digest() for part in parts)).hexdigest()[:32]
