"""Predictions of a run as plain data, which its report shows: rows as pictures or texts, and confusions of classes."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from flowconf.language.section import Section
from flowconf.language.value_types import Count
from flowconf.text.output import write_atomically
from flowconf.train.runs.log_reader import open_regular
from flowconf.train.runs.media import image_of

FILE = "predictions.json"
LARGEST = 1 << 21
"""The bytes of the file."""
MOST_SHOWN = 32
"""The classes that a confusion shows; of more, those with the most errors, and all others as one."""
MOST_PAIRS = 10
MOST_NUMBERS = 32
"""The numbers of a text."""
MOST_PIXELS = 8192
"""The numbers of a picture; a larger one is made smaller."""
LEAST_SIDE = 8
"""Numbers [n, m] and [n * n] are shown as a picture from this n on."""

Numbers = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=MOST_NUMBERS)]


class Value(Section):
    """A field or a value of a row: a picture, or a text."""

    text: str = ""
    png: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*=*$")] = ""


class Row(Section):
    """A row: the inputs of the graph, what was predicted, and what the target is."""

    inputs: dict[str, Value] = {}
    target: Value
    predicted: Value
    confidence: Numbers = []
    """The probability of each predicted class."""
    right: bool | None = None
    """Whether the predicted classes are those of the target; None without classes."""


class Confusion(Section):
    """How often each class was predicted for each target."""

    classes: list[int]
    """The classes that are shown, and -1 for all others."""
    counts: list[list[Count]]
    """Targets as rows, and predictions as columns, both in the order of `classes`."""
    pairs: list[tuple[int, int, Count]]
    """The most frequent errors: target, prediction, and how often."""
    right: Count
    total: Count
    names: dict[str, str] = {}
    """The names of classes by their numbers, as far as they have any."""


class Compared(Section):
    """A value of the graph that is compared with a field of the data."""

    of: list[str]
    """The losses and metrics that compare them."""
    predicted: str
    target: str
    rows: list[Row] = []
    """The first rows, without their inputs."""
    wrong: list[Row] = []
    """The wrong rows with the highest confidence."""
    confusion: Confusion | None = None


class Shown(Section):
    """The predictions of an evaluation: what is in the file."""

    format: Literal["flowconf predictions"] = "flowconf predictions"
    version: Literal[1] = 1
    split: str
    step: Count
    inputs: list[dict[str, Value]] = []
    """Those of the first rows."""
    tasks: list[Compared]


def write_predictions(folder: Path, found: Shown) -> None:
    """Write predictions into the folder of a run. Raises `OSError`."""
    text = json.dumps(_plain(found), separators=(",", ":"))
    write_atomically(folder / FILE, f"{text}\n".encode())


def read_predictions(folder: Path) -> dict[str, Any] | None:
    """The predictions of a run; None if its folder has no such file, or what is in it is not as flowconf writes it."""
    try:
        with open_regular(folder / FILE) as opened:
            return _plain(Shown.model_validate_json(opened.read(LARGEST)))
    except (OSError, ValueError):
        return None


def _plain(found: Shown) -> dict[str, Any]:
    return {"format": found.format, "version": found.version, **found.model_dump(mode="json", exclude_defaults=True)}


def confusion_of(found: Compared, counts: Tensor, names: Sequence[str] = ()) -> Compared:
    """`found` with its confusion, from the counts [classes * classes] of each target and prediction."""
    number = math.isqrt(len(counts))
    table = counts.view(number, number)
    right = table.diagonal()
    errors = table - torch.diag(right)
    shown, others = _shown(errors)
    order = errors.flatten().argsort(descending=True, stable=True)[:MOST_PAIRS].tolist()
    pairs = [(at // number, at % number, int(errors.view(-1)[at])) for at in order if errors.view(-1)[at] > 0]
    table = _folded(_folded(table, shown, others).T, shown, others).T
    confusion = Confusion(
        classes=[*shown, *([-1] if others else [])],
        counts=table.tolist(),
        pairs=pairs,
        right=int(right.sum()),
        total=int(counts.sum()),
        names={
            str(at): names[at] for at in sorted({*shown, *(at for pair in pairs for at in pair[:2])}) if at < len(names)
        },
    )
    return found.model_copy(update={"confusion": confusion})


def _shown(errors: Tensor) -> tuple[list[int], list[int]]:
    """The classes that are shown, and the others."""
    number = len(errors)
    if number <= MOST_SHOWN:
        return list(range(number)), []
    order = (errors.sum(0) + errors.sum(1)).argsort(descending=True, stable=True).tolist()
    return sorted(order[: MOST_SHOWN - 1]), sorted(order[MOST_SHOWN - 1 :])


def _folded(table: Tensor, shown: list[int], others: list[int]) -> Tensor:
    """The rows that are shown, and the sum of the others."""
    return torch.cat([table[shown], table[others].sum(0, keepdim=True)]) if others else table[shown]


def inputs_of(parts: Mapping[str, Tensor]) -> dict[str, Value]:
    """The inputs of a row, which are named `input NAME`."""
    return {name.removeprefix("input "): shown(value) for name, value in parts.items() if name.startswith("input ")}


def row_of(parts: Mapping[str, Tensor], names: Sequence[str] = ()) -> Row:
    """A row of `target`, `predicted`, and inputs; with a `confidence`, they are class indices, of which some count."""
    target, predicted, inputs = parts["target"], parts["predicted"], inputs_of(parts)
    if "confidence" not in parts:
        return Row(inputs=inputs, target=shown(target), predicted=shown(predicted, target))
    counted = parts["counted"]
    confidence = parts["confidence"].nan_to_num(0.0)[counted].flatten()[:MOST_NUMBERS]
    return Row(
        inputs=inputs,
        target=_text(torch.where(counted, target, -1), names),
        predicted=_text(torch.where(counted, predicted, -1), names),
        confidence=[round(float(one), 4) for one in confidence],
        right=bool((predicted == target)[counted].all()),
    )


def shown(value: Tensor, like: Tensor | None = None) -> Value:
    """A tensor as a picture if it can be one, and otherwise as text; `like` gives the range of the picture."""
    pixels = _pixels(value)
    if pixels is None:
        return _text(value)
    low, high = _range(pixels)
    if like is not None:
        least, most = _range(like.float())
        margin = (most - least) / 2
        if least - margin <= low and high <= most + margin:
            low, high = least, most
    scaled = (pixels - low) / ((high - low) or 1.0)
    return Value(png=b64encode(image_of("", _smaller(scaled), Path()).png).decode())


def _pixels(value: Tensor) -> Tensor | None:
    """A tensor as [channels, height, width], if it can be a picture: 1, 3 or 4 channels, or a matrix of numbers."""
    if value.is_complex() or not (value.is_floating_point() or value.dtype == torch.uint8):
        return None
    value = value.float()
    if value.ndim == 1:
        side = math.isqrt(len(value))
        value = value.view(side, side) if side >= LEAST_SIDE and side * side == len(value) else value
    if value.ndim == 2:
        value = value[None]
    return value if value.ndim == 3 and len(value) in (1, 3, 4) and min(value.shape[1:]) >= LEAST_SIDE else None


def _range(numbers: Tensor) -> tuple[float, float]:
    """The smallest and the largest number; [0, 1] if all are in it."""
    numbers = numbers[numbers.isfinite()]
    low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 1.0)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _smaller(pixels: Tensor) -> Tensor:
    """A picture with at most about `MOST_PIXELS` numbers."""
    scale = math.sqrt(MOST_PIXELS / pixels.numel())
    if scale >= 1:
        return pixels
    size = [max(1, int(side * scale)) for side in pixels.shape[1:]]
    return interpolate(pixels[None], size=size, mode="area")[0]


def _text(value: Tensor, names: Sequence[str] = ()) -> Value:
    """Numbers as text, or the names of classes; class indices below 0 do not count, and are dots."""
    is_index = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    most = MOST_NUMBERS if is_index else MOST_NUMBERS // 4
    numbers = value.flatten()[:most].tolist()
    words = [_name(one, names) if is_index else f"{one:.3g}" for one in numbers]
    more = f" … {value.numel():,} numbers" if value.numel() > most else ""
    return Value(text=" ".join(words) + more)


def _name(number: int, names: Sequence[str]) -> str:
    if number < 0:
        return "·"
    return names[number] if number < len(names) else str(number)
