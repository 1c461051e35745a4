"""Writes the rows of a data set to a file of its cache, each field in the smallest type that its values fit into."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from flowconf.graph.weights.files import header_of
from flowconf.graph.weights.seal import data_of
from flowconf.report import ConfigError, Diagnostic, MachineError, Place, dtype_name, why_not
from flowconf.train.data.batches import RowStream, batch_of
from flowconf.train.data.cache_reading import CONTENTS, NAMES, Contents, Names, Rows
from flowconf.train.data.collate import scaled, typed_shape
from flowconf.train.data.recipe import stamp
from flowconf.train.data.splits import Resident, Split, place_of_row
from flowconf.train.data.streams import Order, closing_stream, stream

CHUNK, CHUNK_SIZE = 1024, 2**24
"""Rows that are made at once, and their bytes."""
FEW = 16
"""Rows that are made twice, to see whether they depend on chance."""
NARROWER: Mapping[torch.dtype, tuple[torch.dtype, ...]] = {
    torch.float32: (torch.uint8,),
    torch.int64: (torch.uint8, torch.int32),
}
"""Smaller types that a field is kept in if all of its values are exactly the same afterwards."""
PATH = "data.cache"


@dataclass
class Writer:
    """Writes splits to a file that is open. A field gets the smallest type that all of its values fit into."""

    output: BinaryIO
    parts: Mapping[str, Split]
    workers: int
    folder: Path

    def __post_init__(self) -> None:
        for part, split in self.parts.items():
            _refuse_chance(part, split)
        self.kinds = {
            f"{part}/{name}": kind for part, split in self.parts.items() for name, kind in _kinds(split).items()
        }
        self.shapes = {
            f"{part}/{name}": (len(split), *kind[0])
            for part, split in self.parts.items()
            for name, kind in split.fields.items()
        }

    def write(self, recipe: str, fitted: Mapping[str, Any] | None) -> None:
        """Write the whole file. Raises `ConfigError` and `MachineError`."""
        places = self._places()
        said = {part: _said_of(split) for part, split in self.parts.items()}
        written = int(time.time())
        contents = Contents(recipe=recipe, written=written, fitted=None if fitted is None else {**fitted}, splits=said)
        while not self._fits(places, {CONTENTS: json.dumps(contents.model_dump())}):
            pass
        with refusing(self.folder):
            self.output.flush()
            os.utime(self.output.fileno(), (written, written))
            os.fsync(self.output.fileno())

    def _places(self) -> dict[str, Tensor]:
        """Where rows come from, as tensors."""
        numbers: dict[str | None, int] = {}
        found, read_from = {}, []
        for part, split in self.parts.items():
            read_from += [stamp(str(file)) for file in dict.fromkeys(getattr(split, "read_from", ()))]
            if getattr(split, "source", None) is not None:
                places = [place_of_row(split, row) for row in range(len(split))]
                found[f"{part}//files"] = torch.tensor([numbers.setdefault(file, len(numbers)) for file, _ in places])
                found[f"{part}//rows"] = torch.tensor([row for _, row in places])
        text = json.dumps(Names(sources=list(numbers), read_from=read_from).model_dump())
        return {**found, NAMES: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}

    def _fits(self, places: Mapping[str, Tensor], texts: Mapping[str, str]) -> bool:
        """Write all tensors; false if a field does not fit into its type, which is a larger one from then on."""
        layout = {name: (self.kinds[name], shape) for name, shape in self.shapes.items()}
        layout |= {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in places.items()}
        header, offsets = header_of(self.folder, layout, texts)
        with refusing(self.folder):
            self.output.truncate(0)
        self._put(0, header)
        for name, tensor in places.items():
            self._put(offsets[name], data_of(tensor))
        for part, split in self.parts.items():
            for start, batch in _batches(split, self.workers):
                for own, (shape, dtype) in split.fields.items():
                    name = f"{part}/{own}"
                    kept = _narrowed(_field_of(batch, part, own, split), self.kinds[name])
                    if kept is None:
                        larger = (*NARROWER[dtype], dtype)
                        self.kinds[name] = larger[larger.index(self.kinds[name]) + 1]
                        return False
                    self._put(offsets[name] + start * math.prod(shape) * kept.itemsize, data_of(kept))
        return True

    def _put(self, at: int, data: bytes | memoryview) -> None:
        with refusing(self.folder):
            self.output.seek(at)
            self.output.write(data)


def _said_of(split: Split) -> Rows:
    fields = {name: (shape, dtype_name(dtype)) for name, (shape, dtype) in split.fields.items()}
    boxes = dict(getattr(split, "boxes", {}))
    return Rows(rows=len(split), fields=fields, resident=isinstance(split, Resident), boxes=boxes)


def _refuse_chance(part: str, split: Split) -> None:
    """Raise `ConfigError` for rows that are not the same each time they are made."""
    if isinstance(split, RowStream):
        raise _refused("`cache` does not apply to an iterable data set, which makes its own rows")
    if isinstance(split, Resident):
        if split.augment is not None:
            raise _refused(f"`cache` does not apply to the split `{part}`, whose rows are changed in each batch")
        return
    rows = _spread(len(split), FEW)
    first, second = (batch_of(split, rows, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for name in split.fields:
        if not torch.equal(first[name].contiguous().view(torch.uint8), second[name].contiguous().view(torch.uint8)):
            raise _refused(f"`cache` does not apply to the split `{part}`, whose field `{name}` depends on chance")


def _kinds(split: Split) -> dict[str, torch.dtype]:
    """The smallest types that the fields fit into, of some rows; fields in memory keep their types."""
    if isinstance(split, Resident):
        return {name: tensor.dtype for name, tensor in split.tensors.items()}
    batch = batch_of(split, _spread(len(split), FEW), torch.Generator().manual_seed(0))
    found = {}
    for name, (_, dtype) in split.fields.items():
        smaller = (kind for kind in NARROWER.get(dtype, ()) if _narrowed(batch[name], kind) is not None)
        found[name] = next(smaller, dtype)
    return found


def _spread(rows: int, count: int) -> Tensor:
    """At most `count` evenly spaced rows."""
    return torch.arange(0, rows, -(-rows // count))


def _batches(split: Split, workers: int) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
    """All rows in order, each batch with the number of its first row."""
    if isinstance(split, Resident):
        yield 0, split.tensors
        return
    size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in split.fields.values())
    rows = max(1, min(CHUNK, CHUNK_SIZE // max(1, size)))
    starts = range(0, len(split), rows)
    orders: list[Order] = [([*range(start, min(start + rows, len(split)))], 0, None) for start in starts]
    if workers:
        with closing_stream(stream(split, orders, rows, workers, 2, torch.device("cpu"))) as batches:
            yield from zip(starts, batches, strict=True)
        return
    for start, (numbers, seed, _) in zip(starts, orders, strict=True):
        yield start, batch_of(split, torch.tensor(numbers), torch.Generator().manual_seed(seed))


def _field_of(batch: Mapping[str, Tensor], part: str, name: str, split: Split) -> Tensor:
    """A field of a batch. Raises `ConfigError` if it has another type or shape than the split says."""
    values, (shape, dtype) = batch[name], split.fields[name]
    resident = isinstance(split, Resident)
    if tuple(values.shape[1:]) != shape or (values.dtype != dtype and not resident):
        kinds = [typed_shape(values.dtype, values.shape[1:]), typed_shape(dtype, shape)]
        raise _refused(f"`{name}` is {kinds[0]} in some rows of the split `{part}`, and {kinds[1]} in others")
    return values


def _narrowed(values: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Values in a smaller type, from which they can be made again exactly; None if they do not fit."""
    if values.dtype == dtype:
        return values
    kept = (values * 255).round_().clamp_(0, 255).to(dtype) if values.is_floating_point() else values.to(dtype)
    again = scaled(kept, values.dtype)
    return kept if torch.equal(again.view(torch.uint8), values.contiguous().view(torch.uint8)) else None


def _refused(message: str) -> ConfigError:
    return ConfigError(Diagnostic("FC0501", message, path=PATH, advice="remove `cache`"))


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """A block that writes to the folder of a cache. Raises `MachineError` if it cannot."""
    try:
        yield
    except OSError as problem:
        message = f"the cache `{folder}` cannot be written: {why_not(problem)}"
        advice = "make room, write another folder, or remove `cache`"
        raise MachineError(Diagnostic("FC0601", message, Place(str(folder)), PATH, advice=advice)) from problem
