"""Lists the contents of a weights file from its header, without reading tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from flowconf.graph.weights.file_names import INDEX
from flowconf.graph.weights.sources import NOT_A_WEIGHT, as_unicode, weights_file
from flowconf.language.settings import Checkpoint
from flowconf.report import NOWHERE, Diagnostic, PathError, Place, dtype_name, from_json, suggest

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {
    "BOOL": ("bool", 1),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    **{f"F{bits}": (f"float{bits}", bits // 8) for bits in (16, 32, 64)},
    **{f"I{bits}": (f"int{bits}", bits // 8) for bits in (8, 16, 32, 64)},
    **{f"U{bits}": (f"uint{bits}", bits // 8) for bits in (8, 16, 32, 64)},
    "C64": ("complex64", 8),
}
"""The type of a safetensors file -> its name in torch, and the bytes of an element."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file. `dtype` is the name of the type in torch, `size` is in bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int

    @property
    def numbers(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Listing:
    """The weights of a file, the other tensors of the state of a run, and the metadata."""

    file: Path
    entries: tuple[StoredTensor, ...]
    state: tuple[StoredTensor, ...]
    metadata: Mapping[str, str]

    @property
    def label(self) -> str | None:
        """The label of the graph that the weights belong to."""
        try:
            document = from_json(self.metadata.get("graph", "null"))
        except ValueError:
            return None
        label = document.get("label") if isinstance(document, dict) else None
        return label if isinstance(label, str) else None

    def below(self, path: str) -> Listing:
        """The weights at or below `path`. Raises `PathError` if there are none."""
        kept = tuple(entry for entry in self.entries if f"{entry.name}.".startswith(f"{path}."))
        if not kept:
            raise _nothing_at(path, [entry.name for entry in self.entries])
        return Listing(self.file, kept, (), self.metadata)


def list_weights(path: str | Path, place: Place = NOWHERE) -> Listing:
    """The tensors of a file, a folder of checkpoints or a run. Raises `ConfigError` if they cannot be read."""
    file = weights_file(path, Checkpoint(place=place))
    if file.name.endswith(INDEX):
        from flowconf.graph.weights.layouts import shards_of

        parts = [list_weights(shard, place) for shard in dict.fromkeys(shards_of(file, place).values())]
        return Listing(file, tuple(entry for part in parts for entry in part.entries), (), {})
    if file.suffix != ".safetensors":
        from flowconf.graph.weights.reading import tensor_sets

        sets = tensor_sets(file, place, "meta")
        found = [_of_tensor(name, tensor) for name, tensor in sets.main.items()]
        found += [_of_tensor(f"{at}.{name}", one) for at, others in sets.others.items() for name, one in others.items()]
        return Listing(file, tuple(found), (), {})
    try:
        with as_unicode(file) as path, safe_open(path, framework="np") as opened:
            headers, metadata = list(_headers(opened)), dict(opened.metadata() or {})
    except (SafetensorError, OSError) as problem:
        from flowconf.graph.weights.reading import unreadable

        raise unreadable(file, place, problem) from None
    weights = tuple(entry for entry in headers if not entry.name.startswith(NOT_A_WEIGHT))
    state = tuple(entry for entry in headers if entry.name.startswith(NOT_A_WEIGHT))
    return Listing(file, weights, state, metadata)


def _headers(opened: Any) -> Iterator[StoredTensor]:
    for name in opened.keys():  # noqa: SIM118 - not a mapping
        header = opened.get_slice(name)
        shape = tuple(header.get_shape())
        code = header.get_dtype()
        dtype, width = DTYPES.get(code, (code, 0))
        yield StoredTensor(name, shape, dtype, math.prod(shape) * width)


def _of_tensor(name: str, tensor: Tensor) -> StoredTensor:
    size = tensor.numel() * tensor.element_size()
    return StoredTensor(name, tuple(tensor.shape), dtype_name(tensor.dtype), size)


def _nothing_at(path: str, names: list[str]) -> PathError:
    """The error for a path without tensors, with the names at the level of the unknown one."""
    walked: list[str] = []
    for part in path.split("."):
        prefix = "".join(f"{name}." for name in walked)
        here = list(dict.fromkeys(n.removeprefix(prefix).split(".")[0] for n in names if n.startswith(prefix)))
        if part not in here:
            where = f"in `{'.'.join(walked)}`" if walked else "in the file"
            message = f"unknown name `{part}` {where}"
            return PathError(Diagnostic("FC0701", message, NOWHERE, path, advice=suggest(part, here)))
        walked.append(part)
    raise AssertionError(path)
