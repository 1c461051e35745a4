"""Images that a table lists, with masks and columns beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from flowconf.language.training import PRESENT
from flowconf.language.value_types import Count, Positive, Share
from flowconf.report import ConfigError, Diagnostic, suggest
from flowconf.train.data.boxes import BoxFormat, have_area, scaled_boxes
from flowconf.train.data.collate import Batch, Field, scaled
from flowconf.train.data.declarations import Declared, provides
from flowconf.train.data.decoding import Decoder, MaskDecoder, decoded, examined, refuse_flaws
from flowconf.train.data.reading import refused
from flowconf.train.data.splits import Source, Splits
from flowconf.train.data.table_fields import TableField, fields_of
from flowconf.train.data.table_files import Format, Table, read_table
from flowconf.train.data.table_rows import TableRows, of_tables

__all__ = ["annotated_images"]

FORM = Format()


def _rows(
    size: Sequence[int],
    image: str,
    mask: str | None,
    classes: int | None,
    channels: int,
    folder: str | None,
    fields: Mapping[str, Any] | None,
    boxes: Mapping[str, BoxFormat] | None,
    **others: object,
) -> TableRows:
    def part(table: Table, rows: Tensor, beside: Mapping[str, Tensor]) -> _Annotated:
        rows = rows.sort().values
        base = Path(folder or Path(table.file).parent)
        files = {column: _files(table, column, rows, base) for column in of_files if column in table.columns}
        formats = {name: form for name, form in (boxes or {}).items() if name in beside}
        for name, form in formats.items():
            _refuse_without_area(table, sections[name].names[0], beside[name], beside[name + PRESENT], form)
        return _Annotated(
            files[image],
            files.get(mask or ""),
            {field: values[rows] for field, values in beside.items()},
            (size[0], size[1]),
            channels,
            classes,
            formats,
            Source(table.file, rows),
        )

    of_files = {image: "image", **({} if mask in (None, image) else {mask: "mask"})}
    sections = fields_of(fields) if fields else {}

    def made() -> Declared:
        pixels: Declared = {"mask": (tuple(size), torch.int64, *([classes] if classes else []))} if mask else {}
        return {"image": ((channels, *size), torch.float32), **pixels}

    return TableRows(sections, lambda file, columns: read_table(file, columns, FORM), part, of_files, made)


@provides(**of_tables(_rows), paths=("train", "validation", "test", "folder"), cacheable=True)
def annotated_images(
    *,
    train: str,
    size: tuple[Positive, Positive],
    image: str = "image",
    mask: str | None = None,
    classes: Positive | None = None,
    channels: Literal[1, 3] = 3,
    folder: str | None = None,
    fields: Mapping[str, Any] | None = None,
    boxes: Mapping[str, BoxFormat] | None = None,
    validation: str | Share | None = None,
    test: str | Share | None = None,
    split_seed: Count = 0,
    fitted: Mapping[str, Any] | None = None,
) -> Splits:
    """Images that a table lists (`.csv`, `.jsonl`, `.parquet`), with masks, boxes, labels or targets beside them.

    The column `image` has the files, relative to `folder` (null: that of the table). Fields: `image` [channels, H, W]
    in [0, 1], resized to `size` [H, W]; `mask` int64 [H, W] with the class of each pixel, of the files in the column
    that `mask` names, of which there may be `classes`; and `fields`, columns as in the data set `table`. `boxes` names
    fields with `pad: [N, 4]` that are boxes in pixels of the image file, as `xyxy`, `xywh` or `cxcywh`: they are scaled
    to `size`, and augmented with the image. `validation` and `test` are separate tables, or shares of the rows of
    `train`.
    """
    rows = _rows(size, image, mask, classes, channels, folder, fields, boxes)
    _check_boxes(boxes or {}, rows.fields)
    taken = next((name for name in ("image", "mask") if name in (fields or {})), None)
    if taken is not None:
        message = f"the field `{taken}` is that of the files already"
        raise ConfigError(Diagnostic("FC0501", message, path=f"data.fields.{taken}", advice="rename it"))
    found = rows.splits(train, validation, test, split_seed, fitted)
    made: list[Any] = [split for _, split in found.named()]
    files = dict.fromkeys(file for split in made for file in split.read_from)
    results = examined(list(files))
    refuse_flaws(results, len(results), Path(train))
    return found


class _Annotated:
    """Images that are decoded batch by batch, with the fields beside them."""

    def __init__(
        self,
        files: Sequence[Path],
        masks: Sequence[Path] | None,
        beside: Mapping[str, Tensor],
        size: tuple[int, int],
        channels: int,
        classes: int | None,
        boxes: Mapping[str, BoxFormat],
        source: Source,
    ) -> None:
        self.files, self.masks, self.beside, self.classes, self.source = files, masks, dict(beside), classes, source
        self.boxes, self.size = boxes, size
        self.read_from = [*files, *(masks or ())]
        self.decoder, self.mask_decoder = Decoder(channels, size), MaskDecoder(size)
        self.fields: Mapping[str, Field] = {
            "image": ((channels, *size), torch.float32),
            **({} if masks is None else {"mask": (size, torch.int64)}),
            **{name: (tuple(values.shape[1:]), values.dtype) for name, values in beside.items()},
        }

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        numbers = rows.tolist()
        images = [decoded(self.decoder.with_size, self.files[row]) for row in numbers]
        found = {"image": torch.stack([scaled(image) for image, _ in images])}
        if self.masks is not None:
            found["mask"] = torch.stack([self._mask(self.masks[row]) for row in numbers])
        found |= {name: values[rows] for name, values in self.beside.items()}
        for name in self.boxes:
            boxes = zip(found[name], images, strict=True)
            found[name] = torch.stack([scaled_boxes(some, before, self.size) for some, (_, before) in boxes])
        return found

    def column(self, name: str) -> Tensor:
        """The values of a field beside the images in all rows. Raises `ValueError` for images and masks."""
        if name not in self.beside:
            raise ValueError(f"rows can be drawn by a field of the table, and not by `{name}`")
        return self.beside[name]

    def _mask(self, file: Path) -> Tensor:
        found = decoded(self.mask_decoder, file)
        largest = int(found.max())
        if self.classes is not None and largest >= self.classes:
            message = f"`{file}` has a pixel of class {largest}, and there are {self.classes} classes"
            raise refused(message, str(file), "write a larger `classes`")
        return found


def _check_boxes(boxes: Mapping[str, BoxFormat], fields: Mapping[str, TableField]) -> None:
    """Raise `ConfigError` for fields that cannot be boxes."""
    for name in boxes:
        path, field = f"data.boxes.{name}", fields.get(name)
        if field is None:
            message, advice = f"`fields` has no field `{name}`", suggest(name, fields, "fields")
            raise ConfigError(Diagnostic("FC0501", message, path=path, advice=advice))
        if field.type != "number" or field.pad is None or len(field.pad) != 2 or field.pad[1] != 4:
            message = f"boxes are numbers with `pad: [N, 4]`, and `{name}` has `type: {field.type}`, `pad: {field.pad}`"
            raise ConfigError(Diagnostic("FC0501", message, path=path))


def _refuse_without_area(table: Table, column: str, boxes: Tensor, present: Tensor, form: BoxFormat) -> None:
    """Raise `ConfigError` for a box without an area, which is one in another format."""
    wrong = (present & ~have_area(boxes, form)).nonzero().tolist()
    if wrong:
        row, number = wrong[0]
        box = ", ".join(f"{value:g}" for value in boxes[row, number].tolist())
        message = f"the box [{box}] has no area as `{form}`, in row {row:,} of `{table.file}`"
        raise ConfigError(Diagnostic("FC0501", message, table.place(row, column), "data"))


def _files(table: Table, column: str, rows: Tensor, folder: Path) -> list[Path]:
    """The files that a column names. Raises `ConfigError` for a cell without a name, and for missing files."""
    found = []
    for row in rows.tolist():
        cell = table.columns[column][row]
        file = folder / str(cell)
        if not isinstance(cell, str) or not file.is_file():
            what = f"there is no file `{file}`" if isinstance(cell, str) else f"`{column}` has no file"
            message = f"{what}, in row {row:,} of `{table.file}`"
            advice = "files are relative to the folder of the table, or to `folder`"
            raise ConfigError(Diagnostic("FC0501", message, table.place(row, column), "data", advice=advice))
        found.append(file)
    return found
