"""Rows of several splits as one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from flowconf.train.data.batches import RowStream, batch_of
from flowconf.train.data.collate import Batch, Field, typed_shape
from flowconf.train.data.splits import Resident, Split, place_of_row


def joined(parts: Sequence[Split]) -> Split:
    """The rows of splits, one after the other. Raises `ValueError` for iterable ones, and for different fields."""
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(part, RowStream) for part in parts):
        raise ValueError("an iterable data set cannot be joined with others")
    first = dict(parts[0].fields)
    for part in parts[1:]:
        if dict(part.fields) != first:
            name = next(name for name in {**first, **part.fields} if first.get(name) != part.fields.get(name))
            kinds = " and ".join(_kind(one.fields.get(name)) for one in (parts[0], part))
            raise ValueError(f"the field `{name}` is {kinds} in the sets, and must be the same in all of them")
    if all(isinstance(part, Resident) and part.augment is None for part in parts):
        tensors = {
            name: torch.cat([part.tensors[name] for part in parts if isinstance(part, Resident)]) for name in first
        }
        return Resident(tensors, fields=first, source=_Sources(parts))
    return Joined(parts)


class Joined:
    """Splits with the same fields, one after the other."""

    def __init__(self, parts: Sequence[Split]) -> None:
        self.parts = list(parts)
        self.fields: Mapping[str, Field] = dict(parts[0].fields)
        self.source = _Sources(parts)
        self.boxes: Mapping[str, str] = getattr(parts[0], "boxes", {})

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        numbers = self.source.part_of(rows)
        chosen, found = [], []
        for number, part in enumerate(self.parts):
            (here,) = (numbers == number).nonzero(as_tuple=True)
            if len(here):
                chosen.append(here)
                found.append(batch_of(part, rows[here] - self.source.starts[number], generator))
        back = torch.cat(chosen).argsort()
        return {name: torch.cat([batch[name] for batch in found])[back] for name in found[0]}

    def column(self, name: str) -> Tensor:
        """The values of a field in all rows."""
        return torch.cat([column_of(part, name) for part in self.parts])


class _Sources:
    """Where the rows of several splits come from."""

    def __init__(self, parts: Sequence[Split]) -> None:
        self.parts = parts
        lengths = torch.tensor([len(part) for part in parts])
        self.ends = lengths.cumsum(0)
        self.starts = self.ends - lengths

    def part_of(self, rows: Tensor) -> Tensor:
        """The number of the split of each row."""
        return torch.searchsorted(self.ends, rows, right=True)

    def of(self, row: int) -> tuple[str | None, int]:
        """The file of a row, and its number there."""
        number = int(self.part_of(torch.tensor(row)))
        return place_of_row(self.parts[number], row - int(self.starts[number]))


def column_of(split: Split, name: str) -> Tensor:
    """The values of a field in all rows: from memory, by the split's method `column`, or from all of its batches."""
    if isinstance(split, Resident) and name in split.tensors:
        return split.tensors[name]
    column = getattr(split, "column", None)
    if column is not None:
        found: Tensor = torch.as_tensor(column(name))
        return found
    generator = torch.Generator().manual_seed(0)
    parts = torch.split(torch.arange(len(split)), 1024)
    return torch.cat([batch_of(split, rows, generator)[name] for rows in parts])


def _kind(field: Field | None) -> str:
    return "absent" if field is None else typed_shape(field[1], field[0])
