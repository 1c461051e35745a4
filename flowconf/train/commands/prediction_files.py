"""Files of predictions, which are written batch by batch: their size is not limited by memory.

A file appears when it is complete: until then, it has a temporary name in the same folder.
"""

from __future__ import annotations

import csv
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import torch
from torch import Tensor

from flowconf.graph.weights.files import save_tensors
from flowconf.report import ConfigError, Diagnostic, Place, dtype_name, json_line, listing

Columns = Mapping[str, Tensor | Sequence[str]]
"""Values of some rows by name: tensors [rows, ...], or a text for each row."""
MOST_COLUMNS = 10_000
"""Columns of a CSV file."""


class PredictionFormat(ABC):
    """Writes the rows of a file in their order."""

    @abstractmethod
    def add(self, rows: Columns) -> None:
        """Add the values of some rows."""

    @abstractmethod
    def close(self) -> None:
        """Close the streams."""

    def finish(self) -> None:  # noqa: B027 - most have nothing more to do
        """Complete the file, whose streams are closed."""


class PredictionFile:
    """A file of predictions that is being written: nothing is, before its first rows."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.target = Path(os.path.realpath(file))
        """The file itself, where `file` is a link."""
        self.folder = self.target.with_name(f".{file.name}.{os.getpid()}.tmp")
        self.format: PredictionFormat | None = None
        self.rows = 0
        self.first: Columns = {}

    def add(self, rows: Columns) -> None:
        """Add the values of some rows. Raises `ConfigError` for values that the format cannot have."""
        if self.format is None:
            self.folder.mkdir(parents=True)
            self.format, self.first = FORMATS[self.file.suffix.lower()](self.folder / self.file.name), rows
        self.rows += len(next(iter(rows.values())))
        self.format.add(rows)

    def finish(self) -> None:
        """Put the complete file in its place."""
        if self.format is not None:
            self.format.close()
            self.format.finish()
            (self.folder / self.file.name).replace(self.target)

    @property
    def summary(self) -> list[str]:
        """A line for each value, with its shape and type."""
        return [f"{name}  {[self.rows, *_shape(values)]} {_kind(values)}" for name, values in self.first.items()]


@contextmanager
def prediction_file(output: str | Path) -> Iterator[PredictionFile]:
    """The file to add predictions to, in the format that its suffix names. Raises `ConfigError` for another suffix."""
    file = Path(output).absolute()
    if file.suffix.lower() not in FORMATS:
        message = f"the output file must end in {listing(list(FORMATS))}, got `{output}`"
        raise ConfigError(Diagnostic("FC0501", message, Place(word=str(output))))
    found = PredictionFile(file)
    try:
        yield found
        found.finish()
    except OSError as problem:
        problem.filename = problem.filename or str(file)
        raise
    finally:
        if found.format is not None:
            found.format.close()
        shutil.rmtree(found.folder, ignore_errors=True)


class CsvFile(PredictionFormat):
    """A CSV file with a column for each number: `logits.0`, `logits.1` for a vector of two."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.stream: TextIO = file.open("w", encoding="utf-8", newline="")
        self.writer = csv.writer(self.stream)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def add(self, rows: Columns) -> None:
        if not self.shapes:
            self.shapes = {name: _shape(values) for name, values in rows.items()}
            names = [name for name, shape in self.shapes.items() for name in _columns(name, shape)]
            if len(names) > MOST_COLUMNS:
                message = f"a row has {len(names):,} numbers, and a CSV file at most {MOST_COLUMNS:,} columns"
                raise ConfigError(Diagnostic("FC0501", message, advice="write to an `.npz` or `.jsonl` file"))
            self.writer.writerow(names)
        _refuse_other_shapes(self.shapes, rows)
        flat = [_texts(values) for values in rows.values()]
        self.writer.writerows([text for values in row for text in values] for row in zip(*flat, strict=True))

    def close(self) -> None:
        self.stream.close()


class JsonLinesFile(PredictionFormat):
    """A file with a line of JSON for each row; the rows may have different shapes."""

    def __init__(self, file: Path) -> None:
        self.stream: TextIO = file.open("w", encoding="utf-8")

    def add(self, rows: Columns) -> None:
        plain = [values.tolist() if isinstance(values, Tensor) else values for values in rows.values()]
        for row in zip(*plain, strict=True):
            self.stream.write(f"{json_line(dict(zip(rows, row, strict=True)))}\n")

    def close(self) -> None:
        self.stream.close()


@dataclass
class ArrayFile(PredictionFormat):
    """An `.npz` or `.safetensors` file; the bytes of each array are collected in a file, and then put together."""

    file: Path
    streams: dict[str, BinaryIO] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, Any] = field(default_factory=dict)
    rows: int = 0

    def add(self, rows: Columns) -> None:
        if not self.shapes:
            self.shapes = {name: _shape(values) for name, values in rows.items()}
        _refuse_other_shapes(self.shapes, rows)
        for number, (name, values) in enumerate(rows.items()):
            if not isinstance(values, Tensor):
                message = f"`{name}` is text, which `{self.file.suffix}` files cannot have"
                raise ConfigError(Diagnostic("FC0501", message, advice="write to a `.csv` or `.jsonl` file"))
            array = (values.float() if values.dtype == torch.bfloat16 else values).contiguous().numpy()
            self.dtypes[name] = array.dtype
            if name not in self.streams:
                self.streams[name] = self._part(number).open("wb")
            self.streams[name].write(array.data)
        self.rows += len(next(iter(rows.values())))

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()

    def finish(self) -> None:
        import numpy

        found: dict[str, Any] = {}
        for number, name in enumerate(self.streams):
            shape = (self.rows, *self.shapes[name])
            is_empty = 0 in shape
            dtype = self.dtypes[name]
            found[name] = (
                numpy.zeros(shape, dtype) if is_empty else numpy.memmap(self._part(number), dtype, "r+", 0, shape)
            )
        if self.file.suffix.lower() == ".npz":
            with self.file.open("wb") as stream:
                numpy.savez(stream, **found)
        else:
            save_tensors(self.file, {name: torch.from_numpy(array) for name, array in found.items()}, {})

    def _part(self, number: int) -> Path:
        return self.file.with_name(f"{number}.part")


FORMATS: dict[str, Callable[[Path], PredictionFormat]] = {
    ".npz": ArrayFile,
    ".safetensors": ArrayFile,
    ".csv": CsvFile,
    ".jsonl": JsonLinesFile,
}


def _shape(values: Tensor | Sequence[str]) -> tuple[int, ...]:
    """The shape of one row."""
    return tuple(values.shape[1:]) if isinstance(values, Tensor) else ()


def _kind(values: Tensor | Sequence[str]) -> str:
    return dtype_name(values.dtype) if isinstance(values, Tensor) else "text"


def _refuse_other_shapes(shapes: Mapping[str, tuple[int, ...]], rows: Columns) -> None:
    for name, values in rows.items():
        if _shape(values) != shapes[name]:
            message = f"`{name}` is {list(shapes[name])} in the first row, and {list(_shape(values))} in a later one"
            raise ConfigError(Diagnostic("FC0501", message, advice="write to a `.jsonl` file"))


def _columns(name: str, shape: tuple[int, ...]) -> list[str]:
    """The names of the columns of a value."""
    return [".".join([name, *map(str, place)]) for place in product(*map(range, shape))]


def _texts(values: Tensor | Sequence[str]) -> Iterator[list[str]]:
    """The cells of each row, with the digits that give the same number again."""
    if not isinstance(values, Tensor):
        yield from ([text] for text in values)
        return
    digits = 17 if values.dtype == torch.float64 else 9
    is_float = values.dtype.is_floating_point
    for row in values.reshape(len(values), -1).tolist():
        yield [f"{cell:.{digits}g}" if is_float else str(cell) for cell in row]
