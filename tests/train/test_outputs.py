"""What a run writes to may be full, or gone: the run says so and can go on, or goes on without a word."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import flowconf
from flowconf.cli.main import main
from flowconf.train.runs.tensorboard import EventFile
from flowconf.train.screen import Screen
from tests.train.conftest import TEXT, assert_same, go_on

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(flowconf.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def run_with(folder, stdout, *words, shell=""):
    file = folder.write(TEXT)
    command = f"{sys.executable} -m flowconf {' '.join(words) or f'train {file}'} {shell}"
    return subprocess.run(command, shell=True, stdout=stdout, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("> /dev/full", "cannot write to the output (no space left on device); the run continues without it"),
        ("| true", "cannot write to the output (broken pipe); the run continues without it"),
        (">&-", ""),
        (">&- 2>&-", ""),
    ],
)
def test_a_run_goes_on_without_its_output(folder, shell, words):
    ended = run_with(folder, None, shell=shell)
    assert words in ended.stderr
    assert ended.stderr.count("\n") == bool(words)
    (run,) = folder.runs()
    assert folder.run(run).record["status"] == "finished"


@pytest.mark.parametrize(
    ("shell", "code", "words"),
    [("> /dev/full", 3, "error[FC0601]: `<stdout>`: no space left on device\n --> <stdout>\n"), (">&-", 0, "")],
)
def test_other_commands_tell_in_one_line_that_they_cannot_be_heard(folder, shell, code, words):
    folder.write(TEXT)
    ended = run_with(folder, None, "show", "tiny.yaml", shell=shell)
    assert (ended.returncode, ended.stderr) == (code, words)


def test_a_disk_that_is_full_when_the_log_is_written(folder, whole, monkeypatch, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, step):
        if step == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "step", fill)
        try:
            assert main(["train", folder.write(TEXT)]) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    (run,) = folder.runs()
    # whichever is written first: the checkpoint of step 6 in the background, or the log
    assert re.match(
        r"error\[FC0702\]: cannot (write into the run folder|save the checkpoint of step .): file too large", said
    )
    assert f": flowconf train --resume {run.relative_to(folder.path)}" in said
    assert_same(go_on(folder, run), whole)


@pytest.mark.parametrize("method", ["log", "flush"])
def test_a_disk_that_is_full_when_events_are_written(folder, whole, monkeypatch, capsys, method):
    def full(self, *args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(EventFile, method, full)
        assert main(["train", folder.write(TEXT)]) == 1
    said = capsys.readouterr().err
    assert "error[FC0702]: cannot write into the run folder: no space left on device" in said
    assert "free some space; to resume: flowconf train --resume" in said
    (run,) = folder.runs()
    assert folder.run(run).record["status"] == "failed"
    assert_same(go_on(folder, run), whole)


@pytest.mark.parametrize("name", ["config.yaml", "origins.json", "weights.txt", "graph.dot", "run.json"])
def test_a_disk_that_is_full_when_the_folder_is_made(folder, monkeypatch, capsys, name):
    from flowconf.train.runs import folder as folders

    write = folders.write_atomically

    def full(file, data):
        if file.name == name:
            raise OSError(28, "No space left on device")
        write(file, data)

    monkeypatch.setattr(folders, "write_atomically", full)
    assert main(["train", folder.write(TEXT)]) == 1
    assert "error[FC0702]: cannot make a run folder under `runs`: no space left on device" in capsys.readouterr().err
    assert folder.runs() == []


@pytest.mark.parametrize(("kind", "code"), [("uint8", 2), ("int64", 2), (">f4", 0), ("float64", 0), ("float16", 0)])
def test_predict_says_which_type_it_needs(folder, capsys, kind, code):
    import numpy

    run = folder.train(text=TEXT).folder
    numpy.savez("in.npz", image=numpy.ones((4, 8), kind))
    assert main(["predict", str(run), "-i", "in.npz", "-o", "out.npz"]) == code
    said = capsys.readouterr().err
    assert (f"the input `image` is declared as float32, but the array is {kind}" in said) == (code == 2)
