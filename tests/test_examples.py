"""The projects in `examples/`, with a few steps each, where the packages that they use are installed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import flowconf
from flowconf.language import projects
from tests.other_packages import imported

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Makes a copy of an example the current folder."""
    monkeypatch.setattr(projects, "_trust", projects.Trust())
    monkeypatch.setattr(sys, "path", list(sys.path))

    def copied(name: str) -> Path:
        shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / name

    yield copied
    sys.modules.pop("masked_words", None)


@pytest.mark.parametrize(
    "project", sorted(file.parent for file in EXAMPLES.glob("*/pyproject.toml")), ids=lambda project: project.name
)
def test_a_project_lists_what_its_configs_call(project):
    listed = (project / "pyproject.toml").read_text()
    assert "packages = [" in listed
    assert sorted(project.glob("*.yaml"))


def test_an_encoder_of_transformers_learns_masked_words(example):
    imported("transformers")
    example("words")
    assert flowconf.check("masked.yaml") == []
    run = flowconf.train("masked.yaml", ["trainer.steps=40", "trainer.evaluate_every=20", "model.params.width=32"])
    assert 0 <= run.metrics["test/guessed"] <= 1


def test_a_regression_with_missing_targets_predicts_in_the_units_of_its_columns(example):
    folder = example("wine")
    assert flowconf.check("wine.yaml") == []
    run = flowconf.train("wine.yaml", ["trainer.epochs=5", "trainer.devices=cpu"])
    units = {name.removesuffix("_measured"): name for name in ("color_measured", "proline_measured")}
    fields = ["row", *units.values(), "color_measured_present"]
    found = run.predict("test", fields=fields, units={**units, **{name: name for name in units.values()}})
    cells = [line.split(",") for line in (folder / "wine.csv").read_text().splitlines()]
    columns = cells[0].index("color"), cells[0].index("proline")
    for place, row in enumerate(found["row"].tolist()):
        color, _ = (cells[row + 1][column] for column in columns)
        assert bool(color) == bool(found["color_measured_present"][place])
        if color:
            assert found["color_measured"][place].item() == pytest.approx(float(color), abs=1e-4)
    assert 500 < found["proline"].mean() < 1000
    assert 2 < found["color"].mean() < 9


@pytest.mark.slow
def test_a_backbone_of_torchvision_is_frozen_and_then_thawed(example):
    imported("torchvision.models")
    folder = example("letters")
    for file, steps in (("pretrain.yaml", "240"), ("finetune.yaml", "160")):
        text = (folder / file).read_text().replace(f"steps: {steps}, evaluate_every:", "steps: 4, evaluate_every: 2 #")
        (folder / file).write_text(text.replace(" #", "} #").replace("images: 3900", "images: 96"))
    run = flowconf.train("finetune.yaml", ["data.images=96", "data.batch_size=16"])
    assert "weights of `backbone`" in (run.folder / "weights.txt").read_text()
    (pretrained,) = Path("runs/pretrain").iterdir()
    before = flowconf.load_run(str(pretrained)).backbone.layer1[0].conv1.weight
    after = load_file(run.folder / "checkpoints" / "last.safetensors")["backbone.layer1.0.conv1.weight"]
    assert not torch.equal(before, after)
