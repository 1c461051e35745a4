"""Data sets of rendered text: `fbrl_letters`, `fbrl_words`, `fbrl_lines` and `fbrl_paragraphs`.

Texts are rendered once, on a canvas slightly larger than the image. A batch cuts the canvases at random shifts and
adds random noise, both from the given generator, so a batch is a pure function of its rows and the generator.
Validation and test sets are batches with fixed seeds: they are the same for every seed of a run, and their words do not
occur in training images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from string import ascii_letters, ascii_lowercase, digits

import torch
from torch import Tensor

from flowconf.fbrl.pictures import (
    LONGEST,
    MOST,
    Cut,
    CutLetters,
    CutParagraphs,
    CutText,
    Draw,
    Style,
    check,
    letter_pictures,
    line_pictures,
    paragraph_pictures,
    word_pictures,
)
from flowconf.fbrl.reading import read_letters, read_lines, read_paragraphs, read_words
from flowconf.fbrl.words import common_words
from flowconf.language.value_types import Count, Factor, Fraction, Positive
from flowconf.train.data.declarations import Declared, provides
from flowconf.train.data.splits import Resident, Split, Splits

__all__ = ["fbrl_letters", "fbrl_lines", "fbrl_paragraphs", "fbrl_words"]

FONTS = ("roboto", "lato", "source_sans_pro")
Render = Callable[[str, int, Random], dict[str, Tensor]]
"""Renders the given number of images of the split of the given name."""


def _letter_fields(size: Sequence[int], characters: str, other_case: bool, **others: object) -> Declared:
    height, width = size
    half = ((1, height // 2, width // 2), torch.float32)
    return {
        "image": ((1, height, width), torch.float32),
        "label": ((), torch.int64, len(characters)),
        "clean": half,
        "guide": ((1, height, width), torch.float32),
        **({"other_case": half} if other_case else {}),
    }


@provides("image", "label", "clean", "guide", "other_case", shapes=_letter_fields, reader=read_letters)
def fbrl_letters(
    *,
    fonts: Sequence[str] = FONTS,
    font_size: Positive = 22,
    size: tuple[Positive, Positive] = (32, 32),
    characters: str = ascii_lowercase,
    other_case: bool = False,
    images: Positive = 11700,
    neighbours: Fraction = 0.7,
    shift: tuple[Count, Count] = (2, 2),
    noise: Factor = 0.1,
    seed: int,
) -> Splits:
    """Single letters, some of them with one or two neighbours on one or both sides.

    `characters` are the classes: letters of one case or of both, and digits. Fields: `image` [1, H, W] in [0, 1];
    `label`, the index in `characters`; `clean` [1, H/2, W/2], the letter alone, without noise, at half the resolution;
    `guide` [1, H, W], the letter alone, blurred (sigma is 0.16 of the height); with `other_case`, a field of that name,
    which is `clean` with the letter in the other case (a digit stays as it is). Validation and test sets have ten
    images of each letter in each font. Raises `ConfigError` for an argument out of range, `MachineError` for a missing
    package.
    """
    style = Style(fonts, font_size, size, neighbours, shift, noise, characters, other_case)
    check(size[0] % 2 == 0 and size[1] % 2 == 0, "size", f"`size` must be even for `clean`, got {[*size]}")
    different = len(set(characters) & {*ascii_letters, *digits}) == len(characters) > 0
    check(different, "characters", f"`characters` must be different letters and digits of ASCII, got `{characters}`")

    def render(_: str, count: int, chance: Random) -> dict[str, Tensor]:
        return letter_pictures(style, count, chance)

    judged = 10 * len(characters) * len(fonts)
    fields = _letter_fields(size, characters, other_case)
    return _splits("letters", (images, judged, judged), render, CutLetters(style), fields, seed)


def _text_fields(places: Sequence[int], size: Sequence[int], **others: object) -> Declared:
    """The fields of images of text with so many `places`: of letters, of words and their letters, or of lines."""
    ends = dict(zip(("lengths", "counts"), range(len(places) - 1, 0, -1), strict=False))
    return {
        "image": ((1, *size), torch.float32),
        "centres": ((places[0], 2), torch.float32),
        "present": ((places[0],), torch.float32),
        "letters": ((*places,), torch.int64, len(ascii_lowercase)),
        **{name: ((*places[:depth],), torch.int64, places[depth]) for name, depth in ends.items()},
        "count": ((), torch.int64, places[0]),
    }


_word_fields = partial(_text_fields, (LONGEST,))
_line_fields = partial(_text_fields, (MOST, LONGEST))
_paragraph_fields = partial(_text_fields, (MOST, MOST, LONGEST))


@provides("image", "centres", "present", "letters", "count", shapes=_word_fields, reader=read_words)
def fbrl_words(
    *,
    fonts: Sequence[str] = FONTS,
    font_size: Positive = 22,
    size: tuple[Positive, Positive] = (32, 96),
    images: Positive = 8000,
    neighbours: Fraction = 0.5,
    shift: tuple[Count, Count] = (8, 2),
    noise: Factor = 0.1,
    random: Fraction = 0.3,
    seed: int,
) -> Splits:
    """Words of two to four lower-case letters, some of them between other words, 7-15 pixels away.

    Fields: `image` [1, H, W] in [0, 1]; `centres` [4, 2], the (x, y) of each letter in [-1, 1]; `present` [4], 1 for
    the letters of the word and 0 beyond its length (where `centres` is 0); `letters` [4] (0 is a, -100 beyond the
    length); `count`, the class of the length (the length minus 1). A share `random` of the training words are random
    letters. Validation and test words, and the words beside them, do not occur in training; each is shown in each font,
    at six and at two places. Raises `ConfigError` for an argument out of range, `MachineError` for a missing package.
    """
    style = Style(fonts, font_size, size, neighbours, shift, noise)
    draws, words = _draws(random), common_words()
    texts = {"validation": words.validation, "test": words.test}

    def render(split: str, count: int, chance: Random) -> dict[str, Tensor]:
        draw, faces = draws[split], style.faces()
        if split == "train":
            drawn = [(chance.choice(faces), draw(chance)) for _ in range(count)]
        else:
            places = count // (len(texts[split]) * len(faces))
            drawn = [(face, text) for text in texts[split] for face in faces for _ in range(places)]
        return word_pictures(style, drawn, draw, chance)

    counts = images, 6 * len(words.validation) * len(fonts), 2 * len(words.test) * len(fonts)
    return _splits("words", counts, render, CutText(style), _word_fields(size), seed)


@provides("image", "centres", "present", "letters", "lengths", "count", shapes=_line_fields, reader=read_lines)
def fbrl_lines(
    *,
    fonts: Sequence[str] = FONTS,
    font_size: Positive = 22,
    size: tuple[Positive, Positive] = (32, 208),
    images: Positive = 3000,
    shift: tuple[Count, Count] = (4, 2),
    noise: Factor = 0.1,
    random: Fraction = 0.3,
    seed: int,
) -> Splits:
    """Lines of one to three words of `fbrl_words`, 7-15 pixels apart, anywhere in the image.

    Fields: `image` [1, H, W] in [0, 1]; `centres` [3, 2], the (x, y) of each word in [-1, 1]; `present` [3], 1 for the
    words of the line and 0 beyond its end (where `centres` is 0); `letters` [3, 4] (0 is a, -100 beyond the length of
    the word); `lengths` [3], the class of each word's length (the length minus 1), or -100; `count`, the class of the
    number of words (the number minus 1). Validation and test sets have 600 lines each, of words that do not occur in
    training. The arguments are those of `fbrl_words`. Raises `ConfigError` for an argument out of range, `MachineError`
    for a missing package.
    """
    style = Style(fonts, font_size, size, 0.0, shift, noise)
    draws = _draws(random)

    def render(split: str, count: int, chance: Random) -> dict[str, Tensor]:
        return line_pictures(style, count, draws[split], chance)

    return _splits("lines", (images, 600, 600), render, CutText(style), _line_fields(size), seed)


@provides(
    "image",
    "centres",
    "present",
    "letters",
    "lengths",
    "counts",
    "count",
    shapes=_paragraph_fields,
    reader=read_paragraphs,
)
def fbrl_paragraphs(
    *,
    fonts: Sequence[str] = FONTS,
    font_size: Positive = 22,
    size: tuple[Positive, Positive] = (104, 208),
    images: Positive = 1500,
    shift: tuple[Count, Count] = (4, 2),
    noise: Factor = 0.1,
    random: Fraction = 0.3,
    seed: int,
) -> Splits:
    """Paragraphs of one to three lines of `fbrl_lines`, 28-36 pixels apart, which begin at the same column.

    Fields: `image` [1, H, W] in [0, 1]; `centres` [3, 2], the middle of the image and of each line in [-1, 1];
    `present` [3], 1 for the lines of the paragraph and 0 beyond its end (where `centres` is 0); `letters` [3, 3, 4] and
    `lengths` [3, 3] as in `fbrl_lines`; `counts` [3], the class of the number of words of each line (the number minus
    1), or -100; `count`, the class of the number of lines. Validation and test sets have 300 paragraphs each, of words
    that do not occur in training. The arguments are those of `fbrl_lines`. Raises `ConfigError` for an argument out of
    range, `MachineError` for a missing package.
    """
    style = Style(fonts, font_size, size, 0.0, shift, noise)
    draws = _draws(random)

    def render(split: str, count: int, chance: Random) -> dict[str, Tensor]:
        return paragraph_pictures(style, count, draws[split], chance)

    return _splits("paragraphs", (images, 300, 300), render, CutParagraphs(style), _paragraph_fields(size), seed)


def _splits(name: str, counts: tuple[int, int, int], render: Render, cut: Cut, declared: Declared, seed: int) -> Splits:
    """Training, validation and test images, of which only the first depend on the seed; `counts` are their numbers.

    Nothing is rendered before it is used. What is rendered depends on the `name` of the images and on the split.
    """
    check(counts[0] > 0, "images", f"`images` must be positive, got {counts[0]}")
    fields = {field: (shape, dtype) for field, (shape, dtype, *_) in declared.items()}

    def split(part: str, count: int) -> Resident:
        def make() -> dict[str, Tensor]:
            return render(part.split("/")[0], count, Random(f"{name}/{part}"))

        return Resident(make, cut, fields, rows=count)

    train, validation, test = counts
    return Splits(
        train=split(f"train/{seed}", train),
        validation=_fixed(split("validation", validation), 1),
        test=_fixed(split("test", test), 2),
    )


def _draws(random: float) -> dict[str, Draw]:
    """A function for each split that draws a word. A share `random` of the training words are random letters."""
    check(0 <= random <= 1, "random", f"`random` must be from 0 to 1, got {random}")
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


def _fixed(split: Split, seed: int) -> Resident:
    """The whole split as one batch, made once, so that its rows do not depend on a generator."""
    rows = torch.arange(len(split))
    return Resident(lambda: split.batch(rows, torch.Generator().manual_seed(seed)), fields=split.fields, rows=len(rows))
