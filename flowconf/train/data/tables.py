"""Tables as a data set: CSV, JSON lines and Parquet files whose columns become fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowconf.language.value_types import Count, Share
from flowconf.report import ConfigError, Diagnostic, suggest
from flowconf.train.data.splits import Declared, Resident, Source, Splits, provides, shares_of
from flowconf.train.data.table_fields import TableField, declare, fields_of, fit, refuse_changed, tensors_of
from flowconf.train.data.table_files import Format, Table, column_names, read_table

__all__ = ["table"]


def _table_fields(
    train: str,
    fields: Mapping[str, Any],
    delimiter: str | None,
    missing_values: Sequence[str],
    fitted: Mapping[str, Any] | None,
    **others: object,
) -> Declared:
    """The fields of a table; those of a column that the file does not have are errors of the config."""
    sections, form = fields_of(fields), Format(delimiter, missing_values)
    there = column_names(train, form)
    found = [] if there is None else _unknown(sections, fields, there, train)
    if found:
        raise ConfigError(*found)
    return declare(sections, fitted)


@provides(shapes=_table_fields, paths=("train", "validation", "test"))
def table(
    *,
    train: str,
    fields: Mapping[str, Any],
    validation: str | Share | None = None,
    test: str | Share | None = None,
    split_seed: Count = 0,
    delimiter: str | None = None,
    missing_values: Sequence[str] = ("",),
    fitted: Mapping[str, Any] | None = None,
) -> Splits:
    """A table: `.csv`, `.tsv`, `.jsonl` or `.parquet`, whose columns become fields.

    `fields` gives each field its columns: `price: price` is one column, `size: [width, height]` a vector of two, and
    `{columns: ..., type: number, standardize: true, missing: mask}` says more: the type is `number` (float32),
    `integer` (int64) or `category` (int64 index; `categories` lists the values, else they are those of the training
    rows); `missing` is `mask`, `mean` or `category`, else missing values are errors. `validation` and `test` are
    separate files, or shares of the rows of `train`. In CSV files, cells equal to one of `missing_values` are missing.
    Means, deviations and categories are those of the training rows, and are kept with the run.
    """
    sections, form = fields_of(fields), Format(delimiter, missing_values)
    columns = list(dict.fromkeys(column for section in sections.values() for column in section.names))
    whole = read_table(train, columns, form)
    try:
        shares = [part if isinstance(part, float | int) else 0.0 for part in (validation, test)]
        held, tested, rest = shares_of(len(whole), shares, split_seed)
    except ValueError as problem:
        raise ConfigError(Diagnostic("FC0501", str(problem), path="data")) from None
    known = fit(sections, whole, rest) if fitted is None else refuse_changed(fitted, sections)
    tensors = tensors_of(sections, whole, known)

    def part(rows: Tensor) -> Resident | None:
        chosen = {name: tensor[rows] for name, tensor in tensors.items()}
        return Resident(chosen, source=Source(train, rows)) if len(rows) else None

    def other(file: str | float | None, rows: Tensor) -> Resident | None:
        if not isinstance(file, str):
            return part(rows)
        found: Table = read_table(file, columns, form)
        return Resident(tensors_of(sections, found, known), source=Source(file, torch.arange(len(found))))

    training = part(rest)
    assert training is not None
    return Splits(training, other(validation, held), other(test, tested), fitted=known)


def _unknown(
    sections: Mapping[str, TableField], written: Mapping[str, Any], there: Sequence[str], file: str
) -> list[Diagnostic]:
    """Columns that a file does not have, each at its place in the config."""
    found = []
    for name, section in sections.items():
        for number, column in enumerate(section.names):
            if column not in there:
                given = ".columns" if isinstance(written[name], Mapping) else ""
                path = f"data.fields.{name}{given}" + (f".{number}" if section.shape else "")
                message = f"`{Path(file)}` has no column `{column}`"
                advice = suggest(column, there, "columns")
                found.append(Diagnostic("FC0501", message, path=path, advice=advice))
    return found
