"""Data sets of rendered text: `fbrl_letters`, `fbrl_words` and `fbrl_lines`.

Texts are rendered once, on a canvas slightly larger than the image. A batch crops the canvases at random shifts and
adds random noise, both from the given generator, so a batch is a pure function of its rows and the generator.
Validation and test sets are batches with fixed seeds: they are the same for every seed of a run, and their words do not
occur in training images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from string import ascii_lowercase

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from flowconf.fbrl.cache import cached
from flowconf.fbrl.text import Face, fingerprint
from flowconf.fbrl.words import common_words
from flowconf.language.value_types import Count, Factor, Fraction, Positive
from flowconf.report import ConfigError, Diagnostic
from flowconf.train.data.collate import Batch, Field
from flowconf.train.data.splits import Declared, Resident, Split, Splits, provides

__all__ = ["fbrl_letters", "fbrl_lines", "fbrl_words"]

LONGEST = 4
"""The maximum number of letters in a word. Places beyond its length have the label -100 and are not `present`."""
MOST = 3
"""The maximum number of words in a line. Places beyond its end are padded in the same way."""
GAP = (9, 15)
"""The minimum and maximum distance of two words, in pixels."""
ABSENT = -100

Draw = Callable[[Random], str]


@dataclass(frozen=True, slots=True)
class Style:
    """The settings that all data sets share: the look of the text, and its variation.

    `size` is [height, width] of the image, `shift` the maximum shift [across, down], both in pixels. `neighbours` is
    the probability of other text next to it. `noise` is the maximum standard deviation of the pixel noise, which is
    drawn uniformly from 0 to `noise` for each image (pixels are in [0, 1]).
    """

    fonts: Sequence[str]
    font_size: Positive
    size: Sequence[int]
    neighbours: float
    shift: Sequence[int]
    noise: float

    def __post_init__(self) -> None:
        _check(len(self.fonts) > 0, "fonts", "`fonts` must not be empty")
        _check(self.font_size > 0, "font_size", f"`font_size` must be positive, got {self.font_size}")
        pair = "`{}` must be two {} numbers, got {}"
        _check(_pair(self.size, 1), "size", pair.format("size", "positive", self.size))
        _check(_pair(self.shift, 0), "shift", pair.format("shift", "non-negative", self.shift))
        _check(0 <= self.neighbours <= 1, "neighbours", f"`neighbours` must be from 0 to 1, got {self.neighbours}")
        _check(self.noise >= 0, "noise", f"`noise` must not be negative, got {self.noise}")

    @property
    def canvas(self) -> tuple[int, int]:
        """The rows and columns that contain the image at every shift."""
        return self.size[0] + 2 * self.shift[1], self.size[1] + 2 * self.shift[0]

    def faces(self) -> list[Face]:
        return [Face(font, self.font_size, self.canvas[0]) for font in self.fonts]

    def key(self, **more: object) -> dict[str, object]:
        """Everything that rendered images depend on, as plain data."""
        looks = {"size": [*self.size], "shift": [*self.shift], "font_size": self.font_size}
        return looks | {"neighbours": self.neighbours, "fonts": fingerprint(self.fonts)} | more


def _letter_fields(size: Sequence[int], **others: object) -> Declared:
    height, width = size
    return {
        "image": ((1, height, width), torch.float32),
        "label": ((), torch.int64, len(ascii_lowercase)),
        "clean": ((1, height // 2, width // 2), torch.float32),
        "guide": ((1, height, width), torch.float32),
    }


@provides("image", "label", "clean", "guide", shapes=_letter_fields)
def fbrl_letters(
    *,
    fonts: Sequence[str] = ("roboto", "lato", "source_sans_pro"),
    font_size: Positive = 22,
    size: tuple[Positive, Positive] = (32, 32),
    images: Positive = 7800,
    neighbours: Fraction = 0.5,
    shift: tuple[Count, Count] = (3, 2),
    noise: Factor = 0.1,
    cache: str | None = None,
    seed: int,
) -> Splits:
    """Single lower-case letters, some of them with one or two neighbours on one or both sides.

    Fields: `image` [1, H, W] in [0, 1]; `label` (0 is a); `clean` [1, H/2, W/2], the letter alone, without noise, at
    half the resolution; `guide` [1, H, W], the letter alone, blurred (sigma is 0.16 of the height). Validation and test
    sets have ten images of each letter in each font. `cache` is a folder for the rendered images. Raises `ConfigError`
    for an argument out of range, `MachineError` for a missing package.
    """
    style = Style(fonts, font_size, size, neighbours, shift, noise)
    _check(images > 0, "images", f"`images` must be positive, got {images}")
    _check(size[0] % 2 == 0 and size[1] % 2 == 0, "size", f"`size` must be even for `clean`, got {[*size]}")

    def split(name: str, count: int) -> Resident:
        key = style.key(data="letters", split=name, images=count)
        pool = cached(cache, key, lambda: _letter_pictures(style, count, Random(f"letters/{name}")))
        cut = _Letters(style, pool.pop("drawn"))
        return Resident(pool, cut, cut.fields)

    judged = 10 * len(ascii_lowercase) * len(fonts)
    return Splits(
        train=split(f"train/{seed}", images),
        validation=_fixed(split("validation", judged), 1),
        test=_fixed(split("test", judged), 2),
    )


def _word_fields(size: Sequence[int], **others: object) -> Declared:
    return {
        "image": ((1, *size), torch.float32),
        "centres": ((LONGEST, 2), torch.float32),
        "present": ((LONGEST,), torch.float32),
        "letters": ((LONGEST,), torch.int64, len(ascii_lowercase)),
        "count": ((), torch.int64, LONGEST),
    }


def _fields(declared: Declared) -> dict[str, Field]:
    """The shapes and dtypes of the declared fields of a data set."""
    return {name: (shape, dtype) for name, (shape, dtype, *_) in declared.items()}


@provides("image", "centres", "present", "letters", "count", shapes=_word_fields)
def fbrl_words(
    *,
    fonts: Sequence[str] = ("roboto", "lato", "source_sans_pro"),
    font_size: Positive = 22,
    size: tuple[Positive, Positive] = (32, 96),
    images: Positive = 8000,
    neighbours: Fraction = 0.5,
    shift: tuple[Count, Count] = (8, 2),
    noise: Factor = 0.1,
    random: Fraction = 0.3,
    cache: str | None = None,
    seed: int,
) -> Splits:
    """Words of two to four lower-case letters, some of them with other words beside them, 9-15 pixels away.

    Fields: `image` [1, H, W] in [0, 1]; `centres` [4, 2], the (x, y) of each letter in [-1, 1]; `present` [4], 1 for
    the letters of the word and 0 beyond its length (where `centres` is 0); `letters` [4] (0 is a, -100 beyond the
    length); `count`, the class of the length (the length minus 1). A share `random` of the training words are random
    letters. Validation and test words, and the words beside them, do not occur in training; each is shown in each font
    at two places. `cache` is a folder for the rendered images. Raises `ConfigError` for an argument out of range,
    `MachineError` for a missing package.
    """
    style = Style(fonts, font_size, size, neighbours, shift, noise)
    _check(images > 0, "images", f"`images` must be positive, got {images}")
    draws = _draws(random)

    def split(name: str, texts: Sequence[str] | None = None) -> Resident:
        draw = draws[name.split("/")[0]]

        def make() -> dict[str, Tensor]:
            chance = Random(f"words/{name}")
            faces = style.faces()
            if texts is None:
                drawn = [(chance.choice(faces), draw(chance)) for _ in range(images)]
            else:
                drawn = [(face, text) for text in texts for face in faces for _ in range(2)]
            return _word_pictures(style, drawn, draw, chance)

        pool = cached(cache, style.key(data="words", split=name, images=images, random=random), make)
        cut = _Words(style)
        return Resident(pool, cut, cut.fields)

    words = common_words()
    return Splits(
        train=split(f"train/{seed}"),
        validation=_fixed(split("validation", words.validation), 1),
        test=_fixed(split("test", words.test), 2),
    )


def _line_fields(size: Sequence[int], **others: object) -> Declared:
    return {
        "image": ((1, *size), torch.float32),
        "centres": ((MOST, 2), torch.float32),
        "present": ((MOST,), torch.float32),
        "letters": ((MOST, LONGEST), torch.int64, len(ascii_lowercase)),
        "lengths": ((MOST,), torch.int64, LONGEST),
        "count": ((), torch.int64, MOST),
    }


@provides("image", "centres", "present", "letters", "lengths", "count", shapes=_line_fields)
def fbrl_lines(
    *,
    fonts: Sequence[str] = ("roboto", "lato", "source_sans_pro"),
    font_size: Positive = 22,
    size: tuple[Positive, Positive] = (32, 208),
    images: Positive = 3000,
    shift: tuple[Count, Count] = (4, 2),
    noise: Factor = 0.1,
    random: Fraction = 0.3,
    cache: str | None = None,
    seed: int,
) -> Splits:
    """Lines of one to three words of `fbrl_words`, 9-15 pixels apart, anywhere in the image.

    Fields: `image` [1, H, W] in [0, 1]; `centres` [3, 2], the (x, y) of each word in [-1, 1]; `present` [3], 1 for the
    words of the line and 0 beyond its end (where `centres` is 0); `letters` [3, 4] (0 is a, -100 beyond the length of
    the word); `lengths` [3], the class of each word's length (the length minus 1), or -100; `count`, the class of the
    number of words (the number minus 1). Validation and test sets have 120 and 300 lines, of words that do not occur in
    training. The arguments are those of `fbrl_words`. Raises `ConfigError` for an argument out of range, `MachineError`
    for a missing package.
    """
    style = Style(fonts, font_size, size, 0.0, shift, noise)
    _check(images > 0, "images", f"`images` must be positive, got {images}")
    draws = _draws(random)

    def split(name: str, count: int) -> Resident:
        def make() -> dict[str, Tensor]:
            return _line_pictures(style, count, draws[name.split("/")[0]], Random(f"lines/{name}"))

        pool = cached(cache, style.key(data="lines", split=name, images=count, random=random), make)
        cut = _Lines(style)
        return Resident(pool, cut, cut.fields)

    return Splits(
        train=split(f"train/{seed}", images),
        validation=_fixed(split("validation", 120), 1),
        test=_fixed(split("test", 300), 2),
    )


def _draws(random: float) -> dict[str, Draw]:
    """A function for each split that draws a word. A share `random` of the training words are random letters."""
    _check(0 <= random <= 1, "random", f"`random` must be from 0 to 1, got {random}")
    words = common_words()

    def train(chance: Random) -> str:
        while chance.random() < random:
            text = "".join(chance.choices(ascii_lowercase, k=chance.randint(2, LONGEST)))
            if text not in words.held_out:
                return text
        return chance.choice(words.train)

    return {
        "train": train,
        "validation": lambda chance: chance.choice(words.validation),
        "test": lambda chance: chance.choice(words.test),
    }


class _Cut:
    """The common part of all batches: cropping images from their canvases, noise, and locations."""

    def __init__(self, style: Style) -> None:
        self.style = style

    def corners(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The upper left corner of each image on its canvas: rows and columns, [count] each."""
        across, down = self.style.shift
        device = generator.device
        top = torch.randint(2 * down + 1, (count,), generator=generator, device=device)
        return top, torch.randint(2 * across + 1, (count,), generator=generator, device=device)

    def cut(self, canvases: Tensor, corners: tuple[Tensor, Tensor], rows: Tensor | None = None) -> Tensor:
        """The images [B, 1, H, W] at the `corners` of `canvases` [B, ...], or of their `rows` [B]."""
        height, width = self.style.size
        windows = canvases.unfold(1, height, 1).unfold(2, width, 1)
        rows = torch.arange(len(canvases), device=canvases.device) if rows is None else rows
        return windows[rows, *corners].unsqueeze(1)

    def image(self, canvases: Tensor, corners: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        """The noisy images [B, 1, H, W] in [0, 1] from uint8 `canvases`."""
        clean = self.cut(canvases, corners) / 255
        device = generator.device
        deviation = torch.rand(len(clean), 1, 1, 1, generator=generator, device=device) * self.style.noise
        noise = torch.randn(clean.shape, generator=generator, device=device)
        return clean.add_(noise.mul_(deviation)).clamp_(0, 1)

    def centres(self, columns: Tensor, present: Tensor, corners: tuple[Tensor, Tensor]) -> Tensor:
        """The (x, y) in [-1, 1], [B, N, 2], of points at `columns` [B, N] on the middle row of the canvas."""
        top, left = corners
        height, width = self.style.size
        middle = (self.style.canvas[0] - 1) / 2 - top
        across = (columns - left[:, None]) * (2 / (width - 1)) - 1
        down = (middle * (2 / (height - 1)) - 1)[:, None].expand_as(across)
        return torch.stack((across, down), dim=-1) * present[:, :, None]


class _Letters(_Cut):
    """Makes a batch of `images`, `letter` and `alone`, the row of the letter in `drawn` [letters, ...]."""

    def __init__(self, style: Style, drawn: Tensor) -> None:
        super().__init__(style)
        height = style.size[0]
        self.fields = _fields(_letter_fields(style.size))
        self.drawn = drawn / 255
        self.blurred = _blur(self.drawn, 0.16 * height)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        rows, device = batch["alone"], generator.device
        corners = self.corners(len(rows), generator)
        return {
            "image": self.image(batch["images"], corners, generator),
            "label": batch["letter"],
            "clean": avg_pool2d(self.cut(self.drawn.to(device), corners, rows), 2),
            "guide": self.cut(self.blurred.to(device), corners, rows),
        }


class _Words(_Cut):
    """Makes a batch of `images`, `letters` and `columns`, the centre of each letter on the canvas."""

    def __init__(self, style: Style) -> None:
        super().__init__(style)
        self.fields = _fields(_word_fields(style.size))

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        corners = self.corners(len(batch["images"]), generator)
        present = batch["letters"] >= 0
        return {
            "image": self.image(batch["images"], corners, generator),
            "centres": self.centres(batch["columns"], present, corners),
            "present": present.float(),
            "letters": batch["letters"],
            "count": present.sum(dim=1) - 1,
        }


class _Lines(_Cut):
    """Makes a batch of `images`, `letters` and `columns`, the centre of each word on the canvas."""

    def __init__(self, style: Style) -> None:
        super().__init__(style)
        self.fields: dict[str, Field] = {
            "image": ((1, *style.size), torch.float32),
            "centres": ((MOST, 2), torch.float32),
            "present": ((MOST,), torch.float32),
            "letters": ((MOST, LONGEST), torch.int64),
            "lengths": ((MOST,), torch.int64),
            "count": ((), torch.int64),
        }

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        corners = self.corners(len(batch["images"]), generator)
        lengths = (batch["letters"] >= 0).sum(dim=2)
        present = lengths > 0
        return {
            "image": self.image(batch["images"], corners, generator),
            "centres": self.centres(batch["columns"], present, corners),
            "present": present.float(),
            "letters": batch["letters"],
            "lengths": torch.where(present, lengths - 1, ABSENT),
            "count": present.sum(dim=1) - 1,
        }


def _fixed(split: Split, seed: int) -> Resident:
    """The whole split as one batch, made once, so that its rows do not depend on a generator."""
    return Resident(split.batch(torch.arange(len(split)), torch.Generator().manual_seed(seed)))


def _letter_pictures(style: Style, count: int, chance: Random) -> dict[str, Tensor]:
    """`count` centred letters, each letter of each font equally often, some with neighbours."""
    faces = style.faces()
    alone = [(face, letter) for face in faces for letter in ascii_lowercase]
    drawn = torch.zeros(len(alone), *style.canvas, dtype=torch.uint8)
    for canvas, (face, letter) in zip(drawn, alone, strict=True):
        face.paint(canvas, letter, _left(style, face, letter, 0))
    rows = torch.arange(count) % len(alone)
    images = drawn[rows]
    for canvas, row in zip(images, rows.tolist(), strict=True):
        if chance.random() < style.neighbours:
            sides = chance.choice(((True, False), (False, True), (True, True)))
            before, after = ("".join(chance.choices(ascii_lowercase, k=chance.randint(1, 2))) * side for side in sides)
            face, letter = alone[row]
            text = before + letter + after
            face.paint(canvas, text, _left(style, face, text, len(before)))
    return {"images": images, "letter": rows % len(ascii_lowercase), "alone": rows, "drawn": drawn}


def _left(style: Style, face: Face, text: str, letter: int) -> int:
    """The column where `text` starts if the letter at index `letter` is in the middle of the canvas."""
    start, end = face.places(text)[letter]
    return (style.canvas[1] - start - end) // 2


def _word_pictures(style: Style, words: Sequence[tuple[Face, str]], draw: Draw, chance: Random) -> dict[str, Tensor]:
    """The `words`, centred, some with other words from `draw` beside them."""
    images = torch.zeros(len(words), *style.canvas, dtype=torch.uint8)
    letters = torch.full((len(words), LONGEST), ABSENT)
    columns = torch.zeros(len(words), LONGEST)
    for row, (face, word) in enumerate(words):
        places = face.places(word)
        width = places[-1][1]
        left = (style.canvas[1] - width) // 2
        face.paint(images[row], word, left)
        if chance.random() < style.neighbours:
            other = draw(chance)
            face.paint(images[row], other, left - chance.randint(*GAP) - face.places(other)[-1][1])
        if chance.random() < style.neighbours:
            face.paint(images[row], draw(chance), left + width + chance.randint(*GAP))
        _spell(letters[row], word)
        for place, (start, end) in enumerate(places):
            columns[row, place] = left + (start + end - 1) / 2
    return {"images": images, "letters": letters, "columns": columns}


def _line_pictures(style: Style, count: int, draw: Draw, chance: Random) -> dict[str, Tensor]:
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


def _blur(pictures: Tensor, sigma: float) -> Tensor:
    """`pictures` [N, H, W] blurred by a Gaussian, truncated at two sigma."""
    reach = round(2 * sigma)
    weights = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma**2))
    kernel = weights / weights.sum()
    padded = pad(pictures[:, None], (reach, reach, reach, reach))
    return conv2d(conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0]


def _pair(pair: Sequence[int], least: int) -> bool:
    return len(pair) == 2 and all(number >= least for number in pair)


def _check(fine: bool, argument: str, message: str) -> None:
    if not fine:
        raise ConfigError(Diagnostic("FC0123", message, path=f"data.{argument}"))
