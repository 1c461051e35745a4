"""Texts as tokens of a tokenizer file: packed into windows, or one row for each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from torch import Tensor

from flowconf.language.value_types import Count, Positive, Share
from flowconf.report import ConfigError, Diagnostic, Place, read_json, suggest
from flowconf.train.data.declarations import Declared, provides
from flowconf.train.data.reading import reading, refuse_missing, refused, required
from flowconf.train.data.splits import Resident, Source, Split, Splits
from flowconf.train.data.table_fields import fields_of
from flowconf.train.data.table_files import Format, Table, read_table
from flowconf.train.data.table_rows import TableRows, of_tables
from flowconf.train.data.text import Windows

__all__ = ["tokens"]

FORM = Format()


def _rows(
    tokenizer: str,
    length: int,
    form: str,
    column: str,
    end: str | None,
    truncate: bool,
    fields: Mapping[str, Any] | None,
    **others: object,
) -> TableRows:
    def part(table: Table, rows: Tensor, beside: Mapping[str, Tensor]) -> Split:
        coder, rows = coder_of(), rows.sort().values
        if form == "packed":
            return coder.packed(table, rows)
        more = {name: values[rows] for name, values in beside.items()}
        return Resident({**coder.padded(table, rows), **more}, source=Source(table.file, rows))

    coder_of = cache(lambda: _Coder(tokenizer, length, end, truncate, column))
    is_padded = form == "padded"

    def made() -> Declared:
        """The fields, with the number of tokens that the tokenizer file says."""
        counted = _vocabulary(tokenizer)
        ids = ((length,), torch.int64, *([counted] if counted else []))
        return {"tokens": ids, **({"mask": ((length,), torch.bool)} if is_padded else {"target": ids})}

    return TableRows(
        fields_of(fields) if fields and is_padded else {},
        lambda file, columns: _texts(file, columns, column),
        part,
        {column: None},
        made,
        {"tokens": "mask"} if is_padded else {},
    )


@provides(**of_tables(_rows), paths=("train", "validation", "test", "tokenizer"), cacheable=True)
def tokens(
    *,
    train: str,
    tokenizer: str,
    length: Positive,
    form: Literal["packed", "padded"] = "packed",
    column: str = "text",
    end: str | None = None,
    truncate: bool = False,
    fields: Mapping[str, Any] | None = None,
    validation: str | Share | None = None,
    test: str | Share | None = None,
    split_seed: Count = 0,
    fitted: Mapping[str, Any] | None = None,
) -> Splits:
    """Texts in the tokens of a `tokenizer.json` of the library `tokenizers`.

    The texts are the lines of a `.txt` file, or a `column` of a table (`.csv`, `.jsonl`, `.parquet`). `packed` joins
    them, with the token `end` after each, and cuts windows of `length`: fields `tokens` and `target`, the same tokens
    shifted by one. `padded` gives a row for each text: `tokens` and `mask`, which is true for those of the text; longer
    texts are errors, or cut with `truncate`. `fields` adds columns of the table to padded rows, as in the data set
    `table`. `validation` and `test` are separate files, or shares of the texts.
    """
    if form == "packed" and fields:
        message = "packed windows have no rows of the table, so `fields` does not apply"
        raise ConfigError(Diagnostic("FC0501", message, path="data.fields", advice="write `form: padded`"))
    rows = _rows(tokenizer, length, form, column, end, truncate, fields)
    return rows.splits(train, validation, test, split_seed, fitted)


def _texts(file: str, columns: Sequence[str], column: str) -> Table:
    """The texts of a file, and the other columns that are needed."""
    if Path(file).suffix != ".txt":
        return read_table(file, columns, FORM)
    refuse_missing(file)
    if len(columns) > 1:
        raise refused(f"`{file}` has no columns, only lines of text", file, "save the texts as a table")
    with reading(file):
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not kept:
        raise refused(f"`{file}` has no lines of text", file)
    return Table(file, {column: [line for _, line in kept]}, [number for number, _ in kept])


class _Coder:
    """Encodes texts by a tokenizer file."""

    def __init__(self, file: str, length: int, end: str | None, truncate: bool, column: str) -> None:
        self.file, self.length, self.truncate, self.column = file, length, truncate, column
        self.tokenizer = _tokenizer(file)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.end = None if end is None else self._id(end)

    def packed(self, table: Table, rows: Tensor) -> Split:
        """Windows of the texts, one after the other."""
        found: list[int] = []
        for ids in self._encoded(table, rows):
            found += ids if self.end is None else [*ids, self.end]
        windows = Windows([numpy.array(found, dtype="int32")], self.length, self.length)
        if not len(windows):
            message = f"`{table.file}` has {len(found):,} tokens here, and a window needs {self.length} + 1"
            raise refused(message, table.file, "write a smaller `length`, or use more text")
        return windows

    def padded(self, table: Table, rows: Tensor) -> dict[str, Tensor]:
        """A row for each text, filled with zeros, and where its tokens are."""
        tokens = torch.zeros(len(rows), self.length, dtype=torch.int64)
        mask = torch.zeros(len(rows), self.length, dtype=torch.bool)
        room = self.length - (self.end is not None)
        for number, (row, whole) in enumerate(zip(rows.tolist(), self._encoded(table, rows), strict=True)):
            ids = whole[:room] if self.truncate else whole
            ids = ids if self.end is None else [*ids, self.end]
            if len(ids) > self.length:
                message = f"the text in row {row:,} of `{table.file}` has {len(ids):,} tokens, more than {self.length}"
                place = table.place(row, self.column)
                advice = f"write `length: {len(ids)}`, or `truncate: true` to cut longer texts"
                raise ConfigError(Diagnostic("FC0501", message, place, "data.length", advice=advice))
            tokens[number, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            mask[number, : len(ids)] = True
        return {"tokens": tokens, "mask": mask}

    def _encoded(self, table: Table, rows: Tensor) -> list[list[int]]:
        cells = table.columns[self.column]
        chosen = [cells[row] for row in rows.tolist()]
        for row, text in zip(rows.tolist(), chosen, strict=True):
            if not isinstance(text, str):
                got = "nothing" if text is None else f"`{text}`"
                message = f"`{self.column}` must be text, got {got} in row {row:,} of `{table.file}`"
                raise ConfigError(Diagnostic("FC0501", message, table.place(row, self.column), "data.column"))
        return [encoding.ids for encoding in self.tokenizer.encode_batch(chosen)]

    def _id(self, token: str) -> int:
        found: int | None = self.tokenizer.token_to_id(token)
        if found is None:
            names = sorted(self.tokenizer.get_added_tokens_decoder().items())
            advice = suggest(token, [added.content for _, added in names], "special tokens")
            message = f"`{self.file}` has no token `{token}`"
            raise ConfigError(Diagnostic("FC0501", message, path="data.end", advice=advice))
        return found


def _tokenizer(file: str) -> Any:
    """The tokenizer of a file. Raises `ConfigError`, and `MachineError` without the library."""
    library = required("tokenizers", "the data set `tokens` requires the package `tokenizers`", "text")
    try:
        return library.Tokenizer.from_file(file)
    except Exception as problem:  # noqa: BLE001 - the library raises plain exceptions
        message = f"`{file}` is not a tokenizer file of the library `tokenizers`: {problem}"
        raise ConfigError(Diagnostic("FC0501", message, Place(file), "data")) from None


def _vocabulary(file: str) -> int:
    """The number of tokens that a tokenizer file says; 0 if that is only known once it is loaded."""
    try:
        found = read_json(Path(file))
        known = found["model"]["vocab"]
        numbers = list(known.values()) if isinstance(known, dict) else [*range(len(known))]
        added = [token["id"] for token in found.get("added_tokens", [])]
        return 1 + max(int(number) for number in (*numbers, *added))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return 0
