"""Rows of tables as splits: what the data sets that read tables share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowconf.language.training import PRESENT
from flowconf.train.data.declarations import Declared, Masks
from flowconf.train.data.splits import Split, Splits
from flowconf.train.data.table_fields import TableField, declare, fit, refuse_changed, tensors_of
from flowconf.train.data.table_files import Table, divided

Part = Callable[[Table, Tensor, Mapping[str, Tensor]], Split]
"""Makes a split of rows of a table (int64), and of the fields of all of its rows."""


@dataclass(frozen=True)
class TableRows:
    """The fields and further columns that a data set takes from tables."""

    fields: Mapping[str, TableField]
    read: Callable[[str, Sequence[str]], Table]
    """Reads columns of a file."""
    part: Part
    others: Mapping[str, str | None] = field(default_factory=dict)
    """Columns that are read besides those of the fields, and the field that needs each; None: always."""
    made: Callable[[], Declared] = dict
    """The fields that the data set makes besides."""
    masks: Mapping[str, str] = field(default_factory=dict)
    """The masks of these."""

    def splits(
        self,
        train: str,
        validation: str | float | None,
        test: str | float | None,
        split_seed: int,
        fitted: Mapping[str, Any] | None,
    ) -> Splits:
        """The splits: other files, or shares of the training rows. Raises `ConfigError`."""
        parts = divided(self._table, train, validation, test, split_seed)
        known = fit(self.fields, *parts["train"]) if fitted is None else refuse_changed(fitted, self.fields)
        values = {id(table): tensors_of(self.fields, table, known) for table, _ in parts.values()}
        found = {name: self.part(table, rows, values[id(table)]) for name, (table, rows) in parts.items()}
        return Splits(found["train"], found.get("validation"), found.get("test"), dict(known) if self.fields else None)

    def of_file(self, file: str, needed: Collection[str], fitted: Mapping[str, Any] | None) -> Split:
        """All rows of another file, with no other fields than the `needed` ones. Raises `ConfigError`."""
        fields = {name: one for name, one in self.fields.items() if name in needed or name + PRESENT in needed}
        others = {column: name for column, name in self.others.items() if name is None or name in needed}
        table = TableRows(fields, self.read, self.part, others)._table(file)
        return self.part(table, torch.arange(len(table)), tensors_of(fields, table, fitted or {}))

    def _table(self, file: str) -> Table:
        columns = (column for one in self.fields.values() for column in one.names)
        return self.read(file, list(dict.fromkeys([*self.others, *columns])))


def of_tables(rows: Callable[..., TableRows]) -> dict[str, Any]:
    """What `provides` takes, for a function from the arguments of a data set to its rows of tables."""

    def shapes(fitted: Mapping[str, Any] | None, **args: Any) -> Declared:
        found = rows(**args)
        return {**found.made(), **declare(found.fields, fitted)}

    def masks(**args: Any) -> Masks:
        found = rows(**args)
        return {**found.masks, **{name: name + PRESENT for name, one in found.fields.items() if one.is_masked}}

    def of_file(file: str, needed: Collection[str], /, fitted: Mapping[str, Any] | None, **args: Any) -> Split:
        return rows(**args).of_file(file, needed, fitted)

    return {"shapes": shapes, "masks": masks, "rows": of_file}
