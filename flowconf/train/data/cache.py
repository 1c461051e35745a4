"""Rows of data sets that are made once, written to a file, and memory-mapped from then on.

The name of the file depends on everything that the rows are made of. It is a safetensors file, so nothing in it is
code. A file that is damaged, was changed, or is not a regular file is replaced, never followed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flowconf.graph.weights.files import header_of
from flowconf.graph.weights.seal import data_of
from flowconf.graph.weights.sources import as_unicode
from flowconf.report import (
    ConfigError,
    Diagnostic,
    MachineError,
    Place,
    bytes_in_words,
    counted,
    dtype_name,
    from_json,
    printable,
    why_not,
)
from flowconf.text.output import sync_folder
from flowconf.train.data.batches import RowStream, batch_of
from flowconf.train.data.boxes import BoxFormat
from flowconf.train.data.collate import Batch, Field, scaled, typed_shape
from flowconf.train.data.recipe import Stamp, stamp
from flowconf.train.data.splits import Resident, Split, Splits, place_of_row
from flowconf.train.data.streams import Order, closing_stream, stream
from flowconf.train.runs.lock import close, locks_alone

CONTENTS, NAMES = "flowconf cache", "names"
"""The metadata and the tensor that describe the rows."""
CHUNK, CHUNK_SIZE = 1024, 2**24
"""Rows that are made at once, and their bytes."""
FEW = 16
"""Rows that are made twice, to see whether they depend on chance."""
NARROWER: Mapping[torch.dtype, tuple[torch.dtype, ...]] = {
    torch.float32: (torch.uint8,),
    torch.int64: (torch.uint8, torch.int32),
}
"""Smaller types that a field is kept in if all of its values are exactly the same afterwards."""
WAIT = 0.1
"""Seconds between two attempts to lock a file that another process writes."""
PATH = "data.cache"


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


class _Rows(BaseModel):
    """What a file says of a split."""

    model_config = ConfigDict(extra="forbid")

    rows: int
    fields: dict[str, tuple[tuple[int, ...], str]]
    resident: bool
    boxes: dict[str, BoxFormat]


class _Contents(BaseModel):
    """What a file says of its rows."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    written: int
    """The time (seconds) of its last change."""
    fitted: dict[str, Any] | None
    splits: dict[str, _Rows]


class _Names(BaseModel):
    """Files that rows come from, which may be many."""

    model_config = ConfigDict(extra="forbid")

    sources: list[str | None]
    """Those of the rows of all splits."""
    read_from: list[Stamp]
    """Those that the arguments of the data set do not name."""


class _Unusable(Exception):
    """Why a file of the cache cannot be used, in words that follow its name."""


@dataclass
class Cache:
    """A folder of rows that are made once."""

    folder: Path
    writes: bool = False
    """Whether rows that are not there are written, and not only made."""
    workers: int = 0
    """Processes that make the rows to write."""
    warnings: list[Diagnostic] = field(default_factory=list)
    """About files that were replaced."""
    written: list[str] = field(default_factory=list)
    """A line for each file that was written, with its size and that of the other files of its data set."""

    def splits(self, recipe: Mapping[str, Any], fitted: object, make: Callable[[], Splits]) -> Splits:
        """The splits of a recipe: those of the cache, or those that `make` gives, which are written to it.

        `fitted` is what an earlier run has determined; rows that determine the same are used. Raises `ConfigError` for
        rows that depend on chance, and `MachineError` if they cannot be written.
        """
        text = _text(recipe)
        found = self._read(text)
        if fitted is not None and (not isinstance(found, Splits) or found.fitted != fitted):
            text = _text({**recipe, "fitted": fitted})
            found = self._read(text)
        if isinstance(found, Splits):
            return found
        if not self.writes:
            return make()
        if found is not None:
            message = f"`{self._file(text)}` {found}, so its rows are made again"
            self.warnings.append(Diagnostic("FC0501", message, path=PATH, severity="warning"))
        return self._written(text, make)

    def _file(self, recipe: str) -> Path:
        name = re.sub(r"\W+", "_", from_json(recipe)["data set"].split()[0])
        return self.folder / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:24]}.safetensors"

    def _read(self, recipe: str) -> Splits | str | None:
        """The splits of a recipe; why its file cannot be used; None without a file."""
        try:
            return _splits_in(self._file(recipe), recipe)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as problem:
            return f"cannot be read ({why_not(problem)})"
        except _Unusable as why:
            return str(why)

    def _written(self, recipe: str, make: Callable[[], Splits]) -> Splits:
        """Make the rows and write them, unless another process has done so meanwhile."""
        file = self._file(recipe)
        with _refusing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with _alone(file) as (output, temporary):
            found = self._read(recipe)
            if isinstance(found, Splits):
                return found
            splits = make()
            _Writer(output, dict(splits.named()), self.workers, self.folder).write(recipe, splits.fitted)
            with _refusing(self.folder):
                temporary.replace(file)
                sync_folder(self.folder)
                self.written.append(_sizes(file))
        return _splits_in(file, recipe)


def _sizes(file: Path) -> str:
    """The size of a file, and of the others of its data set in the folder. Raises `OSError`."""
    name = file.name.rpartition("-")[0]
    own = re.compile(rf"\.?{name}-[0-9a-f]{{24}}\.safetensors(\.tmp)?")
    others = [other for other in os.scandir(file.parent) if own.fullmatch(other.name) and other.name != file.name]
    size = sum(other.stat(follow_symlinks=False).st_size for other in others)
    beside = f", and {counted(len(others), 'other file')} of `{name}`: {bytes_in_words(size)}" if others else ""
    return f"{bytes_in_words(file.stat().st_size)} written to {printable(str(file))}{beside}"


def _text(recipe: Mapping[str, Any]) -> str:
    return json.dumps(recipe, sort_keys=True)


# reading


def _splits_in(file: Path, recipe: str) -> Splits:
    """The splits in a file, whose tensors are mapped. Raises `OSError` and `_Unusable`."""
    state = file.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise _Unusable("is not a regular file")
    try:
        with as_unicode(file) as path, safe_open(path, framework="pt") as opened:
            contents = _Contents.model_validate(from_json((opened.metadata() or {})[CONTENTS]))
            if contents.recipe != recipe:
                raise _Unusable("has other rows")
            if contents.written * 10**9 != state.st_mtime_ns:
                raise _Unusable("was changed after it was written")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        names = _Names.model_validate(from_json(bytes(tensors[NAMES].numpy())))
        parts = {part: _mapped(part, rows, tensors, names) for part, rows in contents.splits.items()}
        train, held, tested = parts["train"], parts.get("val"), parts.get("test")
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise _Unusable("is damaged") from problem
    for before in names.read_from:
        if stamp(before[0]) != before:
            raise _Unusable(f"is older than `{before[0]}`")
    return Splits(train, held, tested, contents.fitted)


def _mapped(part: str, said: _Rows, tensors: Mapping[str, Tensor], names: _Names) -> Split:
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


# writing


@dataclass
class _Writer:
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
        contents = _Contents(recipe=recipe, written=written, fitted=None if fitted is None else {**fitted}, splits=said)
        while not self._fits(places, {CONTENTS: json.dumps(contents.model_dump())}):
            pass
        with _refusing(self.folder):
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
        text = json.dumps(_Names(sources=list(numbers), read_from=read_from).model_dump())
        return {**found, NAMES: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}

    def _fits(self, places: Mapping[str, Tensor], texts: Mapping[str, str]) -> bool:
        """Write all tensors; false if a field does not fit into its type, which is a larger one from then on."""
        layout = {name: (self.kinds[name], shape) for name, shape in self.shapes.items()}
        layout |= {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in places.items()}
        header, offsets = header_of(self.folder, layout, texts)
        with _refusing(self.folder):
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
        with _refusing(self.folder):
            self.output.seek(at)
            self.output.write(data)


def _said_of(split: Split) -> _Rows:
    fields = {name: (shape, dtype_name(dtype)) for name, (shape, dtype) in split.fields.items()}
    boxes = dict(getattr(split, "boxes", {}))
    return _Rows(rows=len(split), fields=fields, resident=isinstance(split, Resident), boxes=boxes)


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
def _refusing(folder: Path) -> Iterator[None]:
    """A block that writes to the folder of a cache. Raises `MachineError` if it cannot."""
    try:
        yield
    except OSError as problem:
        message = f"the cache `{folder}` cannot be written: {why_not(problem)}"
        advice = "make room, write another folder, or remove `cache`"
        raise MachineError(Diagnostic("FC0601", message, Place(str(folder)), PATH, advice=advice)) from problem


@contextmanager
def _alone(file: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A block that alone writes to the temporary file of a file, after any other process that does.

    A file that a killed process has left is written anew; one that leads elsewhere is refused.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    while True:
        with _refusing(file.parent):
            number = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
            state = os.fstat(number)
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                os.close(number)
                raise OSError(0, f"`{temporary.name}` is not a regular file of its own")
        output: BinaryIO = os.fdopen(number, "r+b")
        is_alone = locks_alone(output)
        if is_alone and _is_at(output, temporary):
            break
        output.close()
        if not is_alone:
            time.sleep(WAIT)
    try:
        yield output, temporary
    finally:
        if _is_at(output, temporary):
            temporary.unlink()
        with suppress(OSError):  # the disk may be full
            close(output)


def _is_at(output: BinaryIO, path: Path) -> bool:
    """Whether a path is that of an open file."""
    try:
        return os.path.samestat(os.fstat(output.fileno()), path.lstat())
    except FileNotFoundError:
        return False
