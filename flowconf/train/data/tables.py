"""Tables as a data set: CSV, JSON lines and Parquet files whose columns become fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from flowconf.language.value_types import Count, Share
from flowconf.report import ConfigError, Diagnostic, suggest
from flowconf.train.data.declarations import Declared, provides
from flowconf.train.data.splits import Resident, Source, Splits
from flowconf.train.data.table_fields import TableField, declare, fields_of
from flowconf.train.data.table_files import Format, Table, column_names, read_table
from flowconf.train.data.table_rows import TableRows, of_tables

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


def _rows(
    fields: Mapping[str, Any], delimiter: str | None, missing_values: Sequence[str], **others: object
) -> TableRows:
    form = Format(delimiter, missing_values)
    return TableRows(fields_of(fields), lambda file, columns: read_table(file, columns, form), _part)


def _part(table: Table, rows: Tensor, fields: Mapping[str, Tensor]) -> Resident:
    return Resident({name: values[rows] for name, values in fields.items()}, source=Source(table.file, rows))


@provides(**{**of_tables(_rows), "shapes": _table_fields}, paths=("train", "validation", "test"), cacheable=True)
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
    return _rows(fields, delimiter, missing_values).splits(train, validation, test, split_seed, fitted)


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
