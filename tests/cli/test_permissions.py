"""Files and folders that must not be read or written are reported as such, at their place, by every command."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy
import pytest

import flowconf
from flowconf.cli.main import main

CONFIG = """
defaults: [_self_, {optimizer: adamw}, {pivot: null}]
model:
  inputs: {image: [B, 4]}
  flow: {first: {graph: sub}, logits: "Linear(4, 3)"}
data: {name: arrays, train: rows.npz}
loss: {label: {fn: cross_entropy, input: logits, target: label}}
trainer: {epochs: 1, devices: cpu, tensorboard: false}
"""
pytestmark = pytest.mark.usefixtures("permissions_count")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "config.yaml": CONFIG,
        "graph/sub.yaml": "inputs: {x: [B, 4]}\nflow: {a: 'Linear(4, 4)'}\n",
        "pivot/wide.yaml": "# @package _global_\nseed: 3\n",
        "text.txt": "abc" * 100,
        "weights.safetensors": "no weights",
        "pictures/a/0.png": "",
        "runs/readme": "",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    numpy.savez("rows.npz", image=numpy.zeros((16, 4), "float32"), label=numpy.zeros(16, "int64"))
    yield tmp_path
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(stat.S_IRWXU)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("denied", "words", "data", "code", "message"),
    [
        ("config.yaml", [], None, "FC0001", "`config.yaml` cannot be read: permission denied"),
        ("pivot", ["pivot=wide"], None, "FC0001", "the folder `pivot` cannot be read: permission denied"),
        ("pivot/wide.yaml", ["pivot=wide"], None, "FC0001", "`wide.yaml` cannot be read: permission denied"),
        ("graph", [], None, "FC0001", "the folder `graph` cannot be read: permission denied"),
        ("graph/sub.yaml", [], None, "FC0001", "`sub.yaml` cannot be read: permission denied"),
        ("rows.npz", [], None, "FC0501", "`rows.npz` cannot be read: permission denied"),
        ("pictures", [], "{name: images, folder: pictures, size: [2, 2]}", "FC0501",
         "`pictures` cannot be read: permission denied"),
        ("weights.safetensors", ["+init_from=weights.safetensors"], None, "FC0301",
         "`weights.safetensors` cannot be read as weights: permission denied"),
        ("pictures", ["+init_from=pictures/w.safetensors"], None, "FC0301",
         "the checkpoint cannot be read: permission denied"),
        ("pictures", ["model.flow.logits={through: 'Linear(4, 3)', checkpoint: {config: pictures/c.yaml}}"], None,
         "FC0301", "`pictures/c.yaml` cannot be read: permission denied"),
    ],
)  # fmt: skip
def test_what_must_not_be_read_is_reported_at_its_place(denied, words, data, code, message):
    if data is not None:
        Path("config.yaml").write_text(CONFIG.replace("{name: arrays, train: rows.npz}", data), encoding="utf-8")
    Path(denied).chmod(0)
    reported = flowconf.check("config.yaml", words)
    assert (reported[0].code, reported[0].message) == (code, message)
    assert reported[0].place.file is not None or reported[0].place.word is not None


@pytest.mark.usefixtures("folder")
def test_a_folder_that_nothing_asks_for_may_be_closed():
    Path("pictures").chmod(0)
    assert flowconf.check("config.yaml", ["pivot=wide"]) == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("denied", "rights", "words", "reported"),
    [
        ("runs", 0o500, ["train", "config.yaml"], "error[FC0702]: cannot make a run folder under `runs`"),
        ("runs", 0, ["runs"], "error[FC0601]: `runs`: permission denied"),
        ("runs", 0, ["train", "--resume", "runs"], "error[FC0601]: `runs/sweep.json`: permission denied"),
        ("pictures", 0, ["draw", "config.yaml", "-o", "pictures/x.dot"], "error[FC0601]: `pictures/x.dot`: permission"),
        ("pictures", 0, ["eject", "config.yaml", "-o", "pictures/x.py"], "error[FC0601]: `pictures/"),
    ],
)
def test_commands_tell_what_they_must_not_do(denied, rights, words, reported, capsys):
    Path(denied).chmod(rights)
    assert main(words) in (1, 3)
    printed = capsys.readouterr().err
    assert reported in printed
    assert "Traceback" not in printed


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("denied", "reported"),
    [
        ("run.json", "error[FC0301]: the record"),
        ("config.yaml", "error[FC0001]: `config.yaml` cannot be read: permission denied"),
        ("checkpoints", "last.safetensors`: permission denied"),
    ],
)
def test_a_run_that_must_not_be_read_does_not_go_on(denied, reported, capsys):
    assert main(["train", "config.yaml"]) == 0
    run = next(Path("runs").rglob("run.json")).parent
    (run / denied).chmod(0)
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "trainer.epochs=2"]) in (2, 3)
    printed = capsys.readouterr().err
    assert reported in printed
    assert "Traceback" not in printed


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("denied", ["runs/config/a", "runs/config"])
def test_runs_that_must_not_be_read_are_reported(denied, capsys):
    Path("runs/config/a").mkdir(parents=True)
    Path(denied).chmod(0)
    assert main(["runs"]) == 0
    printed = capsys.readouterr().err
    assert "warning[FC0702]: a run is not listed, because its record cannot be read: permission denied" in printed
    assert f" --> {denied}/run.json" in printed
