"""What a run prints: the header, a line for each evaluation, and the bar of a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from io import StringIO

import pytest

from flowconf.api import load
from flowconf.cli.main import main
from flowconf.train.commands.train import resume
from flowconf.train.screen import Screen
from tests.train.conftest import TINY, killed, train

SHORT = """

tiny.yaml  ->  RUN
model      212 parameters
data       synthetic: 256 train, 32 val, 32 test
steps      16 of 32 rows, 8 an epoch: 2 epochs
device     cpu, 1 thread, fp32
epoch 1     step 8        train/loss N  val/loss N  val/accuracy N  (best)
epoch 2     step 16       train/loss N  val/loss N  val/accuracy N  (best)
16 steps in N s
epoch 2     step 16       test/loss N  test/accuracy N  (weights of step 16)
run folder RUN
"""
WHOLE = """

tiny.yaml  ->  RUN
parameters     trainable        frozen
stem                 144             0
logits                68             0
total                212             0
data       synthetic: 256 train, 32 val, 32 test (not evaluated)
steps      8 of 32 rows, 8 an epoch: 1 epoch
device     cpu, 1 thread, fp32
optimizer  adamw, fused, lr 0.01, constant schedule
memory     3.39 kB: 848 B weights + 848 B gradients + 1.7 kB optimizer, plus a batch (see `flowconf summary --memory`)
seed       0
epoch 1     step 8        train/loss N  val/loss N  val/accuracy N  (best)
8 steps in N s
run folder RUN
"""


def printed(text: str) -> str:
    """The output with places for times and values."""
    text = re.sub(r"runs/\w+/[\d_-]+", "RUN", text)
    return re.sub(r"(?<=\w )\d+\.\d+(?= s|  |$)", "N", text, flags=re.MULTILINE)


def test_the_header_is_short(folder, capsys):
    folder.write()
    assert main(["train", "tiny.yaml", "trainer.threads=1"]) == 0
    assert printed("\n" + capsys.readouterr().out) == SHORT


def test_the_header_is_whole_when_asked_for(folder, capsys):
    folder.write()
    words = ["trainer.threads=1", "trainer.test=false", "trainer.epochs=1"]
    assert main(["train", "-v", "tiny.yaml", *words]) == 0
    assert printed("\n" + capsys.readouterr().out) == WHOLE


def test_frozen_members_are_named(folder):
    text = TINY.replace("stem: Linear(8, 16)", "stem: {through: 'Linear(8, 16)', frozen: true}")
    said = StringIO()
    train(load(folder.write(text)), Screen(said))
    assert "model      68 parameters, and 144 frozen (stem)\n" in said.getvalue()


def test_loaded_weights_are_one_line_unless_something_is_missing(folder, capsys):
    before = folder.train("trainer.epochs=1").folder
    for words, more in (([], []), (["model.flow.logits=Linear(16, 5)", "data.classes=5"], ["  logits.weight:"])):
        said = StringIO()
        train(load(folder.write(), [f"init_from={before}", *words]), Screen(said))
        lines = said.getvalue().splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("weights of the graph from"))
        assert lines[first + 1 + 2 * len(more)].startswith("model  ")
        assert all(line in said.getvalue() for line in more)


def shown_losses(text):
    return [float(value) for value in re.findall(r"train/loss (\S+)", text)]


@pytest.mark.parametrize("every", [1, 3, 5, 8, 50])
def test_the_training_loss_is_the_mean_since_the_last_evaluation(folder, every):
    """Whatever `log_every` is: the losses of every step, eight to an epoch."""
    folder.train(f"trainer.log_every={every}")
    shown = shown_losses(folder.said.getvalue())
    steps = [line["train/loss"] for line in folder.train("trainer.log_every=1").log if "train/loss" in line]
    expected = [sum(steps[:8]) / 8, sum(steps[8:]) / 8]
    assert shown == pytest.approx(expected, abs=1e-4)


def test_evaluations_within_an_epoch_have_their_own_training_loss(folder):
    folder.train("trainer.evaluate_every=3", "trainer.log_every=4")
    shown = shown_losses(folder.said.getvalue())
    steps = [line["train/loss"] for line in folder.train("trainer.log_every=1").log if "train/loss" in line]
    parts = [steps[start : start + 3] for start in range(0, 16, 3)]
    assert shown[: len(parts)] == pytest.approx([sum(part) / len(part) for part in parts], abs=1e-4)


def test_without_a_validation_split_there_is_a_line_for_each_epoch(folder):
    run = folder.train("data.validation=0.0", text=TINY.replace(", best: val/accuracy", ""))
    assert len(shown_losses(folder.said.getvalue())) == 2
    assert all(len(line) > 2 for line in run.log)


def test_a_resumed_run_shows_what_it_trained(folder):
    file = folder.write()
    killed(lambda: train(load(file, ["trainer.checkpoint_every=4"])), at=14)
    said = StringIO()
    resume(str(folder.runs()[0]), (), Screen(said))
    steps = [line["train/loss"] for line in folder.train("trainer.log_every=1").log if "train/loss" in line]
    assert shown_losses(said.getvalue()) == pytest.approx([sum(steps[8:]) / 8], abs=1e-4)


def in_terminal(folder, **environment):
    """The output of a run on a terminal, as bytes."""
    folder.write()
    outer, inner = pty.openpty()
    call = [sys.executable, "-m", "flowconf", "train", "tiny.yaml", "trainer.epochs=40"]
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "TERM")}
    child = subprocess.Popen(call, stdout=inner, stderr=inner, env={**kept, "TERM": "xterm", **environment})
    os.close(inner)
    said = b""
    while True:
        try:
            part = os.read(outer, 1 << 16)
        except OSError:
            break
        if not part:
            break
        said += part
    os.close(outer)
    assert child.wait(timeout=60) == 0
    return said


COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(
    ("environment", "has_bar"),
    [
        ({}, True),
        ({"PYTHONIOENCODING": "ascii"}, True),
        ({"NO_COLOR": "1"}, True),
        ({"COLUMNS": "40"}, True),
        ({"TERM": "dumb"}, False),
    ],
    ids=["terminal", "ascii", "no colour", "narrow", "dumb"],
)
def test_the_bar_fits_the_terminal(folder, environment, has_bar):
    said = in_terminal(folder, **environment)
    assert (b"/320" in said) == has_bar
    assert (COLOUR.search(said) is None) == ("NO_COLOR" in environment or not has_bar)
    if "PYTHONIOENCODING" in environment or not has_bar:
        said.decode("ascii")
    if "COLUMNS" in environment:
        assert b"\xe2\x94\x81" not in said
        assert "…".encode() not in said
    lines = COLOUR.sub(b"", said.rpartition(b"\x1b[2K")[2]).decode().splitlines()
    assert lines[-1].startswith("run folder runs/tiny/")
