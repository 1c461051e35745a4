"""Parts of a project that do what no part should: each ends in a diagnosis with a code, or does no harm."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from flowconf.cli.main import main

OWN = """\
import os

import flowconf
import torch
from torch import nn

print("imported")


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x)


@flowconf.register
class Selfish(Plain):
    def __init__(self):
        super().__init__()
        self.me = self


@flowconf.register
class Parent(Plain):
    def __init__(self):
        super().__init__()
        self.inner.parent = self


@flowconf.register
class Late(Plain):
    def forward(self, x):
        self.me = self
        return self.inner(x)


@flowconf.register
class Unhashable(Plain):
    def __eq__(self, other):
        return self is other


@flowconf.register
class Leaves(Plain):
    def __init__(self):
        super().__init__()
        os.chdir(os.sep)

    def forward(self, x):
        os.chdir(os.sep)
        return self.inner(x)


@flowconf.register
class Prints(Plain):
    def __init__(self):
        super().__init__()
        print("built")

    def forward(self, x):
        print("called")
        return self.inner(x)


@flowconf.register_dataset
def endless() -> flowconf.Splits:
    class Endless(torch.utils.data.Dataset):
        def __len__(self):
            return 10**30

        def __getitem__(self, row):
            return {"image": torch.zeros(4), "label": torch.tensor(0)}

    return flowconf.Splits(train=Endless())


@flowconf.register_optimizer
class Adds(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)
        self.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})


@flowconf.register_optimizer
class AddsLater(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        self.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})
        return super().step(closure)


@flowconf.register_schedule
def dips(progress: float) -> float:
    return -1.0 if 0 < progress < 0.5 else 1.0


@flowconf.register_loss
def by_numpy(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(predicted.detach().numpy().mean())
"""
CONFIG = """\
model: {{inputs: {{image: [B, 4]}}, flow: {{a: {module}, logits: 'Linear(4, 3)'}}}}
data: {{{data}, batch_size: 4}}
loss: {{label: {{fn: {loss}, input: logits, target: label}}}}
optimizer: {{name: {optimizer}, lr: 0.1}}
schedule: {{name: {schedule}}}
trainer: {{steps: 4, devices: cpu}}
"""
SYNTHETIC = "name: synthetic, shape: [4], rows: 8, validation: 0, test: 0, classes: 3"
USUAL = {
    "data": SYNTHETIC,
    "module": "'Linear(4, 4)'",
    "loss": "cross_entropy",
    "optimizer": "sgd",
    "schedule": "constant",
}
REFUSED = {
    "a module in itself": ({"module": "Selfish"}, "error[FC0202]: `Selfish` contains itself, as `me`"),
    "a module in its child": ({"module": "Parent"}, "error[FC0202]: `Parent` contains itself, as `inner.parent`"),
    "a module that enters itself": ({"module": "Late"}, "error[FC0202]: `Late` contains itself, as `me`"),
    "a module without a hash": ({"module": "Unhashable"}, "error[FC0202]: `Unhashable` cannot be built: its class has"),
    "an optimizer that adds groups": (
        {"optimizer": "Adds"},
        "must keep the groups of parameters that it gets (1), got",
    ),
}
FAILING = {
    "an optimizer that adds groups later": (
        {"optimizer": "AddsLater"},
        "error[FC0702]: the optimizer has 2 groups of parameters, and had 1 at the start",
    ),
    "a schedule that is negative in between": (
        {"schedule": "dips"},
        "error[FC0702]: the schedule `dips` returned the learning rate factor -1 in step 2",
    ),
    "a loss without a gradient": (
        {"loss": "by_numpy"},
        "error[FC0403]: nothing to train: the loss of this batch has no gradient",
    ),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes the config of a project with some of these parts."""
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text("[tool.flowconf]\nmodules = ['own']\n")
    Path("own.py").write_text(OWN)
    yield lambda parts: Path("c.yaml").write_text(CONFIG.format(**USUAL | parts))
    sys.modules.pop("own", None)


@pytest.mark.parametrize(("parts", "message"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_before_a_run(project, capsys, parts, message):
    project(parts)
    for command in ("check", "train"):
        assert main([command, "c.yaml"]) == 2
        assert message in "".join(capsys.readouterr())
    assert not Path("runs").exists()


@pytest.mark.parametrize(("parts", "message"), FAILING.values(), ids=FAILING)
def test_a_step_that_cannot_be_made_says_why(project, capsys, parts, message):
    project(parts)
    assert main(["train", "c.yaml"]) == 1
    assert message in "".join(capsys.readouterr())


def test_a_data_set_without_a_length_is_refused(project, capsys):
    project({"data": "name: endless"})
    assert main(["train", "c.yaml"]) == 2
    assert "error[FC0501]: the data set `endless` cannot be made: OverflowError" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_what_a_module_prints_is_apart_from_the_result(project, capsys):
    project({"module": "Prints"})
    assert main(["train", "c.yaml", "data.validation=0.25"]) == 0
    capsys.readouterr()
    for words in (["check", "c.yaml"], ["eval", "runs/c"], ["draw", "c.yaml"]):
        assert main([*words, "--format", "json"]) == 0
        out, err = capsys.readouterr()
        json.loads(out or "[]")
        assert "called" in err


def test_a_module_that_changes_the_folder_does_not_move_the_run(project, tmp_path, capsys):
    project({"module": "Leaves"})
    assert main(["check", "c.yaml"]) == 0
    assert Path.cwd() == tmp_path
    assert main(["train", "c.yaml"]) == 0
    os.chdir(tmp_path)
    assert list(Path("runs/c").glob("*/checkpoints/last*"))
