"""Changes of mind about the readers, each a file of a few lines; all of them train, and no Python does any wiring."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from safetensors.torch import load_file

import flowconf
from tests.train.conftest import train

ROOT = Path(__file__).parents[2]
CONFIG, WORD = ROOT / "configs/fbrl_letter.yaml", ROOT / "configs/fbrl_word.yaml"
SENSORS = [f"model.flow.{part}.loop.flow.sensor.graph=fbrl/sensor_conv" for part in ("scan", "read")]
PIVOTS = {
    "no_decoder": ["model.flow.reproduction=null", "loss.reproduction=null"],
    "conv_sensor": SENSORS,
    "dropout": ["+model.flow.drop={through: Dropout(0.1), after: latent}"],
}
QUICK = [
    "data.images=24",
    "data.batch_size=8",
    "~data.evaluate",
    "trainer.steps=2",
    "trainer.evaluate_every=2",
    "trainer.threads=1",
    "trainer.test=false",
]


LETTER_PIVOTS = ["no_decoder", "recode", "no_scan", "conv_sensor", "three_passes", "dropout", "noise_curriculum"]
WORD_PIVOTS = ["prescribed_scan", "sub_scan", "thaw", "thaw_scan", "atlas"]
ALONE = "~model.flow.letters.map.checkpoint"


@pytest.mark.parametrize("name", LETTER_PIVOTS + WORD_PIVOTS)
def test_a_pivot_has_a_few_lines(name: str) -> None:
    assert len((ROOT / f"configs/pivot/{name}.yaml").read_text(encoding="utf-8").splitlines()) <= 12


@pytest.mark.parametrize("name", PIVOTS)
def test_the_command_line_can_say_the_same(name: str) -> None:
    by_file, by_words = flowconf.load(CONFIG, [f"pivot={name}"]), flowconf.load(CONFIG, PIVOTS[name])
    assert by_file.model == by_words.model
    assert by_file.training == by_words.training
    assert by_file.model != flowconf.load(CONFIG).model


def trained(config: Path, name: str, folder: Path, *overrides: str) -> dict[str, list[int]]:
    """The shapes of the weights after a few steps with a pivot; nothing is warned of."""
    assert not flowconf.check(config, [f"pivot={name}"])
    run = train(flowconf.load(config, [f"pivot={name}", *QUICK, f"trainer.runs={folder}", *overrides]))
    return {key: list(tensor.shape) for key, tensor in load_file(run / "checkpoints" / "best.safetensors").items()}


@pytest.mark.parametrize("name", LETTER_PIVOTS)
def test_a_pivot_of_the_letter_reader_trains(name: str, tmp_path: Path) -> None:
    tensors = trained(CONFIG, name, tmp_path)
    assert any(key.startswith("reproduction") for key in tensors) == (name != "no_decoder")
    assert any(key.startswith("scan.sensor") for key in tensors) == (name != "no_scan")
    assert any(key.startswith("scan.sensor.edges") for key in tensors) == (name == "conv_sensor")


@pytest.mark.parametrize("name", WORD_PIVOTS)
def test_a_pivot_of_the_word_reader_trains(name: str, tmp_path: Path) -> None:
    tensors = trained(WORD, name, tmp_path, ALONE)
    assert any(key.startswith("near.") for key in tensors) == (name == "sub_scan")


def test_the_large_letter_reader_trains(tmp_path: Path) -> None:
    large = ROOT / "configs/fbrl_letter_large.yaml"
    assert not flowconf.check(large, ["pivot=recode"])
    fewer = ["data.fonts=[roboto]", "data.characters=aB7", "model.flow.logits.through=Linear(width, 3)"]
    tensors = trained(large, "recode", tmp_path, *fewer)
    assert tensors["reproduction.seed.0.weight"] == [16 * 32 * 32, 256]
    assert tensors["scan.sensor.what.1.weight"] == [256, 12 * 18]


def test_thawing_the_scan_changes_no_other_part_of_the_letter_reader(tmp_path: Path) -> None:
    letter = train(flowconf.load(CONFIG, [*QUICK, f"trainer.runs={tmp_path}"])) / "checkpoints/best.safetensors"
    words = [
        "pivot=thaw_scan",
        *QUICK,
        f"trainer.runs={tmp_path}",
        f"model.flow.letters.map.checkpoint={letter}",
        "phases.read.when.fraction=0",
    ]
    run = train(flowconf.load(WORD, words))
    before, after = load_file(letter), load_file(run / "checkpoints/last.safetensors")
    changed = {key for key, tensor in before.items() if not tensor.equal(after[f"letter.{key}"])}
    assert changed
    assert {key.split(".")[0] for key in changed} == {"scan"}


WIRING = {
    "load_state_dict",
    "load",
    "requires_grad_",
    "requires_grad",
    "freeze",
    "thaw",
    "eval",
    "register_forward_hook",
    "detach",
}


@pytest.mark.parametrize("file", sorted((ROOT / "flowconf/fbrl").glob("*.py")), ids=lambda file: file.name)
def test_no_python_does_any_wiring(file: Path) -> None:
    """Loading, freezing, thawing and rerouting are lines of configs; the package has blocks, losses and data."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and not (file.name in ("atlas.py", "reading.py") and node.attr == "load"):
            assert node.attr not in WIRING, f"{file.name}:{node.lineno}: {node.attr}"
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not [name for name in names if name.startswith(("flowconf.graph", "torch.optim"))], file.name
