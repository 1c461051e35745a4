"""Files that are whole or not there: written beside their place, flushed to disk, and renamed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from flowconf.graph.sharded import whole
from flowconf.graph.weights.seal import sealed


def write_atomically(file: Path, data: bytes) -> None:
    """Replace `file` by `data` in one step. Raises `OSError`; the earlier file is then untouched."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises `OSError`."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def save_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, writes: bool = True
) -> None:
    """Write tensors and texts as one safetensors file, atomically, with the digests of both.

    Of several processes that hold parts of the tensors all have to call this, and one `writes`.
    """
    ready = {}
    for name, tensor in tensors.items():
        found = whole(tensor.detach())
        if writes:
            ready[name] = found.cpu().contiguous()
    if writes:
        write_atomically(file, save(ready, sealed(ready, metadata)))
