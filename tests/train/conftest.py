"""A tiny config that trains in a fraction of a second, and the folder it runs in."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
import warnings
from contextlib import chdir
from importlib.machinery import ModuleSpec
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from flowconf.api import load
from flowconf.cli.main import main
from flowconf.language.config import Config
from flowconf.train.checks import road
from flowconf.train.commands.train import resume, train_checked
from flowconf.train.runs.writer import Writer
from flowconf.train.screen import Screen

TINY = """
model:
  inputs: {image: [B, 8]}
  flow:
    stem: Linear(8, 16)
    hidden: ReLU
    drop: Dropout(0.1)
    logits: Linear(16, 4)
data: {name: synthetic, shape: [8], classes: 4, rows: 320, batch_size: 32}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
metrics:
  accuracy: {fn: accuracy, input: logits, target: label}
optimizer: {name: adamw, lr: 0.01}
trainer: {epochs: 2, best: val/accuracy, devices: cpu}
"""

TEXT = TINY.replace("epochs: 2", "epochs: 2, checkpoint_every: 3, evaluate_every: 5, log_every: 4")
"""The same with checkpoints, evaluations and lines of the log after different steps."""


def place_in(text: str, marked: str, start: int = 0) -> str:
    """Where `marked` is first in the text of `tiny.yaml`, from `start` on, as a message has it."""
    before = text[: text.index(marked, start)].splitlines()
    return f"tiny.yaml:{len(before)}:{len(before[-1]) + 1}\n"


def train(config: Config, screen: Screen | None = None) -> Path:
    """Train a loaded config, after every config whose weights it needs; gives the run folder."""
    return train_checked(road.composed(config.composition), screen)


class Folder:
    """A working folder with configs in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said = StringIO()

    def write(self, text: str = TINY, name: str = "tiny.yaml") -> str:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return str(file)

    def train(self, *overrides: str, text: str = TINY, name: str = "tiny.yaml") -> SimpleNamespace:
        """Run a config; gives the folder, the record and the lines of the log."""
        folder = self.path / train(load(self.write(text, name), overrides), Screen(self.said, verbose=True))
        return self.run(folder)

    def run(self, folder: Path) -> SimpleNamespace:
        return SimpleNamespace(
            folder=folder,
            record=json.loads((folder / "run.json").read_text()),
            log=[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()],
        )

    def refusal(self, text: str, capsys: pytest.CaptureFixture[str], command: str = "check") -> str:
        """What a command prints of a config that it refuses."""
        self.write(text)
        assert main([command, "tiny.yaml"]) == 2
        return "".join(capsys.readouterr())

    def runs(self, name: str = "tiny") -> list[Path]:
        return sorted((self.path / "runs" / name).iterdir())


@pytest.fixture(scope="module")
def whole(request, tmp_path_factory):
    """The run of a module's `TEXT` that is never interrupted."""
    path = tmp_path_factory.mktemp("whole")
    with chdir(path):
        return Folder(path).train(text=request.module.TEXT)


def weights(run, name="last"):
    found = load_file(run.folder / "checkpoints" / f"{name}.safetensors")
    return {name: tensor for name, tensor in found.items() if not name.startswith("@")}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def left_behind(run):
    """Everything of a run that must not depend on when it was interrupted."""
    found = {}
    for file in (run.folder / "checkpoints").glob("*.safetensors"):
        found |= {f"{file.stem}/{key}": tensor for key, tensor in load_file(file).items()}
    return found


def assert_same(first, second):
    mine, theirs = left_behind(first), left_behind(second)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert first.log == second.log
    assert first.record["metrics"] == second.record["metrics"]


def go_on(folder, run=None, *overrides):
    return folder.run(resume(run or folder.runs()[-1], overrides, Screen(folder.said)))


class Fallen(Exception):
    """What ends a run with nothing saved, as a killed process does."""


def fall(folder, words, step, text=TINY):
    """Train until a step, after which the run ends as that of a killed process."""

    def at_step(self, at):
        if at == step:
            raise Fallen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Screen, "step", at_step)
        with pytest.raises(Fallen):
            folder.train(*words, text=text)


def module(monkeypatch, name, **members):
    """A package of that name that has these members and no others."""
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    made.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, made)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


def killed(call, at):
    """Call in a process of its own that is killed, as by SIGKILL, when it has done step `at` and saved what was due."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads, of which none is in use
        child = os.fork()
    if child == 0:
        begin = Writer.begin
        Writer.begin = lambda self, write: (begin(self, write), self.wait())
        Screen.step = lambda self, step: os.kill(os.getpid(), signal.SIGKILL) if step == at else None
        try:
            call()
        except BaseException:  # noqa: BLE001 - it ends here, for the child must not go on as a test
            traceback.print_exc()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
