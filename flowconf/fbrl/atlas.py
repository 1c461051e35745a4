"""An atlas of a reader: where it looked, what each glimpse saw, what it read and what it reproduced, at every level.

The values that it draws are those of the graph by their paths, such as `where` and `letter.read.at` of a word reader;
`READ` lists them for each level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_lowercase
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowconf.fbrl.glimpse import Glimpse, View
from flowconf.fbrl.text import font_file
from flowconf.language.value_types import Positive
from flowconf.train.callbacks.watched_run import WatchedRun

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["Atlas"]

LETTER = ("scan.at", "read.at", "logits", "reproduction")
READ = {
    "letters": LETTER,
    "words": ("where", "length", *(f"letter.{name}" for name in LETTER)),
    "lines": ("where", "count", "word.where", "word.length", *(f"word.letter.{name}" for name in LETTER)),
    "paragraphs": (
        *("where", "count", "line.where", "line.count", "line.word.where", "line.word.length"),
        *(f"line.word.letter.{name}" for name in LETTER),
    ),
}
"""The values of the graph of each level that an atlas shows."""
VIEWS = ((104, 208), (32, 208), (32, 96), (32, 32))
"""The images of a paragraph, a line, a word and a letter."""
GLIMPSES = ((8, 12), (8, 8))
"""The size of the first glimpse of a letter, and of the others."""
ZOOM, LARGE = 4, 6
"""Pixels of an atlas for one of an image: of letters, and of the whole."""
PAPER, INK = (255, 255, 255), (40, 40, 40)
PATH = ((255, 196, 0), (255, 150, 0), (255, 100, 20), (240, 50, 60), (210, 20, 110), (150, 30, 170), (80, 60, 220))
"""The colours of the glimpses in their order."""
CARD = (280, 204)
"""The width and height of what is shown of one letter."""


class Atlas:
    """A callback that draws how the first rows of a batch are read; `READ` of this module lists what it may read."""

    def __init__(self, *, rows: Positive = 4) -> None:
        self.rows = rows

    def values(self, run: WatchedRun, values: Mapping[str, Tensor]) -> None:
        """Log the atlas as an image."""
        drawn = draw({name: value[: self.rows] for name, value in values.items()})
        pixels = torch.frombuffer(bytearray(drawn.tobytes()), dtype=torch.uint8)
        image = pixels.view(drawn.height, drawn.width, 3).permute(2, 0, 1) / 255
        run.log(images={"read": image})


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter that was read: its view [32, 32], where that is in the whole image, the glimpses, and the result.

    `corner` is the column and row of the view's upper left corner, `at` [n, 2] the locations of the glimpses in the
    view, in [-1, 1].
    """

    view: Tensor
    corner: tuple[float, float]
    at: Tensor
    scores: Tensor
    reproduction: Tensor | None

    def spots(self) -> list[tuple[float, float]]:
        """The columns and rows of the glimpses in the view."""
        height, width = self.view.shape
        return [((x + 1) / 2 * (width - 1), (y + 1) / 2 * (height - 1)) for x, y in self.at.tolist()]


def draw(values: Mapping[str, Tensor]) -> Picture:
    """The atlas of the `image`s [B, 1, H, W] in `values`, which also has the values of a reader by their paths.

    Values that are missing, such as the reproduction of a reader without a decoder, are left out.
    """
    from PIL import Image

    rows = ({name: value[row] for name, value in values.items()} for row in range(len(values["image"])))
    parts = [part for row in rows for part in _row(row)]
    drawn = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), PAPER)
    top = 0
    for part in parts:
        drawn.paste(part, (0, top))
        top += part.height
    return drawn


def _row(values: Mapping[str, Tensor]) -> Iterator[Picture]:
    """The whole image with the paths of all glimpses, and below it the letters, word by word."""
    image = values["image"][0]
    words = list(_words(image, (0.0, 0.0), values, len(VIEWS) - 1 - sum(_is(name, "where") for name in values)))
    yield _whole(image, [letter for word in words for letter in word])
    for word in words:
        yield _cards(word)


def _is(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _words(
    image: Tensor, corner: tuple[float, float], values: Mapping[str, Tensor], level: int
) -> Iterator[list[Letter]]:
    """The letters of each word in an `image` [H, W] at `corner` of the whole; `values` are those of its reader."""
    if level == len(VIEWS) - 1:
        yield [_letter(image, corner, values)]
        return
    own = {name: value for name, value in values.items() if "." not in name}
    inner = {name.partition(".")[2]: value for name, value in values.items() if "." in name and not _is_loop(name)}
    count = next((int(own[name].argmax()) + 1 for name in ("length", "count") if name in own), len(own["where"]))
    found = []
    for place, at in enumerate(own["where"][:count]):
        size = VIEWS[level + 1]
        height, width = image.shape
        view = View(size)(at[None], image[None, None])[0, 0]
        x, y = ((float(part) + 1) / 2 * (length - 1) for part, length in zip(at, (width, height), strict=True))
        start = (corner[0] + x - (size[1] - 1) / 2, corner[1] + y - (size[0] - 1) / 2)
        found += list(_words(view, start, {name: value[place] for name, value in inner.items()}, level + 1))
    if level == len(VIEWS) - 2:
        yield [letter for word in found for letter in word]
    else:
        yield from found


def _is_loop(name: str) -> bool:
    return name.startswith(("scan.", "read."))


def _letter(view: Tensor, corner: tuple[float, float], values: Mapping[str, Tensor]) -> Letter:
    places = [values[name].reshape(-1, 2) for name in ("scan.at", "read.at") if name in values]
    made = values.get("reproduction")
    return Letter(view, corner, torch.cat(places), values["logits"], None if made is None else made[0])


def _gray(image: Tensor, zoom: int) -> Picture:
    """An image [H, W] with values in [0, 1], dark on light, enlarged."""
    from PIL import Image

    levels = (255 - 255 * image.clamp(0, 1)).round().to(torch.uint8)
    size = (image.shape[1], image.shape[0])
    drawn = Image.frombytes("L", size, bytes(levels.flatten().tolist()))
    return drawn.resize((size[0] * zoom, size[1] * zoom), Image.Resampling.NEAREST).convert("RGB")


def _whole(image: Tensor, letters: Sequence[Letter]) -> Picture:
    """An image with the path of the glimpses on every letter."""
    from PIL import Image

    zoom = max(2, min(LARGE * 2, 800 // image.shape[1]))
    drawn = _gray(image, zoom)
    for letter in letters:
        _path(drawn, [(letter.corner[0] + x, letter.corner[1] + y) for x, y in letter.spots()], zoom, False)
    framed = Image.new("RGB", (drawn.width + 16, drawn.height + 16), PAPER)
    framed.paste(drawn, (8, 8))
    return framed


def _path(drawn: Picture, spots: Sequence[tuple[float, float]], zoom: int, numbered: bool) -> None:
    """Draw locations (column, row) of glimpses in their order."""
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(drawn)
    places = [((x + 0.5) * zoom, (y + 0.5) * zoom) for x, y in spots]
    for number, (one, other) in enumerate(pairwise(places)):
        pen.line([one, other], fill=PATH[(number + 1) % len(PATH)], width=2)
    radius = 6 if numbered else 4
    font = ImageFont.truetype(str(font_file("roboto")), 10)
    for number, (x, y) in enumerate(places):
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=PATH[number % len(PATH)], outline=PAPER)
        if numbered:
            pen.text((x, y), str(number + 1), fill=PAPER, font=font, anchor="mm")


def _cards(letters: Sequence[Letter]) -> Picture:
    """The letters of a word side by side."""
    from PIL import Image

    drawn = Image.new("RGB", (CARD[0] * len(letters) + 8, CARD[1]), PAPER)
    for number, letter in enumerate(letters):
        drawn.paste(_card(letter), (8 + CARD[0] * number, 0))
    return drawn


def _card(letter: Letter) -> Picture:
    """The text that was read, the view with the path of the glimpses, the reproduction, and each glimpse."""
    from PIL import Image, ImageDraw, ImageFont

    card = Image.new("RGB", CARD, PAPER)
    view = _gray(letter.view, ZOOM)
    _path(view, letter.spots(), ZOOM, True)
    card.paste(view, (0, 24))
    if letter.reproduction is not None:
        card.paste(_gray(letter.reproduction, 2 * ZOOM), (136, 24))
    left = 0
    for number, at in enumerate(letter.at):
        seen = _gray(Glimpse(GLIMPSES[min(number, 1)])(letter.view[None, None], at[None])[0, 0], ZOOM)
        card.paste(seen.crop((0, 0, min(seen.width, 48), seen.height)), (left, 160))
        ImageDraw.Draw(card).rectangle([left, 194, left + seen.width - 1, 197], fill=PATH[number % len(PATH)])
        left += seen.width + 3
    sure, index = letter.scores.softmax(dim=-1).max(dim=-1)
    font = ImageFont.truetype(str(font_file("roboto")), 16)
    ImageDraw.Draw(card).text((0, 2), f"{ascii_lowercase[int(index)]}  {float(sure):.0%}", fill=INK, font=font)
    return card
