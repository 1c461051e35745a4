"""Fields made of the columns of a table: numbers, integers and categories, and what training rows determine of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from flowconf.language.keys.validate import validate
from flowconf.language.section import Section
from flowconf.language.training import PRESENT
from flowconf.language.value_types import Positive
from flowconf.report import Advice, ConfigError, Diagnostic, Label, Place, Reporter, nearest
from flowconf.train.data.declarations import Declared
from flowconf.train.data.splits import classes_in
from flowconf.train.data.table_files import Table
from flowconf.train.data.table_lists import flat, lists_of, shown, text_of, too_large

Fitted = dict[str, dict[str, Any]]
"""Field -> what the training rows determine of it, as plain data: `mean` and `std` of its columns, or `categories`."""


class TableField(Section):
    """A field of a table's rows: a column, or several columns of numbers as one vector."""

    columns: Any = None
    """A column, whose values are scalars, or a list of columns, whose values are a vector; null: the field's name."""
    type: Literal["number", "integer", "category"] = "number"
    """`number` is float32, `integer` int64, and `category` the int64 index of a value among all values."""
    categories: list[Any] | None = Field(None, min_length=1)
    """All values of a `category`, in order; null: those of the training rows, sorted."""
    pad: list[Positive] | None = Field(None, min_length=1)
    """Of a column of lists: the largest length, followed by the sizes of the items. Shorter lists are filled with
    zeros, and the boolean field `NAME_present` [length] says where there is an item."""
    standardize: bool = False
    """Subtract the mean of the training rows, and divide by their standard deviation."""
    missing: Literal["mask", "mean", "category"] | None = None
    """For missing values: `mask` adds a boolean field `NAME_present`, and the value is 0; `mean` is that of the
    training rows; `category` is one more category, which unknown values have too; null: they are errors."""

    @property
    def names(self) -> list[str]:
        """The columns."""
        return list(self.columns) if isinstance(self.columns, list) else [self.columns]

    @property
    def is_masked(self) -> bool:
        """Whether a field `NAME_present` says where it has a value."""
        return self.missing == "mask" or self.pad is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the field in a row."""
        if self.pad is not None:
            return tuple(self.pad)
        return (len(self.columns),) if isinstance(self.columns, list) else ()


def fields_of(written: object) -> dict[str, TableField]:
    """The fields of a table as they are written in a config. Raises `ConfigError` with all mistakes."""
    reporter = Reporter(base=("data", "fields"))
    if not isinstance(written, Mapping) or not written:
        reporter.error("FC0123", "`data.fields` must be a mapping of fields, such as `{price: price}`")
        reporter.stop_on_errors()
    assert isinstance(written, Mapping)
    found: dict[str, TableField] = {}
    for name, given in written.items():
        below = reporter.below((name,))
        section = validate(TableField, _whole(name, given), below)
        if not str(name).isidentifier():
            below.error("FC0123", f"the field `{name}` must be a name: letters, digits and `_`")
        elif section is not None:
            found[name] = section
            _check(name, section, below)
    for name, section in found.items():
        if section.is_masked and name + PRESENT in found:
            message = f"`{name}{PRESENT}` is the mask of `{name}` already"
            reporter.error("FC0123", message, at=(name + PRESENT,), advice="rename the field")
    reporter.stop_on_errors()
    return found


def declare(sections: Mapping[str, TableField], fitted: Mapping[str, Any] | None = None) -> Declared:
    """The shape and type of each field, with the number of categories where it is known."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, section in sections.items():
        known = section.categories or classes_in(fitted).get(name)
        dtype = torch.float32 if section.type == "number" else torch.int64
        counted = (len(known) + (section.missing == "category"),) if known else ()
        found[name] = (section.shape, dtype, *counted)
        if section.is_masked:
            found[name + PRESENT] = (section.shape if section.pad is None else section.shape[:1], torch.bool)
    return found


def fit(sections: Mapping[str, TableField], table: Table, rows: Tensor) -> Fitted:
    """The properties of each field that the training rows of a table determine. Raises `ConfigError`."""
    found: Fitted = {}
    for name, section in sections.items():
        if section.type == "category":
            found[name] = {"categories": _categories(name, section, table, rows)}
        elif section.standardize or section.missing == "mean":
            found[name] = _moments(name, section, table, rows)
    return found


def refuse_changed(fitted: Mapping[str, Any], sections: Mapping[str, TableField]) -> Mapping[str, Any]:
    """What the run has fitted. Raises `ConfigError` for a field whose columns have changed since."""
    for name, section in sections.items():
        known = fitted.get(name, {})
        needs = section.type == "category" or section.standardize or section.missing == "mean"
        if needs and (not known or known.get("columns", section.names) != section.names):
            message = f"the run was trained without a field `{name}` of {', '.join(f'`{c}`' for c in section.names)}"
            advice = "fields that depend on training rows cannot be changed afterwards"
            raise ConfigError(Diagnostic("FC0501", message, path=f"data.fields.{name}", advice=advice))
    return fitted


def tensors_of(sections: Mapping[str, TableField], table: Table, fitted: Mapping[str, Any]) -> dict[str, Tensor]:
    """All rows of the fields [rows, ...]. Raises `ConfigError` for a cell that is missing or has no such value."""
    found: dict[str, Tensor] = {}
    for name, section in sections.items():
        known = fitted.get(name, {})
        if section.pad is not None:
            (column,), known_ones = section.names, known.get("categories")
            lists = lists_of(name, section.type, column, section.shape, table, known_ones)
            found[name], found[name + PRESENT] = lists
            continue
        if section.type == "category":
            columns = [_indices(name, section, table, column, known) for column in section.names]
        else:
            columns = [_numbers(section, table, column) for column in section.names]
        values = numpy.stack([values for values, _ in columns], 1)
        present = numpy.stack([present for _, present in columns], 1)
        if section.missing is None and not present.all():
            raise _missing(name, section, table, present)
        if known.get("mean") is not None:
            values = _scaled(section, values, present, known)
        tensor = torch.from_numpy(values.astype("float32" if section.type == "number" else "int64"))
        found[name] = tensor if section.shape else tensor[:, 0]
        if section.missing == "mask":
            mask = torch.from_numpy(present)
            found[name + PRESENT] = mask if section.shape else mask[:, 0]
    return found


def _whole(name: object, given: object) -> object:
    """A field in its long form: null, a column or a list of columns are short for a mapping."""
    if given is None or isinstance(given, str | list):
        given = {"columns": given}
    if isinstance(given, Mapping) and given.get("columns") is None:
        return {**given, "columns": name}
    return given


def _check(name: str, section: TableField, reporter: Reporter) -> None:
    """Report settings of a field that exclude each other."""
    columns = section.columns
    texts = columns if isinstance(columns, list) else [columns]
    if not texts or not all(isinstance(text, str) for text in texts):
        reporter.error("FC0123", f"`columns` must be a column or a list of columns, got `{columns!r}`", at=("columns",))
    if section.pad is not None:
        for key in ("standardize", "missing"):
            if getattr(section, key):
                reporter.error("FC0123", f"`{key}` does not apply to lists", at=(key,), advice="remove it")
        if isinstance(section.columns, list):
            reporter.error("FC0123", "a field of lists has one column", at=("columns",), advice="write its name")
        return
    allowed = {"number": ("mask", "mean"), "integer": ("mask",), "category": ("mask", "category")}[section.type]
    if section.missing is not None and section.missing not in allowed:
        kinds = " or ".join(f"`{one}`" for one in allowed)
        message = f"`missing: {section.missing}` does not apply to a field of type `{section.type}`"
        reporter.error("FC0123", message, at=("missing",), advice=f"write {kinds}")
    if section.standardize and section.type != "number":
        message = f"`standardize` applies only to fields of type `number`, and this one is of type `{section.type}`"
        reporter.error("FC0123", message, at=("standardize",), advice="remove it")
    if section.categories is not None and section.type != "category":
        message = f"`categories` applies only to fields of type `category`, and this one is of type `{section.type}`"
        reporter.error("FC0123", message, at=("categories",), advice="write `type: category`")
    known = [text_of(value) for value in section.categories or ()]
    if len(set(known)) < len(known):
        twice = next(one for number, one in enumerate(known) if one in known[:number])
        reporter.error("FC0123", f"duplicate category `{twice}`", at=("categories",))


# numbers


def _numbers(section: TableField, table: Table, column: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The numbers of a column, 0 where they are missing, and where they are present."""
    cells: Any = table.columns[column]
    read = float if section.type == "number" else _integer
    if isinstance(cells, numpy.ndarray) and section.type == "number":
        found = cells.astype("float64")
    else:
        try:
            found = numpy.array([read(0 if _is_missing(cell) else cell) for cell in cells])
        except (TypeError, ValueError, OverflowError):
            raise _no_number(section, table, column) from None
    for row in numpy.flatnonzero(too_large(found)) if section.type == "number" else ():
        raise _refused_number(table, column, int(row), "within the range of float32")
    present = ~(numpy.isnan(found) | numpy.array([_is_missing(cell) for cell in cells]))
    return numpy.where(present, found, 0), present


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell)


def _integer(cell: Any) -> int:
    """A cell as an integer. Raises `ValueError`."""
    found = int(cell)
    if isinstance(cell, float) and found != cell:
        raise ValueError
    if not -(2**63) <= found < 2**63:
        raise ValueError
    return found


def _no_number(section: TableField, table: Table, column: str) -> ConfigError:
    """The error for the first cell that is no number."""
    kind = "an integer" if section.type == "integer" else "a number"
    read = _integer if section.type == "integer" else float
    for row, cell in enumerate(table.columns[column]):
        try:
            read(0 if _is_missing(cell) else cell)
        except (TypeError, ValueError, OverflowError):
            message = f"`{column}` must be {kind}, got `{shown(cell)}` in row {row:,} of `{table.file}`"
            advice: Advice = "write `type: category` for values that are no numbers"
            if isinstance(cell, str) and cell.strip().lower() in ("na", "n/a", "nan", "null", "none", "?", "-", ""):
                advice = f"if it is a missing value, write `missing_values: ['', {json.dumps(cell)}]` in `data`"
            return _refused(message, table.place(row, column), advice)
    return _refused(f"`{column}` of `{table.file}` must be {kind}", Place(table.file))


def _refused_number(table: Table, column: str, row: int, wanted: str) -> ConfigError:
    cell = table.columns[column][row]
    message = f"`{column}` must be {wanted}, got `{shown(cell)}` in row {row:,} of `{table.file}`"
    return _refused(message, table.place(row, column), "replace such values in the data, or remove their rows")


def _moments(name: str, section: TableField, table: Table, rows: Tensor) -> dict[str, Any]:
    """The mean and, if it is needed, the standard deviation of each column of a field in some rows."""
    means, stds = [], []
    for column in section.names:
        values, present = _numbers(section, table, column)
        for row in numpy.flatnonzero(numpy.isinf(values)):
            raise _refused_number(table, column, int(row), f"finite, because `{name}` needs its mean")
        own = values[rows.numpy()][present[rows.numpy()]].astype("float64")
        if not own.size:
            message = f"`{column}` of `{table.file}` has no value in the training rows, so `{name}` has no mean"
            raise _refused(message, Place(table.file))
        means.append(float(own.mean()))
        stds.append(float(own.std()) or 1.0)
    return {"columns": section.names, "mean": means, **({"std": stds} if section.standardize else {})}


def _scaled(section: TableField, values: NDArray[Any], present: NDArray[Any], known: Mapping[str, Any]) -> NDArray[Any]:
    """Numbers [rows, columns], standardized where the field says so; missing ones are the mean, or 0 with a mask."""
    mean = numpy.array(known["mean"])
    filled = numpy.where(present, values, mean)
    if section.standardize:
        filled = (filled - mean) / numpy.array(known["std"])
    return filled if section.missing == "mean" else numpy.where(present, filled, 0)


# categories


def _categories(name: str, section: TableField, table: Table, rows: Tensor) -> list[str]:
    """The values of a category: those that the config lists, or those of the training rows, sorted."""
    if section.categories is not None:
        return [text_of(value) for value in section.categories]
    chosen = rows.tolist()
    cells = [table.columns[column] for column in section.names]
    values = [column[row] for column in cells for row in chosen if column[row] is not None]
    if section.pad is not None:
        values = [item for value in values for item in flat(value)]
    found = {text_of(value) for value in values}
    if not found:
        message = (
            f"`{section.names[0]}` of `{table.file}` has no value in the training rows, so `{name}` has no categories"
        )
        raise _refused(message, Place(table.file))
    try:
        return sorted(found, key=float)
    except ValueError:
        return sorted(found)


def _indices(
    name: str, section: TableField, table: Table, column: str, known: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The index of the category of each cell of a column, and where there is one."""
    categories = known["categories"]
    numbers = {text: number for number, text in enumerate(categories)}
    other = len(categories) if section.missing == "category" else 0
    found = []
    for row, cell in enumerate(table.columns[column]):
        text = None if cell is None else text_of(cell)
        if text is not None and text not in numbers and section.missing != "category":
            message = f"`{shown(cell)}` in row {row:,} of `{table.file}` is no category of `{name}`"
            close = nearest(text, categories)
            advice = "write `missing: category` to take unknown values as one more category, or list all `categories`"
            labels = (Label(f"the training rows have `{close}`", Place()),) if close else ()
            raise _refused(message, table.place(row, column), advice, labels)
        found.append(other if text is None else numbers.get(text, other))
    return numpy.array(found), numpy.array([cell is not None for cell in table.columns[column]])


def _missing(name: str, section: TableField, table: Table, present: NDArray[Any]) -> ConfigError:
    """The error for the first missing value of a field."""
    row, number = (int(index) for index in numpy.argwhere(~present)[0])
    column, count = section.names[number], int((~present).any(1).sum())
    message = f"`{column}` is missing in row {row:,} of `{table.file}`"
    more = f"{count:,} of {len(table):,} rows lack a value of `{name}`"
    way = "`missing: category`" if section.type == "category" else "`missing: mean` for an input"
    advice = f"write `missing: mask` for a target, and `mask: {name}{PRESENT}` in its losses and metrics; {way}"
    return _refused(message, table.place(row, column), advice, (Label(more, Place()),) if count > 1 else ())


def _refused(message: str, place: Place, advice: Advice | None = None, labels: Sequence[Label] = ()) -> ConfigError:
    return ConfigError(Diagnostic("FC0501", message, place, "data", tuple(labels), advice=advice))
