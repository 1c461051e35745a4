"""A file of the cache of a data set: what it says of its rows, and its splits, whose tensors are mapped."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flowconf.graph.weights.sources import as_unicode
from flowconf.report import from_json
from flowconf.train.data.boxes import BoxFormat
from flowconf.train.data.collate import Batch, Field, scaled
from flowconf.train.data.recipe import Stamp, stamp
from flowconf.train.data.splits import Resident, Split, Splits

CONTENTS, NAMES = "flowconf cache", "names"
"""The metadata and the tensor that describe the rows."""


class Mapped:
    """A split in memory that is mapped from a file: it is read batch by batch, and not moved to a device as a whole."""

    def __init__(self, rows: Resident) -> None:
        self.rows, self.fields, self.source, self.boxes = rows, rows.fields, rows.source, rows.boxes

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        return self.rows.batch(rows, generator)

    def column(self, name: str) -> Tensor:
        """The values of a field in all rows."""
        return scaled(self.rows.tensors[name], self.fields[name][1])


@dataclass(frozen=True)
class _Places:
    """The file that each row of a split comes from, and its number there."""

    names: list[str | None]
    files: Tensor
    rows: Tensor

    def of(self, row: int) -> tuple[str | None, int]:
        return self.names[int(self.files[row])], int(self.rows[row])


class Rows(BaseModel):
    """The description of a split in a file."""

    model_config = ConfigDict(extra="forbid")

    rows: int
    fields: dict[str, tuple[tuple[int, ...], str]]
    resident: bool
    boxes: dict[str, BoxFormat]


class Contents(BaseModel):
    """The description of the rows in a file."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    written: int
    """The time (seconds) of its last change."""
    fitted: dict[str, Any] | None
    splits: dict[str, Rows]


class Names(BaseModel):
    """Files that rows come from, which may be many."""

    model_config = ConfigDict(extra="forbid")

    sources: list[str | None]
    """Those of the rows of all splits."""
    read_from: list[Stamp]
    """Those that the arguments of the data set do not name."""


class Unusable(Exception):
    """Why a file of the cache cannot be used, in words that follow its name."""


def splits_in(file: Path, recipe: str) -> Splits:
    """The splits in a file, whose tensors are mapped. Raises `OSError` and `Unusable`."""
    state = file.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise Unusable("is not a regular file")
    try:
        with as_unicode(file) as path, safe_open(path, framework="pt") as opened:
            contents = Contents.model_validate(from_json((opened.metadata() or {})[CONTENTS]))
            if contents.recipe != recipe:
                raise Unusable("has other rows")
            if contents.written * 10**9 != state.st_mtime_ns:
                raise Unusable("was changed after it was written")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        names = Names.model_validate(from_json(bytes(tensors[NAMES].numpy())))
        parts = {part: _mapped(part, rows, tensors, names) for part, rows in contents.splits.items()}
        train, held, tested = parts["train"], parts.get("val"), parts.get("test")
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise Unusable("is damaged") from problem
    for before in names.read_from:
        if stamp(before[0]) != before:
            raise Unusable(f"is older than `{before[0]}`")
    return Splits(train, held, tested, contents.fitted)


def _mapped(part: str, said: Rows, tensors: Mapping[str, Tensor], names: Names) -> Split:
    """A split of a file. Raises `ValueError` and `LookupError` for tensors that are not those it says."""
    fields: dict[str, Field] = {name: (shape, getattr(torch, dtype)) for name, (shape, dtype) in said.fields.items()}
    kept = {name: tensors[f"{part}/{name}"] for name in fields}
    for name, (shape, dtype) in fields.items():
        if tuple(kept[name].shape) != (said.rows, *shape) or not isinstance(dtype, torch.dtype):
            raise ValueError(name)
    source = None
    if f"{part}//files" in tensors:
        source = _Places(names.sources, tensors[f"{part}//files"], tensors[f"{part}//rows"])
        if not len(source.files) == len(source.rows) == said.rows:
            raise ValueError(part)
        if not 0 <= int(source.files.min()) <= int(source.files.max()) < len(names.sources):
            raise ValueError(part)
    rows = Resident(kept, fields=fields, source=source, rows=said.rows)
    rows.boxes = said.boxes
    return rows if said.resident else Mapped(rows)
