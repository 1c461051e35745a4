"""Data of another floating-point type than the weights: the advice is no circle, and predictions convert inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import flowconf
from flowconf.language import registry

TEXT = """
model: {inputs: {image: INPUT}, flow: {hidden: "MODULE >> ReLU", logits: "Linear(8, 4)"}}
data: {name: typed}
loss: {label: {fn: cross_entropy, input: logits, target: label}}
trainer: {steps: 1, devices: cpu}
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def checked(dtype, given="[B, 8]", module="Linear(8, 8)"):
        shapes = {"image": ((8,), dtype), "label": ((), torch.int64, 4)}

        @flowconf.provides(*shapes, shapes=lambda **args: shapes)
        def typed(*, rows: int = 4) -> flowconf.Splits:
            image = torch.ones(8, 8).to(dtype)
            return flowconf.Splits(flowconf.Resident({"image": image, "label": torch.arange(8) % 4}))

        monkeypatch.setitem(registry.datasets.registered, "typed", typed)
        Path("config.yaml").write_text(TEXT.replace("INPUT", given).replace("MODULE", module))
        return flowconf.check("config.yaml")

    return checked


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8])
def test_data_that_float32_weights_do_not_take_are_converted_by_the_data_set(check, dtype):
    (found,) = check(dtype)
    assert found.code == "FC0502"
    assert found.advice == "convert `image` to float32 in the data set, as by `.float()`"
    assert check(torch.float32) == []


def test_numbers_of_classes_are_declared_as_such(check):
    (found,) = check(torch.int64)
    assert found.advice == "write `dtype: int64`"


@pytest.mark.parametrize(
    "module", ["Linear(8, 8)", "Unflatten(1, [2, 4]) >> Conv1d(2, 2, 1) >> Flatten", "LayerNorm(8)"]
)
def test_float64_does_not_arrive_at_float32_weights(check, module):
    (found,) = check(torch.float64, "{shape: [B, 8], dtype: float64}", module)
    assert found.code == "FC0201"
    assert "has weights of float32, got [B, " in found.message
    assert found.advice == "declare it as `float32`, and convert it in the data set, as by `.float()`"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_inputs_of_predictions_are_converted(check, dtype):
    assert check(torch.float32) == []
    run = flowconf.train("config.yaml")
    image = torch.rand(3, 8).to(dtype)
    found, expected = run.predict({"image": image}), run.predict({"image": image.float()})
    assert torch.equal(found["logits"], expected["logits"])
