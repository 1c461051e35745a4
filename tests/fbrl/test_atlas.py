"""The atlas: where a reader looked and what it saw, at every level, drawn by a callback."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import flowconf
from flowconf.fbrl.atlas import CARD, READ, draw
from flowconf.fbrl.glimpse import View
from tests.train.conftest import train

pytest.importorskip("PIL")
ROOT = Path(__file__).parents[2]
SIZES = {"letters": (32, 32), "words": (32, 96), "lines": (32, 208), "paragraphs": (104, 208)}


def read(level: str) -> dict[str, torch.Tensor]:
    """What an untrained reader gives for an image with ink everywhere."""
    torch.manual_seed(0)
    graph = flowconf.build(ROOT / f"configs/fbrl_{level[:-1]}.yaml", weights=False)
    image = torch.rand(1, 1, *SIZES[level])
    with torch.no_grad():
        return {"image": image, **graph.eval().view(READ[level])(image)}


@pytest.mark.parametrize("level", SIZES)
def test_every_level_has_an_atlas(level: str) -> None:
    """The image with the glimpses, and below it a row of cards for each word."""
    values = read(level)
    for name in ("length", "word.length", "line.word.length", "count", "line.count"):
        if name in values:
            values[name] = torch.eye(values[name].shape[-1])[1].expand_as(values[name])  # two of everything
    drawn = draw(values)
    cards, rows = {"letters": (1, 1), "words": (2, 1), "lines": (2, 2), "paragraphs": (2, 4)}[level]
    height, width = SIZES[level]
    zoom = max(2, min(12, 800 // width))
    assert drawn.size == (max(width * zoom + 16, cards * CARD[0] + 8), height * zoom + 16 + rows * CARD[1])
    assert len(drawn.getcolors(1 << 20)) > 20


def test_without_a_decoder_there_is_no_reproduction() -> None:
    values = read("words")
    whole = draw(values)
    del values["letter.reproduction"]
    part = draw(values)
    assert part.size == whole.size
    assert part.tobytes() != whole.tobytes()


def test_a_letter_is_drawn_from_its_own_view() -> None:
    """The same letter reader on the view at that position draws the same card."""
    values = read("words")
    values["length"] = torch.eye(4)[:1]
    view = View(32)(values["where"][:, 0], values["image"])
    alone = {"image": view} | {
        name.removeprefix("letter."): value[:, 0] for name, value in values.items() if name.startswith("letter.")
    }
    cards = [
        drawn.crop((0, drawn.height - CARD[1], 8 + CARD[0], drawn.height)) for drawn in (draw(values), draw(alone))
    ]
    assert cards[0].tobytes() == cards[1].tobytes()


def test_a_run_draws_it(tmp_path: Path) -> None:
    quick = [
        "data.images=24",
        "data.batch_size=8",
        "trainer.steps=2",
        "trainer.evaluate_every=2",
        "callbacks.atlas.every=2",
    ]
    config = flowconf.load(
        ROOT / "configs/fbrl_word.yaml",
        ["pivot=atlas", "~model.flow.letters.map.checkpoint", *quick, f"trainer.runs={tmp_path}"],
    )
    run = train(config)
    assert (run / "images/atlas/read/2.png").is_file()
