"""Letters and words as pixels."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from string import ascii_lowercase

import pytest
import torch

from flowconf.fbrl import text
from flowconf.fbrl.text import FONTS, Face, font_file
from flowconf.fbrl.words import common_words
from flowconf.report import ConfigError, MachineError

pytest.importorskip("PIL")
TRAINED = ("roboto", "lato", "source_sans_pro")


@pytest.mark.parametrize("name", FONTS)
def test_every_font_draws_every_letter(name: str) -> None:
    face = Face(name, 22, 36)
    assert set(face.letters) == set(ascii_lowercase)
    for letter in face.letters.values():
        assert letter.ink.shape[0] == 36
        assert letter.ink.amax() > 100
        assert letter.ink[:, 0].any()
        assert letter.ink[:, -1].any()
        assert letter.advance > 0
    pictures = {bytes(letter.ink.flatten().tolist()) for letter in face.letters.values()}
    assert len(pictures) == 26


@pytest.mark.parametrize("name", TRAINED)
def test_a_word_is_what_pillow_draws(name: str) -> None:
    from PIL import Image, ImageDraw, ImageFont

    face = Face(name, 22, 36)
    font = ImageFont.truetype(str(font_file(name)), 22, layout_engine=ImageFont.Layout.BASIC)
    drawn = Image.new("L", (120, 80))
    ImageDraw.Draw(drawn).text((10, 40), "bushy", fill=255, font=font, anchor="ls")
    drawn = drawn.crop(drawn.getbbox())
    canvas = torch.zeros(36, 120, dtype=torch.uint8)
    face.paint(canvas, "bushy", 7)
    ours = Image.frombytes("L", (120, 36), bytes(canvas.flatten().tolist()))
    ours = ours.crop(ours.getbbox())
    assert ours.size == drawn.size
    assert ours.tobytes() == drawn.tobytes()


def test_the_line_is_in_the_middle_of_the_strip() -> None:
    canvas = torch.zeros(36, 100, dtype=torch.uint8)
    Face("roboto", 22, 36).paint(canvas, "dpjl", 4)
    rows = canvas.any(dim=1).nonzero().flatten()
    above, below = int(rows[0]), 35 - int(rows[-1])
    assert abs(above - below) <= 1


def test_ink_starts_at_the_given_column_and_ends_where_places_say() -> None:
    face = Face("lato", 22, 36)
    canvas = torch.zeros(36, 100, dtype=torch.uint8)
    face.paint(canvas, "jug", 11)
    columns = canvas.any(dim=0).nonzero().flatten()
    places = face.places("jug")
    assert places[0][0] == 0
    assert int(columns[0]) == 11
    assert int(columns[-1]) + 1 == 11 + places[-1][1]


def test_what_lies_outside_is_cut() -> None:
    face = Face("lato", 22, 36)
    wide = torch.zeros(36, 160, dtype=torch.uint8)
    face.paint(wide, "mow", 50)
    for offset in (50, 70, 0, 150):
        narrow = torch.zeros(36, 40, dtype=torch.uint8)
        face.paint(narrow, "mow", 50 - offset)
        expected = torch.zeros(36, 40, dtype=torch.uint8)
        part = wide[:, offset : offset + 40]
        expected[:, : part.shape[1]] = part
        assert torch.equal(narrow, expected)


def test_too_large_a_font_is_refused() -> None:
    with pytest.raises(ConfigError, match="requires 43 rows, but the image has 36") as caught:
        Face("roboto", 44, 36)
    assert caught.value.diagnostics[0].code == "FC0123"


def test_an_unknown_font_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown font `robot`") as caught:
        font_file("robot")
    assert caught.value.diagnostics[0].help == "write `roboto`"


def test_a_missing_font_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(text, "distribution", missing)
    with pytest.raises(MachineError, match="`font-lato` is not installed") as caught:
        font_file("lato")
    diagnostic = caught.value.diagnostics[0]
    assert diagnostic.code == "FC0601"
    assert 'pip install "flowconf[fbrl]"' in str(diagnostic.help)


def test_a_missing_pillow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MachineError, match="`Pillow` is not installed") as caught:
        Face("lato", 22, 36)
    assert 'pip install "flowconf[fbrl]"' in str(caught.value.diagnostics[0].help)


def test_the_words_are_split_once_and_for_all() -> None:
    words = common_words()
    assert [len(part) for part in (words.train, words.validation, words.test)] == [662, 60, 180]
    assert len({*words.train, *words.validation, *words.test}) == 902
    assert all(2 <= len(word) <= 4 and set(word) <= set(ascii_lowercase) for word in words.train + words.test)
    assert words.validation[:5] == ("age", "axe", "bath", "bet", "born")
    assert set("".join(words.test)) == set(ascii_lowercase) - {"q"}
