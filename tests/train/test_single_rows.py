"""Batches and parts of one row, which batch normalisation refuses: reported before anything is written."""

from __future__ import annotations

import pytest
import torch

import flowconf
from flowconf.language import registry

TEXT = """
model:
  inputs: {image: [B, 1, 4, 4]}
  flow:
    hidden: {through: "BODY"FROZEN}
    logits: {through: "Flatten >> Linear(_, 3)"}
data: {name: few, batch_size: SIZE, drop_last: DROP}
loss: {label: {fn: cross_entropy, input: logits, target: label}}
trainer: {TRAINER, devices: cpu}
"""
OTHER = "write at least `2`, or a norm of each row, such as `GroupNorm` or `LayerNorm`"
FLAT = "Flatten >> Linear(16, 4) >> BatchNorm1d(4)"


@pytest.fixture
def given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def few(*, rows: int = 9) -> flowconf.Splits:
        return flowconf.Splits(
            flowconf.Resident({"image": torch.randn(rows, 1, 4, 4), "label": torch.arange(rows) % 3})
        )

    monkeypatch.setitem(registry.datasets.registered, "few", few)

    def write(body=FLAT, size=4, drop="false", trainer="epochs: 1", frozen=""):
        text = TEXT.replace("BODY", body).replace("SIZE", str(size)).replace("DROP", drop).replace("FROZEN", frozen)
        (tmp_path / "config.yaml").write_text(text.replace("TRAINER", trainer))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ({"size": 1}, OTHER),
        ({"trainer": "epochs: 1, accumulate: 4"}, "write at most `2`"),
        ({"size": 5, "trainer": "epochs: 1, accumulate: 3"}, "write at most `2`"),
        ({"size": 3, "trainer": "epochs: 1, accumulate: 2"}, "write `accumulate: 1`"),
        ({"size": 1, "frozen": ", frozen: true"}, None),
        ({"size": 1, "body": "Flatten >> Linear(16, 4) >> LayerNorm(4)"}, None),
        ({"size": 1, "body": "Conv2d(1, 4, 3) >> BatchNorm2d(4)"}, None),
        ({"size": 1, "body": "Conv2d(1, 4, 4) >> BatchNorm2d(4)"}, OTHER),
    ],
)
def test_every_batch(given, written, advice):
    folder = given(**written)
    found = [one.help for one in flowconf.check(folder / "config.yaml") if one.code == "FC0502"]
    assert found == ([] if advice is None else [advice])


@pytest.mark.parametrize(
    ("written", "refused"),
    [
        ({}, "the last batch of 9 rows in batches of 4 has one row"),
        (
            {"size": 6, "trainer": "epochs: 1, accumulate: 2"},
            "the last part of the last batch of 9 rows in batches of 6",
        ),
        ({"drop": "true"}, None),
        ({"size": 5}, None),
        ({"trainer": "steps: 2"}, None),
        ({"body": "Flatten >> Linear(16, 4) >> LayerNorm(4)"}, None),
    ],
)
def test_the_last_batch(given, written, refused):
    folder = given(**written)
    assert [one for one in flowconf.check(folder / "config.yaml") if one.severity == "error"] == []
    if refused is None:
        flowconf.train("config.yaml")
        return
    with pytest.raises(flowconf.ConfigError) as error:
        flowconf.train("config.yaml")
    (found,) = error.value.diagnostics
    assert found.message.startswith(refused)
    assert found.help == "write `drop_last: true`, or another `batch_size`"
    assert not (folder / "runs").exists()
