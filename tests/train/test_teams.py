"""Several processes give what one gives: losses, metrics and weights, as far as sums in another order allow."""

from __future__ import annotations

import json
import os
import re
import time

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from flowconf.api import load
from flowconf.language import registry
from flowconf.report import ConfigError
from flowconf.train.data.splits import Splits
from flowconf.train.team import distributed
from tests.train.conftest import TINY, train
from tests.train.teams import assert_alike, environment, team, together

SLOW = pytest.mark.slow
PLAIN = TINY.replace("    drop: Dropout(0.1)\n", "").replace(
    "epochs: 2, ", "epochs: 2, evaluate_every: 5, checkpoint_every: 3, log_every: 4, "
)


def compare(folder, text, *overrides, size=2):
    assert_alike(folder.train(text=text), team(folder, text, *overrides, size=size))


@SLOW
def test_plain(folder):
    compare(folder, PLAIN)


def with_keys(text, **more):
    """The text with further keys of `trainer`."""
    return text.replace("trainer: {", "trainer: {" + "".join(f"{key}: {value}, " for key, value in more.items()))


DEEP = """
model:
  inputs: {image: [B, 8]}
  flow:
    stem: Linear(8, 16)
    body: {also: "Linear(16, 16) >> GELU"}
    norm: LayerNorm(16)
    side: {from: stem, through: "Linear(16, 4)"}
    spare: {from: stem, through: "Linear(16, 3)"}
    logits: {from: norm, through: "Linear(16, 4)"}
  outputs: {logits: logits, side: side, spare: spare}
data: {name: synthetic, shape: [8], classes: 4, rows: 300, batch_size: 32}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
  side: {fn: cross_entropy, input: side, target: label, weight: 0.5}
metrics:
  accuracy: {fn: accuracy, input: logits, target: label}
  side: {fn: accuracy, input: side, target: label}
optimizer: {name: adamw, lr: 0.01}
trainer: {epochs: 2, best: val/accuracy, devices: cpu, evaluate_every: 5, checkpoint_every: 3, log_every: 4}
"""
CASES = {
    "unused": DEEP,
    "frozen": DEEP.replace("stem: Linear(8, 16)", 'stem: {through: "Linear(8, 16)", frozen: true}'),
    "accumulated": with_keys(DEEP, accumulate=3),
    "selected": with_keys(DEEP, accumulate=3)
    .replace("    logits:", "    pick: {from: stem, through: 'Linear(16, 1) >> Sigmoid >> Reshape()'}\n    logits:")
    .replace("input: logits, target: label}", "input: logits, target: label, mask: pick}", 1),
    "clipped": with_keys(DEEP, clip=0.5, clip_value=0.1),
    "averaged": with_keys(DEEP, ema=0.9),
    "routed": DEEP.replace("weight: 0.5}", "weight: 0.5, updates: [side]}"),
    "routed, then not": DEEP.replace("weight: 0.5}", "weight: 0.5, updates: [side]}")
    + """
phases:
  side: {until: {step: 6}, loss: {label: 0}}
  both: {until: {step: 9}}
  label: {loss: {side: 0}}
""",
    "phases": DEEP
    + """
phases:
  warm: {until: {step: 6}, freeze: [stem, body], lr: 0.5}
  joint: {until: {epoch: 1.5}, loss: {side: {linear: {from: 1, to: 0}}}}
  last: {freeze: [norm], loss: {side: 0}}
""",
    "patient": with_keys(DEEP, patience=2).replace("epochs: 2", "epochs: 30").replace("lr: 0.01", "lr: 0.5"),
    "odd": DEEP.replace("rows: 300, batch_size: 32", "rows: 61, batch_size: 6, evaluation_batch_size: 2"),
    "switch": DEEP.replace(
        'body: {also: "Linear(16, 16) >> GELU"}',
        'body: {switch: {a: "Linear(16, 16)", b: "Linear(16, 16) >> GELU"}, router: "ArgmaxSelector(16, 2)"}',
    ),
}


QUICK = ("phases", "odd", "selected")


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=SLOW) for name in CASES])
def test_case(folder, name):
    compare(folder, CASES[name])


def test_two_processes_do_not_share_a_device(folder, monkeypatch):
    """NCCL refuses that, in words of its own."""
    monkeypatch.setattr(distributed, "devices_of", lambda config: [torch.device("cuda", 0)])
    for name, value in environment(1, 2, 0).items():
        monkeypatch.setenv(name, value)
    config = load(folder.write(PLAIN), ["trainer.devices=auto"])
    with pytest.raises(ConfigError, match="requires 1 processes per machine, got 2"):
        distributed.team_for(config, distributed.Team(torch.device("cpu"), 1, 2))


def test_what_no_term_reaches_is_named(folder):
    folder.train(text=CASES["phases"])
    assert "unused     spare\n" in folder.said.getvalue()
    last = folder.said.getvalue().partition("phase `last`")[2]
    assert last.splitlines()[1] == "unused     side, spare"


def test_a_graph_that_keeps_values_is_trained_by_one_process(folder):
    text = DEEP.replace("    body:", "    back: {through: StateAdd, using: {state: norm}}\n    body:")
    config = load(folder.write(text), ["trainer.devices=2"])

    def refused(rank):
        with pytest.raises(ConfigError, match="recurrent state cannot be trained with several processes"):
            train(config)

    assert together(refused) == [0, 0]


@SLOW
def test_unequal_shares(folder):
    compare(folder, DEEP, "trainer.shares=[3,1]")


@SLOW
def test_three(folder):
    compare(folder, CASES["odd"], size=3)


NORMED = DEEP.replace("norm: LayerNorm(16)", "norm: BatchNorm1d(16)")


@pytest.mark.parametrize("shares", ["[3,1]", pytest.param("null", marks=SLOW)])
def test_batches_are_normalised_as_a_whole(folder, shares):
    compare(folder, NORMED.replace("rows: 300", "rows: 65"), f"trainer.shares={shares}")


class Slow(nn.Module):
    """Takes its time with each row in the second process, as a slower device would."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.002 * len(x) if os.environ.get("RANK") == "1" else 0)
        return x


@SLOW
def test_a_slow_process_gets_fewer_rows_and_the_result_is_the_same(folder, monkeypatch):
    monkeypatch.setitem(registry.modules.registered, "Slow", Slow)
    text = DEEP.replace("norm: LayerNorm(16)", "slow: Slow\n    norm: LayerNorm(16)")
    text = text.replace("epochs: 2", "steps: 60").replace("batch_size: 32", "batch_size: 64")
    text = re.sub("(evaluate|checkpoint)_every: ., ", "", text).replace("rows: 300", "rows: 6400")
    run = team(folder, text, "trainer.shares=auto")
    with safe_open(run.folder / "checkpoints" / "last.safetensors", "pt") as opened:
        shares = json.loads(opened.metadata()["state"])["progress"]["shares"]
    assert shares["measured_from"] < 60
    assert shares["measured"][0] > 2 * shares["measured"][1]
    assert_alike(folder.train(text=text), run)


class Rows(Dataset):
    def __init__(self, rows):
        self.image = torch.randn(rows, 8, generator=torch.Generator().manual_seed(rows))

    def __len__(self):
        return len(self.image)

    def __getitem__(self, row):
        return {"image": self.image[row], "label": int(self.image[row].argmax()) % 4, "mask": self.image[row, 0] > -0.5}


class Stream(IterableDataset):
    def __len__(self):
        return 61

    def __iter__(self):
        while True:
            image = torch.rand(8)
            yield {"image": image, "label": int(4 * image[0]), "mask": image[1] > 0.2}


MASKED = DEEP.replace("target: label}", "target: label, mask: mask}")


def with_data(text, name, **more):
    start, end = text.index("data:"), text.index("loss:")
    keys = "".join(f", {key}: {value}" for key, value in more.items())
    return text[:start] + f"data: {{name: {name}, batch_size: 8{keys}}}\n" + text[end:]


@pytest.mark.parametrize(
    ("name", "workers"),
    [("rows", 2), *(pytest.param(*case, marks=SLOW) for case in (("rows", 0), ("stream", 1), ("flows", 1)))],
)
def test_masks_and_streams(folder, monkeypatch, name, workers):
    monkeypatch.setitem(registry.datasets.registered, "rows", lambda: Splits(Rows(61), Rows(9), Rows(40)))
    monkeypatch.setitem(registry.datasets.registered, "stream", lambda: Splits(Stream(), Rows(9), Rows(40)))
    monkeypatch.setitem(registry.datasets.registered, "flows", lambda: Splits(Rows(61), Stream(), Stream()))
    compare(folder, with_data(with_keys(MASKED, accumulate=2), name, workers=workers))


@SLOW
@pytest.mark.parametrize("batch_size", [8, 128])  # with large ones there is nothing for the second process
def test_torchmetrics(folder, batch_size):
    metrics = """
  f1: {fn: F1Score, input: logits, target: label, args: {task: multiclass, num_classes: 4, average: macro}}
  area: {fn: AUROC, input: logits, target: label, args: {task: multiclass, num_classes: 4}}
"""
    text = DEEP.replace("metrics:\n", f"metrics:{metrics}")
    compare(folder, text.replace("rows: 300", f"rows: 300, evaluation_batch_size: {batch_size}"))
