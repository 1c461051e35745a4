"""Writes files of tensors in the safetensors format, atomically."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowconf.graph.sharded import whole
from flowconf.graph.weights.listing import DTYPES
from flowconf.graph.weights.seal import data_of, digest_of, sealed
from flowconf.report import Diagnostic, Place, RunError, dtype_name
from flowconf.text.output import write_atomically

NAMES: dict[torch.dtype, str] = {getattr(torch, name): code for code, (name, _) in DTYPES.items()}
"""The names of types in the safetensors format."""
ALIGNMENT = 8
"""The header of a safetensors file is padded to a multiple of this many bytes."""


@torch.no_grad()
def snapshot(tensors: Mapping[str, Tensor], *, kept: bool = True) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, independent of later changes.

    If the tensors are sharded over several processes, all must call this, and those without `kept` get nothing.
    """
    copies = {}
    for name, tensor in tensors.items():
        found = whole(tensor)
        if kept:
            copies[name] = found.to("cpu", copy=True, memory_format=torch.contiguous_format)
    return copies


def save_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], known: dict[Tensor, str] | None = None
) -> None:
    """Write tensors and metadata to a safetensors file, atomically, with their digests.

    `known` has the digests of tensors that other files have, and receives the others. Raises `OSError`, and `RunError`
    for a type that the format does not have.
    """
    data = {name: data_of(tensor) for name, tensor in tensors.items()}
    known = {} if known is None else known
    known.update((one, digest_of(one, data[name])) for name, one in tensors.items() if one not in known)
    digests = {name: known[tensor] for name, tensor in tensors.items()}
    write_atomically(file, *_serialized(file, tensors, data, sealed(digests, metadata)))


def _serialized(
    file: Path, tensors: Mapping[str, Tensor], data: Mapping[str, memoryview], texts: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """The parts of a safetensors file, which share memory with the tensors that are contiguous and on the CPU."""
    header, offsets = header_of(file, {name: (one.dtype, tuple(one.shape)) for name, one in tensors.items()}, texts)
    yield header
    yield from (data[name] for name in offsets)


def header_of(
    file: Path, kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], texts: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """The first bytes of a safetensors file with tensors of these types and shapes, and where the data of each begins.

    The data follows in the order of the offsets. Raises `RunError` for a type that the format does not have.
    """
    names = sorted(kinds, key=lambda name: (-kinds[name][0].itemsize, name))  # so that each one is aligned
    header: dict[str, Any] = {"__metadata__": dict(texts)}
    end = 0
    for name in names:
        dtype, shape = kinds[name]
        if dtype not in NAMES:
            message = f"cannot save `{name}`: safetensors does not support {dtype_name(dtype)}"
            raise RunError(Diagnostic("FC0702", message, Place(str(file))))
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    start = 8 + len(text)
    return struct.pack("<Q", len(text)) + text, {name: start + header[name]["data_offsets"][0] for name in names}
