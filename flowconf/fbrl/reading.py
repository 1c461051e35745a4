"""Reading text in a picture of any size with a trained reader: the `reader` of the data sets of this package.

A picture is cut into lines at rows without ink, and lines into words at gaps. A line is scaled to the size of the
training text. Whether its ink has ascenders or descenders is not known before it is read, so each possibility is tried,
and the most plausible reading is kept. Words that do not fit into one image of the reader follow in the next one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from flowconf.fbrl.pictures import GAP, LEADING, LONGEST, MOST
from flowconf.fbrl.scan import INKED, TextLine, runs, scan
from flowconf.fbrl.text import Face
from flowconf.report import ConfigError, Diagnostic, counted, listing
from flowconf.train.data.declarations import Compute

OUTPUTS = {
    "letters": ("logits",),
    "words": ("letters", "length"),
    "lines": ("letters", "lengths", "count"),
    "paragraphs": ("letters", "lengths", "counts", "count"),
}
"""The outputs of a reader: scores of letters, and of the numbers of letters, words and lines."""
EXTENTS = ("x", "d", "p", "dp", "t", "tp", "i", "ij")
"""Letters that may give a line its highest and lowest rows of ink."""
STRIP = 32
"""The rows of the image of a line."""
SPACE = 5
"""The least gap between words, in pixels of a reader's image."""
MARGIN = 4
"""The least number of empty columns on both sides of a line."""
SURE = 0.5
"""The least confidence of a letter that counts as read."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A word, or a letter for a reader of letters, as it was cut: its ink [32, w], and the gap before it."""

    ink: Tensor
    gap: int

    @property
    def width(self) -> int:
        return self.ink.shape[1]


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it was read, with the confidence of each letter, and that of their number."""

    text: str
    letters: tuple[float, ...]
    length: float

    @property
    def shown(self) -> str:
        """The text, with `?` for the letters that were not read."""
        return "".join(letter if sure >= SURE else "?" for letter, sure in zip(self.text, self.letters, strict=True))


@dataclass(frozen=True, slots=True)
class ReadLine:
    """A line of a reader's image: the parts in it, the words that were read, and the confidence of their number."""

    parts: list[Segment]
    words: list[Word]
    count: float

    @property
    def text(self) -> str:
        """The words, with `?` for what was not read."""
        gaps = [part.gap for part in self.parts] if len(self.words) == len(self.parts) else [SPACE] * len(self.words)
        texts = (" " * (gap >= SPACE) + word.shown for gap, word in zip(gaps, self.words, strict=True))
        return "".join(texts).strip() or "?"


@dataclass(frozen=True, slots=True)
class Reader:
    """A trained reader of `letters`, `words`, `lines` or `paragraphs`: its graph, training text, and image size."""

    level: str
    compute: Compute
    face: Face
    size: Sequence[int]

    def fit(self, line: TextLine) -> tuple[list[Segment], float]:
        """The parts of a line at the most plausible scale, and that scale."""
        found: list[tuple[float, list[Segment], float]] = []
        for letters in EXTENTS:
            top, bottom = self.face.rows(letters)
            scale = (bottom - top) / line.ink.shape[0]
            parts = self.cut(_strip(line.ink, top, bottom, round(line.ink.shape[1] * scale)))
            found.append((self.plausibility(self.read([parts])), parts, scale))
        return max(found, key=lambda one: one[0])[1:]

    def cut(self, strip: Tensor) -> list[Segment]:
        """The parts of the `strip` [32, w] of a line, between gaps."""
        spans: list[list[int]] = []
        for start, end in runs((strip > INKED).any(dim=0)):
            if spans and self.level != "letters" and start - spans[-1][1] < SPACE:
                spans[-1][1] = end
            else:
                spans.append([start, end])
        before = [0, *(end for _, end in spans)]
        return [Segment(strip[:, start:end], start - past) for (start, end), past in zip(spans, before, strict=False)]

    def filled(self, lines: Sequence[list[Segment]]) -> list[list[Segment]]:
        """The lines of the reader's images: a long line fills several of them."""
        most = 1 if self.level in ("letters", "words") else MOST
        filled: list[list[Segment]] = []
        for parts in lines:
            room = 0
            for part in parts:
                if not room or _gap(part) + part.width > room or len(filled[-1]) == most:
                    filled.append([])
                    room = self.size[1] - 2 * MARGIN + _gap(part)
                filled[-1].append(part)
                room = max(0, room - _gap(part) - part.width)
        return filled

    def read(self, lines: Sequence[list[Segment]]) -> list[ReadLine]:
        """The output of the graph for some lines."""
        filled = self.filled(lines)
        stacked = MOST if self.level == "paragraphs" else 1
        pages = [filled[start : start + stacked] for start in range(0, len(filled), stacked)]
        images = torch.stack([_image(page, self.size) for page in pages])
        letters, lengths, counts, count = _scores(self.level, self.compute({"image": images[:, None]}))
        rows = []
        for number, page in enumerate(pages):
            present, sure = _most_likely(count[number])
            for line, parts in enumerate(page):
                words, certain = _most_likely(counts[number, line]) if line < present else (0, 1.0)
                read = [_word(letters[number, line, place], lengths[number, line, place]) for place in range(words)]
                rows.append(ReadLine(parts, read, certain * sure))
        return rows

    def plausibility(self, rows: Sequence[ReadLine]) -> float:
        """The mean logarithm of all confidences, less the difference of widths between what was cut and read."""
        sure = [value for row in rows for word in row.words for value in (*word.letters, word.length)]
        sure += [row.count for row in rows]
        off = [
            abs(math.log(self.width(word) / part.width)) if len(row.words) == len(row.parts) else 1.0
            for row in rows
            for part, word in zip(row.parts, row.words or [Word("", (), 1.0)], strict=False)
        ]
        return sum(math.log(max(value, 1e-6)) for value in sure) / len(sure) - sum(off) / max(len(off), 1)

    def width(self, word: Word) -> int:
        """The width of a word in the training text."""
        return self.face.places(word.text)[-1][1] if word.text else 1

    def details(self, row: ReadLine) -> Iterator[str]:
        """The confidence of every letter of a row, and what was not read."""
        for number, word in enumerate(row.words):
            sure = list(zip(word.text, word.letters, strict=True))
            length = "" if self.level == "letters" else f"  length {word.length:.0%}"
            yield f"{word.text:5} {'  '.join(f'{letter} {value:.0%}' for letter, value in sure)}{length}"
            unread = [f"`{letter}`" for letter, value in sure if value < SURE]
            if unread:
                yield f"not read: {', '.join(unread)} of `{word.text}`, below {SURE:.0%}"
            if len(row.words) == len(row.parts) and row.parts[number].width > 1.2 * self.width(word) + 4:
                most = "one letter" if self.level == "letters" else f"at most {LONGEST} letters"
                yield f"not read: the rest of `{word.text}`, which is {row.parts[number].width} pixels wide ({most})"
        if len(row.words) != len(row.parts):
            yield f"not read: {len(row.parts)} words were cut, and {len(row.words)} read ({row.count:.0%})"


def read_text(
    level: str,
    file: Path,
    compute: Compute,
    *,
    fonts: Sequence[str],
    font_size: int,
    size: Sequence[int],
    **others: Any,
) -> Iterator[str]:
    """The text in an image file, line by line; then the confidence of each letter, and what was not read.

    `compute` gives the outputs of a reader of the given `level` for images of `size`. Raises `ConfigError` for a file
    without text, or that is no image.
    """
    reader = Reader(level, compute, Face(fonts[0], font_size, STRIP), size)
    found = scan(file)
    fits = [reader.fit(line) for line in found.lines]
    lines = [parts for parts, _ in fits]
    read = list(_of_each(lines, reader.read(lines)))
    yield from (" ".join(row.text for row in rows) for rows in read)
    yield ""
    height, width = found.size
    scales = sorted(scale for _, scale in fits)
    shown = " to ".join(dict.fromkeys(f"{scale:.2f}" for scale in (scales[0], scales[-1])))
    yield f"{file.name}: {width} x {height} pixels, {found.look}, scaled by {shown}"
    parts = counted(sum(map(len, lines)), "letter" if level == "letters" else "word")
    yield f"cut into {counted(len(lines), 'line')} of {parts}, for images of {size[1]} x {size[0]} pixels"
    for number, rows in enumerate(read, 1):
        yield from (f"line {number}  {text}" for row in rows for text in reader.details(row))


read_letters, read_words, read_lines, read_paragraphs = (partial(read_text, level) for level in OUTPUTS)


def _of_each(lines: Sequence[list[Segment]], rows: Sequence[ReadLine]) -> Iterator[list[ReadLine]]:
    """The rows of each line."""
    rest = iter(rows)
    for parts in lines:
        found: list[ReadLine] = []
        while sum(len(row.parts) for row in found) < len(parts):
            found.append(next(rest))
        yield found


def _strip(ink: Tensor, top: int, bottom: int, width: int) -> Tensor:
    """The strip [32, width] of a line whose `ink` [h, w] is scaled to the rows from `top` to `bottom`."""
    size = (bottom - top, max(width, 1))
    strip = torch.zeros(STRIP, size[1])
    strip[top:bottom] = interpolate(ink[None, None], size, mode="bilinear", antialias=True, align_corners=False)[0, 0]
    return strip / strip.amax().clamp(min=1e-6)


def _gap(part: Segment) -> int:
    """The gap before a part, as training text may have it."""
    return min(max(part.gap, GAP[0]), GAP[1])


def _image(lines: Sequence[list[Segment]], size: Sequence[int]) -> Tensor:
    """An image [H, W] with lines that begin at the same column, the widest one in the middle."""
    image = torch.zeros(*size)
    widths = [sum(_gap(part) + part.width for part in parts) - _gap(parts[0]) for parts in lines]
    begin, step = max(0, (size[1] - max(widths)) // 2), LEADING[0] + 2
    top = (size[0] - STRIP - step * (len(lines) - 1)) // 2
    for number, parts in enumerate(lines):
        left = begin
        for place, part in enumerate(parts):
            left += _gap(part) if place else 0
            inside = image[top + number * step : top + number * step + STRIP, left : left + part.width]
            torch.maximum(inside, part.ink[:, : inside.shape[1]], out=inside)
            left += part.width
    return image


def _scores(level: str, found: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores of letters [B, L, M, N, 26], and of the numbers of letters [B, L, M, n], words [B, L, n], lines [B, n].

    A number that a reader does not give is one. Raises `ConfigError` for a graph without the outputs of its level.
    """
    missing = [name for name in OUTPUTS[level] if name not in found]
    if missing:
        message = f"a reader of {level} must have the outputs {listing(OUTPUTS[level])}"
        raise ConfigError(Diagnostic("FC0502", f"{message}, but this graph has {listing(list(found))}"))
    letters, *numbers = (found[name] for name in OUTPUTS[level])
    rows, inner = len(letters), letters.shape[1:-1]
    letters = letters.reshape(rows, *(1,) * (3 - len(inner)), *inner, -1)
    ones = [letters.new_zeros(*letters.shape[:depth], 1) for depth in (3, 2, 1)]
    shaped = [part.reshape(*one.shape[:-1], -1) for part, one in zip(numbers, ones, strict=False)]
    lengths, counts, count = [*shaped, *ones[len(shaped) :]]
    return letters, lengths, counts, count


def _most_likely(scores: Tensor) -> tuple[int, float]:
    """The most likely number, of 1 to n, by `scores` [n], and its probability."""
    sure, index = scores.softmax(dim=-1).max(dim=-1)
    return int(index) + 1, float(sure)


def _word(letters: Tensor, length: Tensor) -> Word:
    """The word by the scores of its letters [N, 26] and of its length [n]."""
    count, certain = _most_likely(length)
    sure, index = letters[:count].softmax(dim=-1).max(dim=-1)
    return Word("".join(chr(ord("a") + number) for number in index.tolist()), tuple(sure.tolist()), certain)
