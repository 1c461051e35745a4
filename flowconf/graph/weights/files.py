"""Atomic writes: to a temporary file, which is flushed to disk and renamed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from flowconf.graph.sharded import whole
from flowconf.graph.weights.seal import sealed


def write_atomically(file: Path, data: bytes) -> None:
    """Replace `file` by `data` atomically. Raises `OSError`, and then leaves the earlier file unchanged."""
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
    """Flush the entries of a folder to disk. Raises `OSError`."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def save_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, writes: bool = True
) -> None:
    """Write tensors and metadata to a safetensors file, atomically, with their digests.

    If the tensors are sharded over several processes, all must call this, and one `writes`.
    """
    ready = {}
    for name, tensor in tensors.items():
        found = whole(tensor.detach())
        if writes:
            ready[name] = found.cpu().contiguous()
    if writes:
        write_atomically(file, save(ready, sealed(ready, metadata)))
