"""Reads columns of tables: CSV, JSON lines and Parquet files.

Cells stay what the file has: text in CSV, JSON values, and numbers or text of Parquet; None where a cell is missing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from flowconf.report import MachineError, Place, from_json, suggest
from flowconf.train.data.reading import reading, refuse_missing, refused, required
from flowconf.train.data.splits import shares_of

CSV = (".csv", ".tsv")
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
SUFFIXES = (*CSV, *JSON_LINES, *PARQUET)


@dataclass(frozen=True)
class Format:
    """How CSV files are written."""

    delimiter: str | None = None
    """Between the cells; None: a tab in `.tsv` files, a comma in others."""
    missing: Collection[str] = ("",)
    """The cells that are missing values."""

    def separator(self, file: str) -> str:
        """The delimiter of a file."""
        return self.delimiter or ("\t" if Path(file).suffix == ".tsv" else ",")


@dataclass
class Table:
    """Columns of a file, with as many cells as the table has rows."""

    file: str
    columns: dict[str, Sequence[Any] | NDArray[Any]]
    lines: Sequence[int] = ()
    """The line of each row; of Parquet files, which have no lines, empty."""
    headings: Sequence[str] = ()
    """All columns of a CSV file, in order."""
    delimiter: str = ","

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def place(self, row: int, column: str) -> Place:
        """The place of a cell in the file, as far as it is known."""
        if not self.lines:
            return Place(self.file)
        line = self.lines[row]
        with Path(self.file).open(encoding="utf-8-sig", newline="") as stream:
            text = next((text for number, text in enumerate(stream, 1) if number == line), "").rstrip("\r\n")
        start, length = self._span(text, row, column)
        return Place(self.file, line, start, length)

    def _span(self, text: str, row: int, column: str) -> tuple[int, int]:
        """The first character of a cell in its line, from 1 on, and its length; those of the line if it has quotes."""
        if not self.headings:
            key = json.dumps(column, ensure_ascii=False)
            return (text.find(key) + 1, len(key)) if key in text else (1, max(1, len(text)))
        cells = text.split(self.delimiter)
        number = self.headings.index(column)
        if '"' in text or len(cells) != len(self.headings):
            return 1, max(1, len(text))
        return sum(len(cell) + 1 for cell in cells[:number]) + 1, max(1, len(cells[number]))


def column_names(file: str, form: Format) -> list[str] | None:
    """The names of the columns of a table; None if they are only known once all of it, or a package, is there.

    Raises `ConfigError` for a file that is no table.
    """
    suffix = _suffix(file)
    if suffix in JSON_LINES or not Path(file).is_file():
        return None
    if suffix in CSV:
        with _reading(file), Path(file).open(encoding="utf-8-sig", newline="") as stream:
            return _headings(csv.reader(stream, delimiter=form.separator(file), strict=True), file)
    try:
        parquet = _parquet()
    except MachineError:
        return None
    with _reading(file):
        return list(parquet.read_schema(file).names)


def read_table(file: str, columns: Sequence[str], form: Format) -> Table:
    """The given columns of a table. Raises `ConfigError`, and `MachineError` without the package for Parquet."""
    suffix = _suffix(file)
    refuse_missing(file)
    read = _csv if suffix in CSV else _json_lines if suffix in JSON_LINES else _of_parquet
    with _reading(file):
        found = read(file, columns, form)
    if not len(found):
        raise refused(f"`{file}` has no rows", file)
    return found


def divided(
    read: Callable[[str], Table], train: str, validation: str | float | None, test: str | float | None, split_seed: int
) -> dict[str, tuple[Table, Tensor]]:
    """The tables and rows (int64) of `train`, `validation` and `test`: other files, or shares of the training rows.

    Raises `ConfigError` for shares that leave nothing.
    """
    whole = read(train)
    shares = [part if isinstance(part, float | int) else 0.0 for part in (validation, test)]
    held, tested, rest = shares_of(len(whole), shares, split_seed)
    found = {"train": (whole, rest)}
    for name, given, rows in (("validation", validation, held), ("test", test, tested)):
        if isinstance(given, str):
            table = read(given)
            found[name] = table, torch.arange(len(table))
        elif len(rows):
            found[name] = whole, rows
    return found


def check_columns(columns: Sequence[str], there: Sequence[str], file: str, form: Format) -> None:
    """Raise `ConfigError` for a column that a table does not have."""
    lacks = next((name for name in columns if name not in there), None)
    if lacks is None:
        return
    advice = suggest(lacks, there, "columns")
    other = next((mark for mark in (";", "\t", "|", ",") if len(there) == 1 and mark in there[0]), None)
    if other is not None and _suffix(file) in CSV:
        advice = f"the file seems to be delimited by {other!r}: write `delimiter: {json.dumps(other)}`"
    raise refused(f"`{file}` has no column `{lacks}`", file, advice)


def _suffix(file: str) -> str:
    suffix = Path(file).suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(f"`{one}`" for one in SUFFIXES)
        raise refused(f"`{file}` is not a table by its suffix", file, f"supported suffixes: {known}")
    return suffix


def _csv(file: str, columns: Sequence[str], form: Format) -> Table:
    with Path(file).open(encoding="utf-8-sig", newline="") as stream:
        delimiter = form.separator(file)
        rows = csv.reader(stream, delimiter=delimiter, strict=True)
        headings = _headings(rows, file)
        check_columns(columns, headings, file, form)
        numbers = [headings.index(name) for name in columns]
        found: list[list[Any]] = [[] for _ in columns]
        lines, before = [], rows.line_num
        for cells in rows:
            line, before = before + 1, rows.line_num
            if not cells:  # an empty line
                continue
            if len(cells) != len(headings):
                there = f"there are {len(headings)} columns"
                message = f"the row at line {line:,} of `{file}` has {len(cells)} cells, but {there}"
                raise refused(message, file, "quote cells that contain the delimiter", line)
            lines.append(line)
            for column, number in zip(found, numbers, strict=True):
                cell = cells[number]
                column.append(None if cell in form.missing else cell)
    return Table(file, dict(zip(columns, found, strict=True)), lines, headings, delimiter)


def _headings(rows: Iterator[list[str]], file: str) -> list[str]:
    headings = next(rows, None)
    if not headings:
        raise refused(f"`{file}` has no header with the names of its columns", file)
    twice = next((name for number, name in enumerate(headings) if name in headings[:number]), None)
    if twice is not None:
        raise refused(f"duplicate column `{twice}` in `{file}`", file, "rename one of them", 1)
    return headings


def _json_lines(file: str, columns: Sequence[str], form: Format) -> Table:
    found: list[list[Any]] = [[] for _ in columns]
    lines, known = [], dict[str, None]()
    with Path(file).open(encoding="utf-8-sig") as stream:
        for line, text in enumerate(stream, 1):
            if not text.strip():
                continue
            try:
                row = from_json(text)
            except ValueError as problem:
                raise refused(f"line {line:,} of `{file}` is not JSON: {problem}", file, None, line) from None
            if not isinstance(row, Mapping):
                raise refused(f"line {line:,} of `{file}` must be an object", file, None, line)
            lines.append(line)
            known |= dict.fromkeys(row)
            for column, name in zip(found, columns, strict=True):
                column.append(row.get(name))
    if lines:
        check_columns(columns, list(known), file, form)
    return Table(file, dict(zip(columns, found, strict=True)), lines)


def _of_parquet(file: str, columns: Sequence[str], form: Format) -> Table:
    parquet = _parquet()
    check_columns(columns, parquet.read_schema(file).names, file, form)
    table = parquet.read_table(file, columns=list(dict.fromkeys(columns)))
    found: dict[str, Sequence[Any] | NDArray[Any]] = {}
    for name in columns:
        column = table.column(name)
        is_number = str(column.type) in _NUMBERS and not column.null_count
        found[name] = column.to_numpy() if is_number else column.to_pylist()
    return Table(file, found)


_NUMBERS = ("float", "double", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
"""Types of Arrow whose columns are read as arrays."""


def _parquet() -> Any:
    """The module `pyarrow.parquet`. Raises `MachineError` without it."""
    return required("pyarrow.parquet", "Parquet files require pyarrow", "tables", ", or save the table as CSV")


@contextmanager
def _reading(file: str) -> Iterator[None]:
    """A block that reads a file, whose exceptions become a `ConfigError`."""
    try:
        with reading(file):
            yield
    except csv.Error as problem:
        raise refused(f"`{file}` is not a CSV file: {problem}", file) from None
    except Exception as problem:
        if not type(problem).__module__.startswith("pyarrow"):
            raise
        raise refused(f"`{file}` is damaged or not a Parquet file: {problem}", file) from None
