"""Weights that are divided over processes: the same losses, weights and checkpoints as one process has."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
import torch

import flowconf
from flowconf.api import load
from flowconf.train.commands.train import resume
from flowconf.train.screen import Screen
from flowconf.train.team.sharding import units
from tests.train.conftest import assert_same, train
from tests.train.teams import assert_alike, team, together
from tests.train.test_teams import CASES, DEEP, NORMED, SLOW, with_keys

NESTED = """
model:
  inputs: {image: [B, 8]}
  flow:
    stem: Linear(8, 16)
    body:
      graph: part
      label: body
    blocks:
      graph: part
      repeat: 2
    laps:
      loop: {flow: {turn: "Linear(16, 16) >> Tanh"}}
      times: 2
    again: {reuse: body.first, from: laps}
    norm: LayerNorm(16)
    side: {from: body.act, through: "Linear(16, 4)"}
    logits: {from: norm, through: "Linear(16, 4)"}
""" + DEEP[DEEP.index("data:") :]
PART = "inputs: {x: [B, 16]}\nflow: {first: 'Linear(16, 16)', act: GELU, last: {also: 'Linear(16, 16)'}}\n"


@pytest.fixture(autouse=True)
def part(folder):
    folder.write(PART, "graph/part.yaml")


def compare(folder, text, *overrides, size=2):
    for before in folder.runs() if (folder.path / "runs").is_dir() else ():
        shutil.rmtree(before)
    assert_alike(folder.train(text=text), team(folder, text, "trainer.strategy=fsdp", *overrides, size=size))


FROM_TEAMS = ("phases", "odd", "routed", "accumulated", "selected", "clipped", "averaged", "frozen")
FSDP = {
    "nested": NESTED,
    **{name: CASES[name] for name in FROM_TEAMS},
    "nested phases": NESTED + "\nphases: {warm: {until: {step: 6}, freeze: [body, stem]}, last: {freeze: [norm]}}\n",
    "nested routes": with_keys(NESTED.replace("weight: 0.5}", "weight: 0.5, updates: [side, body]}"), ema=0.9),
}
QUICK = ("nested", "selected")


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")
@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=SLOW) for name in FSDP])
def test_case(folder, name):
    compare(folder, FSDP[name])


def test_units_are_called_once_and_hold_what_only_they_use(folder):
    text = NESTED.replace("again: {reuse: body.first, from: laps}", "again: {reuse: stem, from: image}")
    assert units(load(folder.write(NESTED)).model) == ["blocks"]
    assert units(load(folder.write(text)).model) == ["body", "blocks"]


@SLOW
def test_a_checkpoint_is_that_of_one_process_and_resumes_to_the_bit(folder):
    text = with_keys(NESTED, ema=0.9, strategy="fsdp")
    whole = team(folder, text)
    config = load(folder.write(text), ["trainer.devices=2"])

    def stop(rank):
        Screen.step = lambda self, step: os.kill(os.getpid(), signal.SIGKILL) if step == 8 else None
        train(config)

    assert set(together(stop)) <= {-signal.SIGKILL, 1}
    run = folder.runs()[-1]
    assert together(lambda rank: resume(str(run)) and None) == [0, 0]
    assert_same(folder.run(run), whole)
    longer = folder.run(resume(str(run), ["trainer.epochs=3", "trainer.devices=cpu", "trainer.strategy=ddp"]))
    assert longer.log[-1]["step"] in (20, 24)


REFUSED = {
    "switch": (CASES["switch"], (), "`body` decides by its values what runs"),
    "number": (
        NESTED.replace("    logits:", "    zero: {from: stem, through: Learned}\n    logits:"),
        (),
        "scalar",
    ),
    "compile": (NESTED, ("trainer.compile=true",), "cannot be compiled"),
    "shares": (NESTED, ("trainer.shares=auto",), "the processes synchronize in each forward pass"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sharded_is_refused(folder, name):
    text, overrides, words = REFUSED[name]
    found = flowconf.check(folder.write(text), ["trainer.strategy=fsdp", *overrides])
    (problem,) = [one for one in found if one.severity == "error"]
    assert problem.code == "FC0123"
    assert words in problem.message
    assert "strategy: ddp" in problem.help
    assert problem.place.line or problem.place.word


@SLOW
def test_optimizers_keep_their_state_in_parts(folder):
    names = ("sgd, momentum: 0.9", "adagrad", "rmsprop", "nadam", "radam")
    for name in names:
        text = DEEP.replace("name: adamw", f"name: {name}").replace("epochs: 2", "steps: 4")
        compare(folder, text)


@SLOW
def test_batches_are_normalised_as_a_whole(folder):
    compare(folder, NORMED.replace("rows: 300", "rows: 65"), "trainer.shares=[3,1]")


@SLOW
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precision(folder, precision):
    text = NESTED.replace("drop: Dropout(0.1)", "")
    one = folder.train(f"trainer.precision={precision}", "trainer.clip=0.5", text=text)
    two = team(folder, text, "trainer.strategy=fsdp", f"trainer.precision={precision}", "trainer.clip=0.5")
    for mine, theirs in zip(two.log, one.log, strict=True):
        for name in ("train/loss", "val/loss"):
            if name in theirs:
                assert mine[name] == pytest.approx(theirs[name], rel=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("devices", ["[0, 1]", "[1, 0]"])
def test_two_devices(folder, strategy, devices):
    """Started by the command, for CUDA does not outlive a fork."""
    one = folder.train(text=NESTED.replace("devices: cpu", "devices: [0]"))
    run = folder.train(f"trainer.strategy={strategy}", text=NESTED.replace("devices: cpu", f"devices: {devices}"))
    for mine, theirs in zip(run.log, one.log, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-4)
