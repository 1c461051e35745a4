"""Three changes of mind, each a file of a few lines or a word of the command line; all of them train."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowconf
from flowconf.train.commands.train import train

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/fbrl_letter.yaml"
SENSORS = [f"model.flow.{part}.loop.flow.sensor.graph=fbrl/sensor_conv" for part in ("scan", "read")]
PIVOTS = {
    "no_decoder": ["model.flow.reproduction=null", "loss.reproduction=null"],
    "conv_sensor": SENSORS,
    "dropout": ["+model.flow.drop={through: Dropout(0.1), after: latent}"],
}
QUICK = ["data.images=24", "data.batch_size=8", "trainer.steps=2", "trainer.evaluate_every=2", "trainer.threads=1"]


@pytest.mark.parametrize("name", PIVOTS)
def test_a_pivot_is_at_most_six_lines(name: str) -> None:
    assert len((ROOT / f"configs/pivot/{name}.yaml").read_text(encoding="utf-8").splitlines()) <= 6


@pytest.mark.parametrize("name", PIVOTS)
def test_the_command_line_can_say_the_same(name: str) -> None:
    by_file, by_words = flowconf.load(CONFIG, [f"pivot={name}"]), flowconf.load(CONFIG, PIVOTS[name])
    assert by_file.model == by_words.model
    assert by_file.training == by_words.training
    assert by_file.model != flowconf.load(CONFIG).model


@pytest.mark.parametrize("name", PIVOTS)
def test_a_pivot_trains(name: str, tmp_path: Path) -> None:
    run = train(flowconf.load(CONFIG, [f"pivot={name}", *QUICK, f"trainer.runs={tmp_path}"]))
    tensors = flowconf.build(CONFIG, [f"pivot={name}"]).state_dict()
    assert (run / "checkpoints" / "best.safetensors").is_file()
    assert any(key.startswith("reproduction") for key in tensors) == (name != "no_decoder")
    assert any(key.startswith("scan.sensor.edges") for key in tensors) == (name == "conv_sensor")
