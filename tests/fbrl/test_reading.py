"""Pictures of any size and look, read by an oracle that knows what the training text looks like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from flowconf.fbrl.reading import Reader, Segment, read_text
from flowconf.fbrl.scan import scan
from flowconf.fbrl.text import Face, font_file
from flowconf.report import ConfigError

Image = pytest.importorskip("PIL.Image")
VOCABULARY = ("the", "cup", "jam", "on", "my", "bed", "now")
SIZES = {"words": (32, 96), "lines": (32, 208), "paragraphs": (104, 208)}


def picture(
    file: Path, text: str, size: int, paper: str = "white", ink: str = "black", margin: int = 20, noise: int = 0
) -> Path:
    """A picture of text in Roboto of the given size."""
    from PIL import ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_file("roboto")), size, layout_engine=ImageFont.Layout.BASIC)
    wide = [round(font.getlength(line)) for line in text.split("\n")]
    drawn = Image.new("RGB", (max(wide) + 2 * margin, round(1.3 * size * len(wide)) + 2 * margin), paper)
    ImageDraw.Draw(drawn).multiline_text((margin, margin), text, fill=ink, font=font, spacing=size * 0.2)
    if noise:
        chance = Random(0)
        shaded = drawn.load()
        for x in range(drawn.width):
            for y in range(drawn.height):
                change = chance.gauss(0, noise) - 80 * x / drawn.width
                shaded[x, y] = tuple(max(0, min(255, round(part + change))) for part in shaded[x, y])
    drawn.save(file)
    return file


class Oracle:
    """Gives each image to the word of the vocabulary that looks most like it, and is less sure the less it does."""

    def __init__(self) -> None:
        self.face = Face("roboto", 22, 32)
        self.drawn = torch.zeros(len(VOCABULARY), 32, 96, dtype=torch.uint8)
        for canvas, word in zip(self.drawn, VOCABULARY, strict=True):
            self.face.paint(canvas, word, (96 - self.face.places(word)[-1][1]) // 2)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        images = inputs["image"]
        assert images.shape[1:] == (1, 32, 96)
        seen, known = (avg_pool2d(part, 3, 1, 1) for part in (images, self.drawn[None] / 255))
        distance = (seen - known).square().sum(dim=(2, 3)) / seen.square().sum(dim=(2, 3))
        letters, length = torch.zeros(len(images), 4, 26), torch.zeros(len(images), 4)
        for row, (least, index) in enumerate(zip(*distance.min(dim=1), strict=True)):
            word = VOCABULARY[index]
            sure = 12 * (1 - 1.5 * least).clamp(min=0)
            length[row, len(word) - 1] = sure
            for place, letter in enumerate(word):
                letters[row, place, ord(letter) - ord("a")] = sure
        return {"letters": letters, "length": length}


def read(file: Path, level: str = "words", compute: Any = None) -> list[str]:
    given = {"fonts": ["roboto", "lato"], "font_size": 22, "size": SIZES[level], "images": 5}
    return list(read_text(level, file, compute or Oracle(), **given))


@pytest.mark.parametrize(
    ("size", "paper", "ink"),
    [(22, "black", "white"), (60, "white", "black"), (13, "#204080", "#ffd040"), (90, "red", "green")],
)
def test_text_of_any_size_and_colour_is_read(size: int, paper: str, ink: str, tmp_path: Path) -> None:
    found = read(picture(tmp_path / "a.png", "the cup\non my bed", size, paper, ink))
    assert found[:3] == ["the cup", "on my bed", ""]
    assert "cut into 2 lines of 5 words, for images of 96 x 32 pixels" in found
    assert ("light text on dark" in found[3]) == (size in (22, 13))
    scales = [float(word) for word in found[3].split("scaled by ")[1].split(" to ")]
    assert all(abs(scale * size / 22 - 1) < 0.15 for scale in scales)
    assert sum(line.startswith("line 2") for line in found) == 3


def test_a_scan_with_noise_and_a_shadow_is_read(tmp_path: Path) -> None:
    assert read(picture(tmp_path / "a.png", "the cup jam", 40, "#f0f0f0", noise=12))[0] == "the cup jam"


def test_each_letter_has_a_confidence_and_what_was_not_read_is_said(tmp_path: Path) -> None:
    found = read(picture(tmp_path / "a.png", "cup bedbed", 44))
    (cup,) = (line for line in found if line.startswith("line 1  cup"))
    assert [part.split()[0] for part in cup.removeprefix("line 1  cup").split("  ") if part] == [
        *("c", "u", "p", "length")
    ]
    assert any("not read: the rest of `" in line and "pixels wide (at most 4 letters)" in line for line in found)


def test_a_letter_that_is_not_sure_is_a_question_mark(tmp_path: Path) -> None:
    def unsure(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = Oracle()(inputs)
        found["letters"][:, 1] = 0
        return found

    found = read(picture(tmp_path / "a.png", "cup", 44), compute=unsure)
    assert found[0] == "c?p"
    assert "line 1  not read: `a` of `cap`, below 50%" in found


def counted(words: int, lines: int) -> Any:
    """Reads `a` everywhere, and this number of words in each of this number of lines."""

    def compute(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rows, tall = len(inputs["image"]), inputs["image"].shape[2] > 32
        outer = (rows, 3) if tall else (rows,)
        found = {"letters": torch.zeros(*outer, 3, 4, 26), "lengths": torch.zeros(*outer, 3, 4)}
        found["counts" if tall else "count"] = 9 * torch.eye(3)[torch.full(outer, words - 1)]
        return found | ({"count": 9 * torch.eye(3)[torch.full((rows,), lines - 1)]} if tall else {})

    return compute


@pytest.mark.parametrize("level", ["lines", "paragraphs"])
def test_another_number_of_words_is_said(level: str) -> None:
    words = [Segment(torch.ones(32, 30), gap) for gap in (0, 9, 30)]
    reader = Reader(level, counted(3, 2), Face("roboto", 22, 32), SIZES[level])
    rows = reader.read([words, words])
    assert [len(row.parts) for row in rows] == [3, 3]
    assert [len(row.words) for row in rows] == [3, 3]
    reader = Reader(level, counted(2, 1), Face("roboto", 22, 32), SIZES[level])
    first, second = reader.read([words, words])
    assert list(reader.details(first))[-1] == "not read: 3 words were cut, and 2 read (100%)"
    assert first.text == "? ?"
    assert len(second.words) == (2 if level == "lines" else 0)
    assert second.text == ("? ?" if level == "lines" else "?")


def test_a_long_line_continues_in_the_next_image() -> None:
    reader = Reader("lines", counted(3, 1), Face("roboto", 22, 32), SIZES["lines"])
    few = [Segment(torch.ones(32, 20), 9) for _ in range(7)]
    wide = [Segment(torch.ones(32, 90), 9) for _ in range(3)]
    assert [len(parts) for parts in reader.filled([few, wide])] == [3, 3, 1, 2, 1]
    assert [len(row.words) for row in reader.read([few])] == [3, 3, 3]


def test_a_file_that_is_no_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not an image"):
        scan(Path(__file__))


@pytest.mark.parametrize(("colour", "why"), [("white", "nearly the same colour"), ("speck", "as large as a letter")])
def test_a_picture_without_text_is_refused(colour: str, why: str, tmp_path: Path) -> None:
    drawn = Image.new("L", (40, 20), "white")
    if colour == "speck":
        drawn.putpixel((20, 10), 0)
    drawn.save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=why):
        scan(tmp_path / "a.png")


def test_the_lines_of_a_picture(tmp_path: Path) -> None:
    found = scan(picture(tmp_path / "a.png", "iii\nthe\nmow", 40, margin=10))
    assert len(found.lines) == 3, "the dots of the first line belong to it"
    assert found.is_dark
    assert [line.ink.amax() for line in found.lines] == [1, 1, 1]
    assert found.lines[0].top < 30
    assert 8 <= found.lines[0].left <= 14


def test_a_graph_without_the_outputs_of_its_level_is_refused(tmp_path: Path) -> None:
    def other(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"logits": torch.zeros(len(inputs["image"]), 26)}

    with pytest.raises(ConfigError, match="must have the outputs `letters`, `length`, but this graph has `logits`"):
        read(picture(tmp_path / "a.png", "cup", 22), compute=other)
