"""The rendered data sets: pure, disjoint, and consistent with their own labels."""

from __future__ import annotations

from random import Random
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import pytest
import torch
from torch import Tensor

from flowconf.fbrl import data
from flowconf.fbrl.data import fbrl_letters, fbrl_lines, fbrl_paragraphs, fbrl_words
from flowconf.fbrl.glimpse import View
from flowconf.fbrl.text import Face
from flowconf.fbrl.words import common_words
from flowconf.report import ConfigError
from flowconf.train.data.declarations import DataSet
from flowconf.train.data.splits import Batch, Split, Splits

pytest.importorskip("PIL")
MAKERS = [fbrl_letters, fbrl_words, fbrl_lines, fbrl_paragraphs]


@pytest.fixture(scope="module")
def letters() -> Splits:
    return fbrl_letters(images=156, seed=0)


@pytest.fixture(scope="module")
def words() -> Splits:
    return fbrl_words(images=120, seed=0)


@pytest.fixture(scope="module")
def lines() -> Splits:
    return fbrl_lines(images=120, seed=0)


def batch(split: Split | None, rows: Tensor | None = None, seed: int = 0) -> Batch:
    assert split is not None
    return split.batch(torch.arange(len(split)) if rows is None else rows, torch.Generator().manual_seed(seed))


def equal(one: Batch, other: Batch) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def spelled(letters: Tensor) -> str:
    return "".join(chr(ord("a") + number) for number in letters.tolist() if number >= 0)


@pytest.mark.usefixtures("flagship")
@pytest.mark.parametrize("make", MAKERS)
def test_fields_say_what_batches_hold(make: Any) -> None:
    splits = make(images=30, seed=0)
    for _, split in splits.named():
        for rows in (torch.tensor([4]), torch.tensor([3, 0, 3])):
            made = batch(split, rows)
            assert set(made) == set(split.fields) == set(DataSet(make.__name__, {}).declared())
            for name, (shape, dtype) in split.fields.items():
                assert made[name].shape == (len(rows), *shape)
                assert made[name].dtype == dtype
            assert 0 <= made["image"].min() <= made["image"].max() <= 1


@pytest.mark.parametrize("make", MAKERS)
def test_a_batch_is_a_function_of_its_rows_and_the_generator(make: Any) -> None:
    rows = torch.tensor([5, 1, 1])
    one = batch(make(images=30, seed=3).train, rows, seed=1)
    assert equal(one, batch(make(images=30, seed=3).train, rows, seed=1))
    assert not torch.equal(one["image"], batch(make(images=30, seed=3).train, rows, seed=2)["image"])
    assert not torch.equal(one["image"], batch(make(images=30, seed=4).train, rows, seed=1)["image"])
    assert not torch.equal(one["image"][1], one["image"][2])


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_judged_on_depends_on_no_seed_and_no_generator(make: Any) -> None:
    one, other = make(images=20, seed=0), make(images=10, seed=1)
    assert equal(batch(one.validation, seed=0), batch(other.validation, seed=1))
    assert equal(batch(one.test, seed=0), batch(other.test, seed=1))
    shorter = min(len(one.validation), len(one.test))
    images = [batch(split, torch.arange(shorter))["image"] for split in (one.validation, one.test)]
    assert not torch.equal(*images)


def test_letters_come_equally_often(letters: Splits) -> None:
    assert torch.bincount(batch(letters.train)["label"]).tolist() == [6] * 26
    assert torch.bincount(batch(letters.test)["label"]).tolist() == [30] * 26


def test_the_clean_letter_is_where_the_image_has_it() -> None:
    alone = batch(fbrl_letters(images=78, neighbours=0, noise=0, seed=0).train)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(alone["image"], 2), alone["clean"])
    crowded = batch(fbrl_letters(images=78, neighbours=1, noise=0, seed=0).train)
    pooled = torch.nn.functional.avg_pool2d(crowded["image"], 2)
    assert (pooled >= crowded["clean"] - 1e-6).all()
    assert (pooled.sum(dim=(1, 2, 3)) > crowded["clean"].sum(dim=(1, 2, 3)) + 1).sum() > 70


def test_a_letter_in_the_other_case_is_where_that_letter_is() -> None:
    lower, upper = (
        batch(fbrl_letters(characters=characters, other_case=True, images=78, neighbours=0, noise=0, seed=0).train)
        for characters in (ascii_lowercase, ascii_uppercase)
    )
    assert torch.equal(lower["other_case"], upper["clean"])
    assert torch.equal(lower["clean"], upper["other_case"])
    assert (lower["other_case"] - lower["clean"]).abs().amax(dim=(1, 2, 3)).min() > 0.2


def test_characters_are_classes_and_digits_have_no_other_case() -> None:
    made = batch(fbrl_letters(characters="aB7", other_case=True, images=30, neighbours=0, seed=0).train)
    assert torch.bincount(made["label"]).tolist() == [10] * 3
    changed = (made["clean"] != made["other_case"]).any(dim=(1, 2, 3))
    assert torch.equal(changed, made["label"] < 2)


def test_the_guide_is_brightest_around_the_letter(letters: Splits) -> None:
    made = batch(letters.train)
    columns, rows = torch.arange(32.0), torch.arange(32.0)[:, None]
    for name, where, step in (("x", columns, columns[::2] + 0.5), ("y", rows, rows[::2] + 0.5)):
        guided = (made["guide"] * where).sum(dim=(1, 2, 3)) / made["guide"].sum(dim=(1, 2, 3))
        inked = (made["clean"] * step).sum(dim=(1, 2, 3)) / made["clean"].sum(dim=(1, 2, 3))
        assert (guided - inked).abs().max() < 1.5, name


def test_shifts_cover_their_range_and_no_more() -> None:
    split = fbrl_letters(images=2000, neighbours=0, noise=0, shift=(2, 1), seed=0).train
    m_of_roboto = batch(split, torch.full((400,), 12))["image"][:, 0]
    for axis, reach in ((2, 2), (1, 1)):
        ink = m_of_roboto.sum(dim=3 - axis)
        middles = (ink * torch.arange(32.0)).sum(dim=1) / ink.sum(dim=1)
        assert 1.9 * reach < middles.max() - middles.min() <= 2 * reach + 1e-3


def test_some_images_are_sampled_twice() -> None:
    """As those that a word reader sees in the view of a line reader: the same letter is more blurred."""
    split = fbrl_letters(images=78, neighbours=0, noise=0, shift=(2, 2), seed=0).train
    strongest = batch(split, torch.full((200,), 11))["image"].amax(dim=(1, 2, 3))
    assert strongest.max() > 0.95
    assert strongest.min() < 0.8


def test_no_shift_leaves_the_pixels_as_they_are() -> None:
    fixed = fbrl_letters(images=30, neighbours=0, noise=0, shift=(0, 0), seed=0).train
    assert equal(batch(fixed, seed=0), batch(fixed, seed=1))
    levels = batch(fixed)["image"] * 255
    torch.testing.assert_close(levels, levels.round())


def test_words_are_of_their_own_split(words: Splits) -> None:
    lists = common_words()
    for split, allowed, times in ((words.validation, lists.validation, 18), (words.test, lists.test, 6)):
        texts = [spelled(row) for row in batch(split)["letters"]]
        assert sorted(set(texts)) == list(allowed)
        assert {texts.count(text) for text in allowed} == {times}
    shown = {spelled(row) for row in batch(words.train)["letters"]}
    assert shown.isdisjoint(lists.held_out)
    assert 0.55 < sum(text in lists.train for text in shown) / len(shown) < 0.85


def test_training_never_draws_a_held_out_word(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    original = data.word_pictures

    def recorded(style: Any, texts: Any, draw: Any, chance: Random) -> Any:
        drawn.extend(draw(chance) for _ in range(20_000))
        return original(style, texts, draw, chance)

    monkeypatch.setattr(data, "word_pictures", recorded)
    batch(fbrl_words(images=1, random=0.9, seed=0).train)
    train, rest = drawn[:20_000], common_words().held_out
    assert not rest & set(train)
    assert {len(text) for text in train} == {2, 3, 4}


def test_lengths_masks_and_labels_agree(words: Splits) -> None:
    for split in (words.train, words.test):
        made = batch(split)
        lengths = made["present"].sum(dim=1).long()
        assert torch.equal(made["count"], lengths - 1)
        assert torch.equal(made["letters"] >= 0, made["present"] == 1)
        assert torch.equal(made["letters"] == -100, made["present"] == 0)
        assert (made["present"].diff(dim=1) <= 0).all()
        assert (made["centres"][made["present"] == 0] == 0).all()


def test_a_view_at_a_letters_centre_shows_that_letter() -> None:
    """But for what is beside it, and for half a pixel where the ink is an odd number of pixels wide."""
    made = batch(fbrl_words(fonts=("roboto",), images=200, neighbours=0, noise=0, shift=(0, 0), seed=0).train)
    alone = batch(fbrl_letters(fonts=("roboto",), images=26, neighbours=0, noise=0, shift=(0, 0), seed=0).train)[
        "image"
    ]
    view = View(32)
    for place in range(4):
        rows = made["present"][:, place] == 1
        seen = view(made["centres"][rows, place], made["image"][rows])
        meant = alone[made["letters"][rows, place]]
        distance = torch.nn.functional.avg_pool2d(meant - seen, 2, stride=1).clamp_min(0).amax(dim=(1, 2, 3))
        assert distance.max() < 0.45


def test_neighbouring_words_keep_their_distance() -> None:
    made = batch(fbrl_words(images=300, neighbours=1, noise=0, shift=(0, 0), size=(32, 200), seed=0).train)
    inked = made["image"].amax(dim=(1, 2)) > 0
    for row in range(0, 300, 10):
        gaps = "".join("#" if column else " " for column in inked[row].tolist()).strip().split("#")
        wide = [len(gap) for gap in gaps if len(gap) >= 6]
        assert len(wide) >= 4
        assert all(7 <= gap <= 15 for gap in wide)


def test_lines_hold_words_of_their_own_split(lines: Splits) -> None:
    lists = common_words()
    for split, allowed in ((lines.validation, lists.validation), (lines.test, lists.test)):
        shown = {spelled(word) for line in batch(split)["letters"] for word in line} - {""}
        assert shown <= set(allowed)
    shown = {spelled(word) for line in batch(lines.train)["letters"] for word in line}
    assert shown.isdisjoint(lists.held_out)
    assert torch.bincount(batch(lines.test)["count"]).min() > 120


def test_what_is_said_of_a_lines_words_agrees(lines: Splits) -> None:
    made = batch(lines.train)
    letters = (made["letters"] >= 0).sum(dim=2)
    assert torch.equal(made["present"], (letters > 0).float())
    assert torch.equal(made["count"], (letters > 0).sum(dim=1) - 1)
    assert torch.equal(made["lengths"], torch.where(letters > 0, letters - 1, -100))
    assert (made["present"].diff(dim=1) <= 0).all()
    assert (made["centres"][made["present"] == 0] == 0).all()


def test_a_view_at_a_words_centre_shows_that_word_and_no_line_is_cut() -> None:
    """But for what is beside it, and for half a pixel where the ink is an odd number of pixels wide."""
    columns = batch(fbrl_lines(fonts=("roboto",), images=60, noise=0, seed=0).train)["image"].amax(dim=(1, 2))
    assert columns[:, 0].max() == columns[:, -1].max() == 0, "the words end inside of the image"
    made = batch(fbrl_lines(fonts=("roboto",), images=60, noise=0, shift=(0, 0), seed=0).train)
    image, view = made["image"], View((32, 96))
    for row in range(60):
        face = Face("roboto", 22, 32)
        for place in range(int(made["count"][row]) + 1):
            word = spelled(made["letters"][row, place])
            width = face.places(word)[-1][1]
            seen = view(made["centres"][row : row + 1, place], image[row : row + 1])[0, 0]
            meant = torch.zeros(32, 96, dtype=torch.uint8)
            face.paint(meant, word, (96 - width) // 2)
            missing = torch.nn.functional.avg_pool2d((meant / 255 - seen)[None], 2, stride=1).clamp_min(0)
            assert missing.max() < 0.45, word


def test_what_is_said_of_a_paragraph_agrees() -> None:
    splits = fbrl_paragraphs(images=60, noise=0, seed=0)
    for split, allowed in ((splits.test, common_words().test), (splits.train, None)):
        made = batch(split)
        letters = (made["letters"] >= 0).sum(dim=3)
        words = (letters > 0).sum(dim=2)
        assert torch.equal(made["lengths"], torch.where(letters > 0, letters - 1, -100))
        assert torch.equal(made["counts"], torch.where(words > 0, words - 1, -100))
        assert torch.equal(made["present"], (words > 0).float())
        assert torch.equal(made["count"], (words > 0).sum(dim=1) - 1)
        assert (made["centres"][..., 0] == 0).all()
        shown = {spelled(word) for word in made["letters"].flatten(0, 2)} - {""}
        assert shown.isdisjoint(common_words().held_out) if allowed is None else shown <= set(allowed)


def test_a_view_at_a_lines_centre_shows_that_line_and_no_other() -> None:
    made = batch(fbrl_paragraphs(images=40, noise=0, seed=0).train)
    rows = made["image"].amax(dim=(1, 3))
    assert rows[:, 0].max() == rows[:, -1].max() == 0, "the lines end inside of the image"
    view = View((32, 208))
    for row in range(40):
        for line in range(int(made["count"][row]) + 1):
            seen = view(made["centres"][row : row + 1, line], made["image"][row : row + 1])[0, 0]
            inked = (seen.amax(dim=1) > 0.02).nonzero().flatten()
            assert 2 <= inked.min() <= inked.max() <= 29


@pytest.mark.parametrize("make", MAKERS)
def test_a_split_that_is_not_used_is_not_rendered(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = make(images=5, seed=0)
    batch(splits.train)
    monkeypatch.setattr(data, f"{make.__name__[5:-1]}_pictures", None)
    batch(splits.train)
    with pytest.raises(TypeError):
        batch(splits.test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fonts": []}, "`fonts` must not be empty"),
        ({"font_size": 0}, "`font_size` must be positive, got 0"),
        ({"size": [32]}, "`size` must be two positive numbers"),
        ({"shift": [-1, 2]}, "`shift` must be two non-negative numbers"),
        ({"noise": -0.1}, "`noise` must not be negative, got -0.1"),
        ({"images": 0}, "`images` must be positive, got 0"),
    ],
)
@pytest.mark.parametrize("make", MAKERS)
def test_arguments_out_of_range_are_refused(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**arguments, seed=0)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "FC0123"
    assert message in diagnostic.message
    assert diagnostic.path == f"data.{next(iter(arguments))}"


def test_arguments_of_one_set_alone() -> None:
    with pytest.raises(ConfigError, match="`size` must be even"):
        fbrl_letters(size=(31, 32), shift=(3, 2), seed=0)
    for characters in ("", "aa", "a b", "ä"):
        with pytest.raises(ConfigError, match=f"must be different letters and digits of ASCII, got `{characters}`"):
            fbrl_letters(characters=characters, seed=0)
    with pytest.raises(ConfigError, match="`size` leaves 26 rows for lines at every shift, but 1 of them require 28"):
        batch(fbrl_paragraphs(size=(30, 208), images=5, seed=0).train)
    with pytest.raises(ConfigError, match=r"`neighbours` must be from 0 to 1, got 1\.5"):
        fbrl_letters(neighbours=1.5, seed=0)
    for make in (fbrl_words, fbrl_lines, fbrl_paragraphs):
        with pytest.raises(ConfigError, match="`random` must be from 0 to 1, got 2"):
            make(random=2, seed=0)
    with pytest.raises(ConfigError, match="`size` leaves 32 columns for text at every shift, but 3 words require more"):
        batch(fbrl_lines(size=(32, 40), images=50, seed=0).train)
