"""Numbers of the data that are rows of a table: too many classes are reported before anything is trained or written."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

import flowconf
from flowconf.language import registry

TEXT = """
model:
  inputs: {kind: {shape: [B], dtype: int64}, size: [B, 2]}
  flow:
    which: {fork: "Embedding(ROWS, 4)", from: kind}
    both: {through: "Concat(dim=1)", from: size, using: [which]}
    cost: Linear(_, 1) >> Flatten(0)
data: DATA
loss: {error: {fn: mse, input: cost, target: price}}
trainer: {steps: 1, devices: cpu, test: false}
"""
TABLE = "{name: table, train: t.csv, fields: {kind: {type: KIND}, size: [x, y], price: price}, batch_size: 2}"


class Inside(nn.Module):
    """A module with a table inside."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x.unsqueeze(1)[:, 0])


class Written(nn.Module):
    """A module that looks up rows of a parameter."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(rows, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(x, self.table)


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("kind,x,y,price\n0,1,2,3\n2,1,2,3\n1,1,2,3\n5,4,3,2\n")
    numbers = {"kind": [0, 2, 1, 5], "size": [[1.0, 2.0]] * 4, "price": [3.0] * 4}
    numpy.savez("t.npz", **{name: numpy.array(value, "float32" if name != "kind" else "int64")
                            for name, value in numbers.items()})  # fmt: skip
    below = {"kind": [0, -1, 1], "size": [[1.0, 2.0]] * 3, "price": [3.0] * 3}
    numpy.savez("below.npz", **{name: numpy.array(value, "float32" if name != "kind" else "int64")
                                for name, value in below.items()})  # fmt: skip

    shapes = {"kind": ((), torch.int64, 30), "size": ((2,), torch.float32), "price": ((), torch.float32)}

    @flowconf.provides(*shapes, shapes=lambda **args: shapes)
    def kinds(*, rows: int = 4) -> flowconf.Splits:
        return flowconf.Splits(
            flowconf.Resident({"kind": torch.arange(4), "size": torch.ones(4, 2), "price": torch.ones(4)})
        )

    monkeypatch.setitem(registry.datasets.registered, "kinds", kinds)
    monkeypatch.setitem(registry.modules.registered, "Inside", Inside)
    monkeypatch.setitem(registry.modules.registered, "Written", Written)

    def checked(data, rows, module="Embedding(ROWS, 4)"):
        text = TEXT.replace("Embedding(ROWS, 4)", module).replace("ROWS", str(rows)).replace("DATA", data)
        Path("config.yaml").write_text(text)
        return flowconf.check("config.yaml")

    return checked


@pytest.mark.parametrize(
    ("data", "rows", "words"),
    [
        ("{name: kinds, batch_size: 2}", 30, "has 30 classes, 0 to 29"),
        (TABLE.replace("KIND", "category"), 4, "has 4 classes, 0 to 3"),
        (TABLE.replace("KIND", "category, categories: [0, 1, 2, 5, 7]"), 5, "has 5 classes, 0 to 4"),
        (TABLE.replace("KIND", "category, missing: category"), 5, "has 5 classes, 0 to 4"),
        (TABLE.replace("KIND", "integer"), 6, "holds 5 in the split `train`"),
        ("{name: arrays, train: t.npz, batch_size: 2}", 6, "holds 5 in the split `train`"),
    ],
)
def test_a_table_with_too_few_rows(check, data, rows, words):
    assert check(data, rows) == []
    (found,) = check(data, rows - 1)
    assert found.code == "FC0502"
    assert words in found.message
    assert f"`Embedding({rows - 1}, 4)` has rows for 0 to {rows - 2}" in found.message
    line = Path("config.yaml").read_text().splitlines()[found.place.line - 1]
    assert line[found.place.column - 1 :].startswith(f"{rows - 1}, 4)")
    assert (found.advice.write, found.advice.instead_of) == (str(rows), str(rows - 1))
    with pytest.raises(flowconf.ConfigError, match="has rows for 0 to"):
        flowconf.train("config.yaml")
    assert not Path("runs").exists()


def test_a_number_below_0(check):
    (found,) = check("{name: arrays, train: below.npz, batch_size: 2}", 9)
    assert "holds -1 in the split `train`" in found.message
    assert found.advice == "number the classes from 0"


@pytest.mark.parametrize("name", ["Inside", "Written"])
def test_a_table_inside_of_a_module(check, name):
    data = TABLE.replace("KIND", "category")
    assert check(data, 4, f"{name}(ROWS)") == []
    (found,) = check(data, 3, f"{name}(ROWS)")
    assert found.message == f"`kind` has 4 classes, 0 to 3, and `{name}(3)` has rows for 0 to 2"
    assert found.advice == "it must have 4 rows"
