"""Rendered letters and words, in fonts from pip packages.

Pillow draws each letter of a font once, with its basic layout. Advances are then whole pixels, and there are no
ligatures and no kerning that depends on the machine, so a word is assembled from its letters without drawing again.
Images are uint8, with white ink (255) on black (0).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowconf.report import ConfigError, Diagnostic, MachineError, suggest

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FONTS: dict[str, tuple[str, str]] = {
    "amatic_sc": ("font-amatic-sc", "AmaticSC-Regular.ttf"),
    "caladea": ("font-caladea", "Caladea-Regular.ttf"),
    "fjallaone": ("font-fjallaone", "FjallaOne-Regular.ttf"),
    "fredoka_one": ("font-fredoka-one", "FredokaOne-Regular.ttf"),
    "hanken_grotesk": ("font-hanken-grotesk", "HankenGrotesk-Regular.otf"),
    "intuitive": ("font-intuitive", "Intuitive.ttf"),
    "lato": ("font-lato", "Lato-Regular.ttf"),
    "manrope": ("font-manrope", "Manrope-Regular.ttf"),
    "roboto": ("font-roboto", "Roboto-Regular.ttf"),
    "source_sans_pro": ("font-source-sans-pro", "SourceSansPro-Regular.ttf"),
    "source_serif_pro": ("font-source-serif-pro", "SourceSerifPro-Regular.ttf"),
}
"""Name -> (distribution, file in it)."""

INSTALL = 'install it with `pip install "flowconf[fbrl]"`'


def font_file(name: str) -> Path:
    """The file of the font `name`. Raises `ConfigError` for an unknown name, `MachineError` if it is not installed."""
    if name not in FONTS:
        raise ConfigError(
            Diagnostic("FC0501", f"unknown font `{name}`", path="data.fonts", advice=suggest(name, FONTS, "fonts"))
        )
    package, file = FONTS[name]
    try:
        listed = distribution(package).files or []
    except PackageNotFoundError:
        listed = []
    for entry in listed:
        if entry.name == file:
            return Path(str(entry.locate()))
    raise MachineError(Diagnostic("FC0601", f"the font package `{package}` is not installed", advice=INSTALL))


@dataclass(frozen=True, slots=True)
class Glyph:
    """One letter of a font. `ink` [height, width] is cropped to its inked columns; `left` is their offset from the
    pen, and `advance` the distance that the pen moves, both in pixels."""

    ink: Tensor
    left: int
    advance: int


class Face:
    """The `characters` of a font at a size (in pixels), on strips of the given height.

    Strips are centred vertically on the ink of all letters together, so that all letters share a baseline.
    """

    def __init__(self, name: str, size: int, height: int, characters: str = ascii_lowercase) -> None:
        font = _open(font_file(name), size)
        drawn = {letter: _draw(font, letter, size) for letter in characters}
        top = min(int(pixels.any(dim=1).nonzero()[0]) for pixels in drawn.values())
        bottom = max(int(pixels.any(dim=1).nonzero()[-1]) for pixels in drawn.values()) + 1
        if bottom - top > height:
            message = f"`{name}` at {size} px requires {bottom - top} rows, but the image has {height}"
            raise ConfigError(Diagnostic("FC0123", message, path="data.font_size"))
        above = (height - (bottom - top)) // 2
        strip = slice(above, above + bottom - top)
        self.letters: dict[str, Glyph] = {}
        for letter, pixels in drawn.items():
            inked = pixels.any(dim=0).nonzero().flatten()
            first, last = int(inked[0]), int(inked[-1]) + 1
            ink = torch.zeros(height, last - first, dtype=torch.uint8)
            ink[strip] = pixels[top:bottom, first:last]
            self.letters[letter] = Glyph(ink, first - size, round(font.getlength(letter)))

    def places(self, text: str) -> list[tuple[int, int]]:
        """The first inked column of each letter and the one after its last, from the start of the ink of the text."""
        spans, pen = [], 0
        for letter in map(self.letters.__getitem__, text):
            start = pen + letter.left
            spans.append((start, start + letter.ink.shape[1]))
            pen += letter.advance
        first = min(start for start, _ in spans)
        return [(start - first, end - first) for start, end in spans]

    def rows(self, text: str) -> tuple[int, int]:
        """The first row with ink of the letters of `text`, and the one after the last."""
        inked = [self.letters[letter].ink.any(dim=1).nonzero().flatten() for letter in text]
        return min(int(rows[0]) for rows in inked), max(int(rows[-1]) for rows in inked) + 1

    def paint(self, canvas: Tensor, text: str, left: int) -> None:
        """Write `text` on `canvas` [height, width] with its ink starting at column `left`, and clip it."""
        width = canvas.shape[1]
        for letter, (start, end) in zip(text, self.places(text), strict=True):
            start, end = start + left, end + left
            first, last = max(start, 0), min(end, width)
            if first < last:
                part = canvas[:, first:last]
                torch.maximum(part, self.letters[letter].ink[:, first - start : last - start], out=part)


def _open(file: Path, size: int) -> FreeTypeFont:
    try:
        from PIL import ImageFont
    except ImportError:
        raise MachineError(Diagnostic("FC0601", "`Pillow` is not installed", advice=INSTALL)) from None
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)


def _draw(font: FreeTypeFont, letter: str, size: int) -> Tensor:
    """`letter` with its pen at column `size` and row 2 `size` of an image that is large enough for all of it."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (4 * size, 4 * size))
    ImageDraw.Draw(image).text((size, 2 * size), letter, fill=255, font=font, anchor="ls")
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(4 * size, 4 * size)
