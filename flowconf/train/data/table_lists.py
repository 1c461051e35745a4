"""Columns of lists: rows of different lengths, filled up to a declared one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from flowconf.report import ConfigError, Diagnostic, shortened
from flowconf.train.data.table_files import Table

LARGEST = float(numpy.finfo("float32").max)


def lists_of(
    name: str, kind: str, column: str, shape: Sequence[int], table: Table, categories: Sequence[str] | None
) -> tuple[Tensor, Tensor]:
    """All rows of a field of lists [rows, *shape], and where there are items [rows, length].

    Raises `ConfigError` for a list that is too long, items of another size, and values of another type.
    """
    length, *sizes = shape
    numbers = {text: number for number, text in enumerate(categories or ())}
    dtype = "float32" if kind == "number" else "int64"
    values = numpy.zeros((len(table), length, *sizes), dtype)
    present = numpy.zeros((len(table), length), bool)
    for row, cell in enumerate(table.columns[column]):
        items = [] if cell is None else cell
        why = None
        if not isinstance(items, list | tuple | numpy.ndarray):
            why = f"must be a list, got `{shown(items)}`"
        elif len(items) > length:
            why = f"has {len(items):,} items, more than {length}"
        elif len(items):
            try:
                values[row, : len(items)] = _array(items, sizes, kind, numbers)
            except (TypeError, ValueError, OverflowError) as problem:
                why = str(problem)
        if why is not None:
            message = f"`{column}` {why}, in row {row:,} of `{table.file}`"
            advice = f"write a larger `pad` for `{name}`" if "more than" in why else None
            raise ConfigError(Diagnostic("FC0501", message, table.place(row, column), "data", advice=advice))
        present[row, : len(items)] = True
    return torch.from_numpy(values), torch.from_numpy(present)


def flat(value: Any) -> Iterator[Any]:
    """The items of lists in lists."""
    if isinstance(value, list | tuple | numpy.ndarray):
        for item in value:
            yield from flat(item)
    else:
        yield value


def text_of(value: Any) -> str:
    """A value as the text that categories are compared by: the same in CSV, JSON and Parquet."""
    if isinstance(value, bool | numpy.bool_):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value.item() if isinstance(value, numpy.generic) else value)


def too_large(numbers: Any) -> Any:
    """Where finite numbers are beyond float32, in which they would become infinite."""
    sizes = numpy.abs(numbers)
    return (sizes > LARGEST) & (sizes < numpy.inf)


def shown(value: Any) -> str:
    """A value as a message shows it."""
    return shortened(text_of(value), 40)


def _array(items: Any, sizes: Sequence[int], kind: str, numbers: dict[str, int]) -> Any:
    """Items as an array. Raises `ValueError` with what is wrong, in words that follow the column."""
    given = list(flat(items))
    if kind == "category":
        strange = next((item for item in given if text_of(item) not in numbers), None)
        if strange is not None:
            raise ValueError(f"has `{shown(strange)}`, which is no category of the training rows")
        given = [numbers[text_of(item)] for item in given]
    wrong = next((item for item in given if isinstance(item, str) or item is None), None)
    if wrong is not None or any(item is None for item in given):
        raise ValueError(f"must have numbers, got `{shown(wrong)}`")
    if kind == "number" and (large := next((item for item in given if too_large(item)), None)) is not None:
        raise ValueError(f"must have numbers within the range of float32, got `{shown(large)}`")
    if kind == "integer" and any(int(item) != item for item in given):
        raise ValueError("must have integers")
    if len(given) != len(items) * int(numpy.prod(sizes, dtype=int)):
        raise ValueError(f"has items that are not of the size {list(sizes)}")
    return numpy.array(given).reshape(len(items), *sizes)
