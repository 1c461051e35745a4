"""Pictures of text: drawn once on canvases, which batches cut at random shifts.

A canvas is slightly larger than the image. A cut lies between the pixels, as the view of a larger reader does, and has
random noise; both come from the given generator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from random import Random
from string import ascii_lowercase

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from flowconf.fbrl.text import Face, font_file
from flowconf.language.value_types import Positive
from flowconf.report import ConfigError, Diagnostic
from flowconf.train.data.collate import Batch

LONGEST = 4
"""The maximum number of letters in a word. Places beyond its length have the label -100 and are not `present`."""
MOST = 3
"""The maximum number of words in a line, and of lines in a paragraph. Places beyond the end are padded in the same
way."""
GAP = (7, 15)
"""The minimum and maximum distance of two words, in pixels."""
LEADING = (28, 36)
"""The minimum and maximum distance of the middles of two lines, in pixels."""
ABSENT = -100

Draw = Callable[[Random], str]


@dataclass(frozen=True, slots=True)
class Corners:
    """Where images are cut from their canvases: the rows and columns `at` [B, 2] of their corners, not whole numbers.

    `again` [B, 2] is the part of it, in [0, 1), by which a picture is moved in a second sampling. A letter that a word
    reader finds in the view of a line reader has been sampled twice.
    """

    at: Tensor
    again: Tensor


@dataclass(frozen=True, slots=True)
class Style:
    """The settings that all data sets share: the look of the text, and its variation.

    `size` is [height, width] of the image, `shift` the maximum shift [across, down], both in pixels. `neighbours` is
    the probability of other text next to it. `noise` is the maximum standard deviation of the pixel noise, which is
    drawn uniformly from 0 to `noise` for each image (pixels are in [0, 1]). `characters` are those of single letters,
    which are drawn in their `other_case` as well.
    """

    fonts: Sequence[str]
    font_size: Positive
    size: Sequence[int]
    neighbours: float
    shift: Sequence[int]
    noise: float
    characters: str = ascii_lowercase
    other_case: bool = False

    def __post_init__(self) -> None:
        check(len(self.fonts) > 0, "fonts", "`fonts` must not be empty")
        check(self.font_size > 0, "font_size", f"`font_size` must be positive, got {self.font_size}")
        pair = "`{}` must be two {} numbers, got {}"
        check(_pair(self.size, 1), "size", pair.format("size", "positive", self.size))
        check(_pair(self.shift, 0), "shift", pair.format("shift", "non-negative", self.shift))
        check(0 <= self.neighbours <= 1, "neighbours", f"`neighbours` must be from 0 to 1, got {self.neighbours}")
        check(self.noise >= 0, "noise", f"`noise` must not be negative, got {self.noise}")
        for font in self.fonts:
            font_file(font)

    @property
    def canvas(self) -> tuple[int, int]:
        """The rows and columns that contain the image at every shift."""
        return self.size[0] + 2 * self.shift[1], self.size[1] + 2 * self.shift[0]

    def faces(self, height: int | None = None) -> list[Face]:
        """The fonts, on strips of the given `height`, or as high as the canvas."""
        drawn = "".join(dict.fromkeys(self.characters + self.characters.swapcase() * self.other_case))
        return [_face(font, self.font_size, height or self.canvas[0], drawn) for font in self.fonts]


_face = cache(Face)


# drawing


def letter_pictures(style: Style, count: int, chance: Random) -> dict[str, Tensor]:
    """`count` centred letters, each letter of each font equally often, some with neighbours."""
    alone = letters_alone(style)
    rows = torch.arange(count) % len(alone)
    images = drawn_alone(style)[rows]
    for canvas, row in zip(images, rows.tolist(), strict=True):
        if chance.random() < style.neighbours:
            sides = chance.choice(((True, False), (False, True), (True, True)))
            before, after = ("".join(chance.choices(style.characters, k=chance.randint(1, 2))) * side for side in sides)
            face, letter = alone[row]
            text = before + letter + after
            face.paint(canvas, text, _left(style, face, text, len(before)))
    return {"images": images, "letter": rows % len(style.characters), "alone": rows}


def letters_alone(style: Style) -> list[tuple[Face, str]]:
    """Each letter of each font."""
    return [(face, letter) for face in style.faces() for letter in style.characters]


def drawn_alone(style: Style, other_case: bool = False) -> Tensor:
    """A canvas for each of `letters_alone`, with the letter in the middle of it, or that of the other case."""
    letters = letters_alone(style)
    drawn = torch.zeros(len(letters), *style.canvas, dtype=torch.uint8)
    for canvas, (face, letter) in zip(drawn, letters, strict=True):
        letter = letter.swapcase() if other_case else letter
        face.paint(canvas, letter, _left(style, face, letter, 0))
    return drawn


def _left(style: Style, face: Face, text: str, letter: int) -> int:
    """The column where `text` starts if the letter at index `letter` is in the middle of the canvas."""
    start, end = face.places(text)[letter]
    return (style.canvas[1] - start - end) // 2


def word_pictures(style: Style, words: Sequence[tuple[Face, str]], draw: Draw, chance: Random) -> dict[str, Tensor]:
    """The `words`, centred; on each side, some have other words from `draw` as far as the canvas reaches."""
    images = torch.zeros(len(words), *style.canvas, dtype=torch.uint8)
    letters = torch.full((len(words), LONGEST), ABSENT)
    columns = torch.zeros(len(words), LONGEST)
    for row, (face, word) in enumerate(words):
        places = face.places(word)
        left = (style.canvas[1] - places[-1][1]) // 2
        face.paint(images[row], word, left)
        if chance.random() < style.neighbours:
            end = left - chance.randint(*GAP)
            while end > 0:
                other = draw(chance)
                start = end - face.places(other)[-1][1]
                face.paint(images[row], other, start)
                end = start - chance.randint(*GAP)
        if chance.random() < style.neighbours:
            start = left + places[-1][1] + chance.randint(*GAP)
            while start < style.canvas[1]:
                other = draw(chance)
                face.paint(images[row], other, start)
                start += face.places(other)[-1][1] + chance.randint(*GAP)
        _spell(letters[row], word)
        for place, (start, end) in enumerate(places):
            columns[row, place] = left + (start + end - 1) / 2
    return {"images": images, "letters": letters, "columns": columns}


def line_pictures(style: Style, count: int, draw: Draw, chance: Random) -> dict[str, Tensor]:
    """`count` lines of words from `draw`, each at a place where no shift moves a part of it out of the image."""
    faces = style.faces()
    images = torch.zeros(count, *style.canvas, dtype=torch.uint8)
    letters = torch.full((count, MOST, LONGEST), ABSENT)
    columns = torch.zeros(count, MOST)
    first, past = 2 * style.shift[0], style.size[1]
    for row in range(count):
        face = chance.choice(faces)
        words, spans = _line(face, chance.randint(1, MOST), draw, chance, past - first)
        left = chance.randint(first, past - spans[-1][1])
        for place, (word, (start, end)) in enumerate(zip(words, spans, strict=True)):
            face.paint(images[row], word, left + start)
            _spell(letters[row, place], word)
            columns[row, place] = left + (start + end - 1) / 2
    return {"images": images, "letters": letters, "columns": columns}


def paragraph_pictures(style: Style, count: int, draw: Draw, chance: Random) -> dict[str, Tensor]:
    """`count` paragraphs of lines that begin at the same column, at a place where no shift cuts a part of them off."""
    strip = LEADING[0]
    faces = style.faces(strip)
    images = torch.zeros(count, *style.canvas, dtype=torch.uint8)
    letters = torch.full((count, MOST, MOST, LONGEST), ABSENT)
    rows = torch.zeros(count, MOST)
    (across, down), (bottom, right) = style.shift, style.size
    for row in range(count):
        face = chance.choice(faces)
        tops = _stacked(chance.randint(1, MOST), chance, bottom - 2 * down)
        lines = [_line(face, chance.randint(1, MOST), draw, chance, right - 2 * across) for _ in tops]
        left = chance.randint(2 * across, right - max(spans[-1][1] for _, spans in lines))
        for number, (top, (words, spans)) in enumerate(zip(tops, lines, strict=True)):
            top += 2 * down
            for place, (word, (start, _)) in enumerate(zip(words, spans, strict=True)):
                face.paint(images[row, top : top + strip], word, left + start)
                _spell(letters[row, number, place], word)
            rows[row, number] = top + (strip - 1) / 2
    return {"images": images, "letters": letters, "rows": rows}


def _stacked(count: int, chance: Random, room: int) -> list[int]:
    """The first row of each of `count` lines that fit into `room` rows."""
    least = count * LEADING[0]
    check(
        least <= room,
        "size",
        f"`size` leaves {room} rows for lines at every shift, but {count} of them require {least}",
    )
    most = min(LEADING[1], (room - LEADING[0]) // max(count - 1, 1))
    steps = [chance.randint(LEADING[0], most) for _ in range(count - 1)]
    first = chance.randint(0, room - LEADING[0] - sum(steps))
    return [first + sum(steps[:number]) for number in range(count)]


def _line(face: Face, count: int, draw: Draw, chance: Random, room: int) -> tuple[list[str], list[tuple[int, int]]]:
    """`count` words that fit into `room` columns, with the first column of each and the one after its last."""
    for _ in range(1000):
        words = [draw(chance) for _ in range(count)]
        spans: list[tuple[int, int]] = []
        for word in words:
            start = spans[-1][1] + chance.randint(*GAP) if spans else 0
            spans.append((start, start + face.places(word)[-1][1]))
        if spans[-1][1] <= room:
            return words, spans
    message = f"`size` leaves {room} columns for text at every shift, but {count} words require more"
    raise ConfigError(
        Diagnostic("FC0123", message, path="data.size", advice="increase the width, or use a smaller `font_size`")
    )


def _spell(row: Tensor, word: str) -> None:
    """Write the labels of a word's letters into the first places of `row`."""
    row[: len(word)] = torch.tensor([ord(letter) - ord("a") for letter in word])


# cutting


class Cut(ABC):
    """The common part of all batches: cutting images from their canvases, and noise."""

    def __init__(self, style: Style) -> None:
        self.style = style

    @abstractmethod
    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with images, cut from the canvases in it."""

    def corners(self, count: int, generator: torch.Generator) -> Corners:
        """Random corners of `count` images; half of the images are sampled twice in each direction."""
        across, down = self.style.shift
        device = generator.device
        drawn = torch.rand(count, 4, generator=generator, device=device)
        reach = torch.tensor([2 * down, 2 * across], device=device)
        again = (2 * drawn[:, 2:] - 1).clamp(min=0) * (reach > 0)
        return Corners(drawn[:, :2] * reach, again)

    def cut(self, canvases: Tensor, corners: Corners, rows: Tensor | None = None) -> Tensor:
        """The images [B, 1, H, W] at the `corners` of `canvases` [B, ...], or of their `rows` [B]."""
        height, width = self.style.size
        windows = pad(canvases, (1, 2, 1, 2)).unfold(1, height + 2, 1).unfold(2, width + 2, 1)
        rows = torch.arange(len(canvases), device=canvases.device) if rows is None else rows
        first = corners.at - corners.again + 1
        found = windows[rows, *first.long().unbind(dim=1)].float()
        return _between(_between(found, first.frac()), corners.again).unsqueeze(1)

    def image(self, canvases: Tensor, corners: Corners, generator: torch.Generator) -> Tensor:
        """The noisy images [B, 1, H, W] in [0, 1] from uint8 `canvases`."""
        clean = self.cut(canvases, corners) / 255
        device = generator.device
        deviation = torch.rand(len(clean), 1, 1, 1, generator=generator, device=device) * self.style.noise
        noise = torch.randn(clean.shape, generator=generator, device=device)
        return clean.add_(noise.mul_(deviation)).clamp_(0, 1)


class CutLetters(Cut):
    """Makes a batch of `images`, `letter` and `alone`, the row of the letter in `letters_alone`."""

    @cached_property
    def drawn(self) -> dict[str, Tensor]:
        """Each letter alone, [letters, rows, columns], by the field that is made of it."""
        clean = drawn_alone(self.style) / 255
        found = {"clean": clean, "guide": blur(clean, 0.16 * self.style.size[0])}
        return found | ({"other_case": drawn_alone(self.style, True) / 255} if self.style.other_case else {})

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        rows = batch["alone"]
        corners = self.corners(len(rows), generator)
        image = self.image(batch["images"], corners, generator)
        alone = {name: self.cut(drawn.to(generator.device), corners, rows) for name, drawn in self.drawn.items()}
        halved = {name: avg_pool2d(alone[name], 2) for name in alone if name != "guide"}
        return {"image": image, "label": batch["letter"], **alone, **halved}


class CutText(Cut):
    """Makes a batch of `images`, `letters` [B, ..., N] and `columns`, the centre of each outer part on the canvas."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        corners = self.corners(len(batch["images"]), generator)
        image = self.image(batch["images"], corners, generator)
        present, ends = batch["letters"] >= 0, {}
        for name in ("lengths", "counts")[: present.dim() - 2]:
            inside, present = present, present.any(dim=-1)
            ends[name] = torch.where(present, inside.sum(dim=-1) - 1, ABSENT)
        return {
            "image": image,
            "centres": self.centres(batch, corners) * present[:, :, None],
            "present": present.float(),
            "letters": batch["letters"],
            **ends,
            "count": present.sum(dim=1) - 1,
        }

    def centres(self, batch: Batch, corners: Corners) -> Tensor:
        """The (x, y) in [-1, 1], [B, N, 2], of points at `columns` [B, N] on the middle row of the canvas."""
        top, left = corners.at.unbind(dim=1)
        height, width = self.style.size
        middle = (self.style.canvas[0] - 1) / 2 - top
        across = (batch["columns"] - left[:, None]) * (2 / (width - 1)) - 1
        down = (middle * (2 / (height - 1)) - 1)[:, None].expand_as(across)
        return torch.stack((across, down), dim=-1)


class CutParagraphs(CutText):
    """Makes a batch of `images`, `letters` and `rows`, the middle of each line on the canvas."""

    def centres(self, batch: Batch, corners: Corners) -> Tensor:
        """The (x, y) in [-1, 1], [B, N, 2], of points at `rows` [B, N] in the middle of the image."""
        down = (batch["rows"] - corners.at[:, :1]) * (2 / (self.style.size[0] - 1)) - 1
        return torch.stack((torch.zeros_like(down), down), dim=-1)


def _between(pictures: Tensor, fraction: Tensor) -> Tensor:
    """`pictures` [B, H, W] sampled at a `fraction` [B, 2] of a pixel down and across: bilinear, [B, H - 1, W - 1]."""
    down, across = (part[:, None, None] for part in fraction.unbind(dim=1))
    pictures = torch.lerp(pictures[:, :-1], pictures[:, 1:], down)
    return torch.lerp(pictures[:, :, :-1], pictures[:, :, 1:], across)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """`pictures` [N, H, W] blurred by a Gaussian, truncated at two sigma."""
    reach = round(2 * sigma)
    weights = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma**2))
    kernel = weights / weights.sum()
    padded = pad(pictures[:, None], (reach, reach, reach, reach))
    return conv2d(conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0]


def _pair(pair: Sequence[int], least: int) -> bool:
    return len(pair) == 2 and all(number >= least for number in pair)


def check(fine: bool, argument: str, message: str) -> None:
    """Raise `ConfigError` for an argument of a data set, unless it is `fine`."""
    if not fine:
        raise ConfigError(Diagnostic("FC0123", message, path=f"data.{argument}"))
