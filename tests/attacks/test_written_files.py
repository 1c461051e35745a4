"""Files that a command writes: whole or not at all, where links lead to, and never in the place of a device."""

from __future__ import annotations

import os
import resource
import stat
import threading
from pathlib import Path

import pytest

from flowconf.cli.main import main

GRAPH = "inputs: {x: [B, 4]}\nflow:\n  first: {through: 'Linear(4, 8)'}\n  second: 'Linear(8, 2)'\n"
EJECTED = '"""The graph `a` as plain PyTorch, written by flowconf."""\n'
WRONG = GRAPH.replace("through", "trough")
OUTPUTS = {
    "a page": ["draw", "a.yaml", "-o", "out.html"],
    "a diagram": ["draw", "a.yaml", "-o", "out.dot"],
    "a page of mistakes": ["check", "a.yaml", "--draw", "out.html"],
    "source": ["eject", "a.yaml", "-o", "out.py"],
    "a document": ["import", "torch.nn:Identity", "-o", "out.yaml"],
    "a fix": ["check", "out.yaml", "--fix"],
}


CONFIG = """\
model: {inputs: {image: [B, 4]}, flow: {logits: 'Linear(4, 3)'}}
data: {name: synthetic, shape: [4], rows: 8, validation: 0, test: 0, classes: 3, batch_size: 4}
loss: {label: {fn: cross_entropy, input: logits, target: label}}
trainer: {steps: 2, devices: cpu}
"""
FOLDERS = {
    "a model for the hub": ["push", "c", "me/model", "--dry-run", "out"],
    "a profile": ["profile", "c.yaml", "-o", "out"],
    "a project": ["init", "out"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(GRAPH)
    return tmp_path


@pytest.fixture
def full():
    """No file can have more than ten bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("words", OUTPUTS.values(), ids=OUTPUTS)
def test_a_full_disk_leaves_the_earlier_file(folder, request, capsys, words):
    name = next(word for word in words if word.startswith("out."))
    before = EJECTED if name.endswith(".py") else WRONG
    Path(name).write_text(before)
    request.getfixturevalue("full")
    code = main(words)
    text = "".join(capsys.readouterr())
    assert code == 3, text
    assert f"error[FC0601]: `{name}`: file too large\n --> {name}" in text
    assert Path(name).read_text() == before
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(["a.yaml", name])


@pytest.mark.parametrize("words", FOLDERS.values(), ids=FOLDERS)
def test_a_full_disk_leaves_no_part_of_a_folder(folder, request, capsys, words):
    Path("c.yaml").write_text(CONFIG)
    if words[0] == "push":
        assert main(["train", "c.yaml", "trainer.runs=."]) == 0
    request.getfixturevalue("full")
    code = main(words)
    text = "".join(capsys.readouterr())
    assert code == 3, text
    assert "error[FC0601]: `out" in text
    assert [path for path in Path("out").rglob("*") if path.is_file()] == []


def test_a_fix_follows_a_link_and_keeps_permissions(folder):
    Path("real.yaml").write_text(WRONG)
    Path("real.yaml").chmod(0o640)
    Path("link.yaml").symlink_to("real.yaml")
    assert main(["check", "link.yaml", "--fix"]) == 0
    assert Path("link.yaml").is_symlink()
    assert Path("real.yaml").read_text() == GRAPH
    assert stat.S_IMODE(Path("real.yaml").stat().st_mode) == 0o640


@pytest.mark.parametrize("words", [OUTPUTS["a page"], OUTPUTS["source"]], ids=" ".join)
def test_a_pipe_is_written_to(folder, words):
    os.mkfifo(words[-1])
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(Path(words[-1]).read_text()))
    reader.start()
    assert main(words) == 0
    reader.join(60)
    assert found[0]
    assert stat.S_ISFIFO(Path(words[-1]).stat().st_mode)
