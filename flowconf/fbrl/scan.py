"""From any picture of text to its ink: lines of it, each cut to its rows.

Text may have any colour on any even background, light or dark, and any size; a background that changes slowly, as on a
photograph or a scan, is subtracted. Lines must be level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from flowconf.report import ConfigError, Diagnostic, Place
from flowconf.train.data.collate import scaled
from flowconf.train.data.decoding import Decoder, Flaw

BLOCK = 64
"""The size in pixels of the parts of an image for which the background is estimated."""
FAINT = 0.1
"""The least difference between text and background, of 1."""
INKED = 0.25
"""The ink of a pixel and its neighbours, from which on it belongs to a letter."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text: its ink [h, w] in [0, 1], cut to its rows and columns, and where that is in the picture."""

    ink: Tensor
    top: int
    left: int


@dataclass(frozen=True, slots=True)
class Scan:
    """The lines of a picture from top to bottom, its height and width, and whether its text is dark."""

    lines: list[TextLine]
    size: tuple[int, int]
    is_dark: bool

    @property
    def look(self) -> str:
        return "dark text on light" if self.is_dark else "light text on dark"


def scan(file: Path) -> Scan:
    """The lines of text in an image file. Raises `ConfigError` for a file without any, or that is no image."""
    try:
        picture = scaled(Decoder(3, None)(file))
    except Flaw as flaw:
        raise ConfigError(Diagnostic("FC0501", f"`{file}` {flaw}", Place(str(file)))) from None
    background = _background(picture)
    ink = (picture - background).abs().amax(dim=0)
    strongest = ink.flatten().topk(max(1, ink.numel() // 1000)).values.mean()
    if strongest < FAINT:
        raise _no_text(file, "all pixels are of nearly the same colour")
    inked = avg_pool2d(ink[None], 3, 1, 1)[0] > INKED * strongest
    lines = []
    for top, bottom in _lines(inked):
        columns = inked[top:bottom].any(dim=0).nonzero().flatten()
        left, right = int(columns[0]), int(columns[-1]) + 1
        lines.append(TextLine((ink[top:bottom, left:right] / strongest).clamp(0, 1), top, left))
    if not lines:
        raise _no_text(file, "nothing in it is as large as a letter")
    dark = (picture - background).sum(dim=0)[inked].sum() < 0
    return Scan(lines, (picture.shape[1], picture.shape[2]), bool(dark))


def _background(picture: Tensor) -> Tensor:
    """The colour of the background at every pixel of `picture` [3, H, W]: medians of blocks, interpolated."""
    height, width = picture.shape[1:]
    rows, columns = max(1, height // BLOCK), max(1, width // BLOCK)
    medians = torch.empty(3, rows, columns)
    for row, strip in enumerate(picture.tensor_split(rows, dim=1)):
        for column, block in enumerate(strip.tensor_split(columns, dim=2)):
            medians[:, row, column] = block.flatten(1).median(dim=1).values
    return interpolate(medians[None], (height, width), mode="bilinear", align_corners=False)[0]


def runs(marked: Tensor) -> list[tuple[int, int]]:
    """The first index of each run of true values in `marked` [n], and the one after its last."""
    edges = torch.diff(
        marked.int(), prepend=torch.zeros(1, dtype=torch.int32), append=torch.zeros(1, dtype=torch.int32)
    )
    return list(zip((edges == 1).nonzero().flatten().tolist(), (edges == -1).nonzero().flatten().tolist(), strict=True))


def _lines(inked: Tensor) -> Iterator[tuple[int, int]]:
    """The rows of each line: runs of inked rows. Dots above letters belong to them, and specks are left out."""
    found = runs(inked.any(dim=1))
    tallest = max((bottom - top for top, bottom in found), default=0)
    joined: list[tuple[int, int]] = []
    for top, bottom in found:
        if joined and joined[-1][1] - joined[-1][0] < tallest / 3 and top - joined[-1][1] < (bottom - top) / 2:
            joined[-1] = (joined[-1][0], bottom)
        else:
            joined.append((top, bottom))
    return ((top, bottom) for top, bottom in joined if bottom - top >= max(4, tallest / 4))


def _no_text(file: Path, why: str) -> ConfigError:
    return ConfigError(Diagnostic("FC0501", f"there is no text in `{file}`: {why}", Place(str(file))))
