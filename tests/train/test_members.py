"""Members that share and follow parameters, in training: equal to loops written by hand, resumed, and in a team."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flowconf
from flowconf.train.data.builtin import synthetic
from flowconf.train.data.splits import epoch_order
from tests.train.conftest import TINY, killed
from tests.train.test_loop import same, weights
from tests.train.test_resume import assert_same, go_on
from tests.train.test_teams import SLOW, assert_alike, team

TIED = (
    TINY.replace("    drop: Dropout(0.1)\n", "    square: Linear(16, 16)\n    act: Tanh\n    again: AGAIN\n")
    .replace("AGAIN", "{through: 'Linear(16, 16)', tie: {weight: square.weight}}")
    .replace("epochs: 2, ", "epochs: 2, evaluate_every: 5, checkpoint_every: 3, log_every: 4, ema: 0.9, ")
)


def batches(epochs=2):
    """The batches of the tiny config, in the order in which a run takes them."""
    tensors = synthetic(shape=[8], classes=4, rows=320, seed=0).train.tensors
    for epoch in range(epochs):
        for rows in epoch_order(len(tensors["image"]), 0, epoch).split(32):
            yield tensors["image"][rows], tensors["label"][rows]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(8, 16)
        self.square = nn.Linear(16, 16)
        self.again = nn.Linear(16, 16)
        self.logits = nn.Linear(16, 4)
        self.again.weight = self.square.weight

    def forward(self, image):
        return self.logits(self.again(self.square(self.stem(image).relu()).tanh()))


def test_tied_parameters_are_trained_as_in_a_loop_written_by_hand(folder):
    run = folder.train(text=TIED)
    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for image, label in batches():
        optimizer.zero_grad()
        F.cross_entropy(model(image), label).backward()
        optimizer.step()
    expected = model.state_dict()
    assert expected.pop("again.weight") is not None
    assert same(weights(run), expected)


def test_tied_parameters_after_sigkill_and_resume(folder):
    whole = folder.train(text=TIED)
    killed(lambda: folder.train(text=TIED), 8)
    assert_same(go_on(folder), whole)


@pytest.mark.parametrize("strategy", ["fsdp", pytest.param("ddp", marks=SLOW)])
def test_tied_parameters_in_two_processes(folder, strategy):
    one = folder.train(text=TIED)
    assert_alike(one, team(folder, TIED, f"trainer.strategy={strategy}"))


def test_a_phase_that_freezes_one_of_two_names_is_refused(folder):
    text = TIED + "phases: {warm: {until: {step: 4}, freeze: [square]}}\n"
    (found,) = flowconf.check(folder.write(text))
    assert found.code == "FC0209"
    assert found.message == (
        "`square.weight` is frozen in phase `warm`, but `again.weight`, the same parameter, is not"
    )
    assert flowconf.check(folder.write(text.replace("freeze: [square]", "freeze: [square, again]"))) == []


def test_a_group_takes_a_tied_parameter_by_either_name(folder):
    torch.manual_seed(0)
    initial = Tied().square.weight
    for name in ("square", "again"):
        run = folder.train(f"+optimizer.groups.{name}.lr=0.0", "trainer.ema=null", text=TIED)
        assert torch.equal(weights(run)["square.weight"], initial)
