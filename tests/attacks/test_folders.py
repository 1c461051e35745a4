"""Files beside a config or in a run folder: none is run, and none leads to another file or to a wait without end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import flowconf
from flowconf.cli.main import main
from tests.train.conftest import TINY, Folder

SECONDS = 60
NAMES = ("signal", "numpy", "torch", "yaml", "hydra", "typer", "joblib", "socket", "queue", "tempfile", "hydra_plugins")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(flowconf.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


@pytest.fixture(autouse=True)
def _in_time():
    """A command that waits without end fails."""

    def ends(number, frame):
        raise TimeoutError(f"not finished after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ends)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def hostile(folder):
    """Modules with the names of packages, which leave a file when they are run."""
    for name in NAMES:
        (folder.path / f"{name}.py").write_text("open('proof', 'w').close()\nraise SystemExit('run')\n")
    return folder.write(TINY.replace("epochs: 2", "epochs: 1"))


@pytest.mark.parametrize(
    "words",
    [
        ["check", "tiny.yaml"],
        pytest.param(["train", "tiny.yaml", "trainer.devices=2"], marks=pytest.mark.slow),
        pytest.param(
            ["train", "tiny.yaml", "-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda words: " ".join(words),
)
def test_the_current_folder_has_no_packages(folder, words):
    if "hydra/launcher=joblib" in words:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    signal.alarm(600)
    hostile(folder)
    done = subprocess.run([sys.executable, "-m", "flowconf", *words], env=ENVIRONMENT, capture_output=True, text=True)
    assert not (folder.path / "proof").exists()
    assert done.returncode == 0, done.stderr


@pytest.fixture
def run(folder):
    """A run that has not finished, and a file outside of its folder."""
    run = folder.train(text=TINY).folder
    record = run / "run.json"
    record.write_text(record.read_text().replace('"finished"', '"running"'))
    (folder.path / "outside").write_text("a line\n" * 1000)
    return run.relative_to(folder.path)


def a_pipe(file):
    file.unlink()
    os.mkfifo(file)


def a_device(file):
    file.unlink()
    file.symlink_to("/dev/zero")


def a_link(file):
    file.unlink()
    file.symlink_to(Path("outside").absolute())


def a_folder(file):
    file.unlink()
    file.mkdir()


def larger_than_the_memory(file):
    os.truncate(file, 1 << 43)


COMMANDS = (["runs"], ["train", "--resume"], ["train", "--resume", "trainer.epochs=3"], ["eval"], ["weights"])


@pytest.mark.parametrize("change", [a_pipe, a_device, a_folder, larger_than_the_memory])
@pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.jsonl", "checkpoints/last.safetensors"])
def test_a_file_of_a_run_that_is_not_what_it_seems(folder, run, capsys, name, change):
    if change is larger_than_the_memory and name == "metrics.jsonl":
        pytest.skip("only its end is read")
    change(run / name)
    for command in COMMANDS:
        main([*command[:2], str(run), *command[2:]])
        assert "Traceback" not in capsys.readouterr().err


def test_a_log_that_is_a_link_is_not_written(folder, run, capsys):
    a_link(run / "metrics.jsonl")
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 1
    assert "error[FC0702]: `metrics.jsonl` is not a regular file" in capsys.readouterr().err
    assert (folder.path / "outside").read_text() == "a line\n" * 1000
    assert main(["runs"]) == 0


def test_links_that_take_the_place_of_files_are_replaced(folder, run):
    for name in ("run.json", "config.yaml", "checkpoints/last.safetensors", "checkpoints/best.safetensors"):
        outside = folder.path / f"outside {Path(name).name}"
        shutil.move(run / name, outside)
        (run / name).symlink_to(outside)
    before = {file: file.read_bytes() for file in folder.path.glob("outside*")}
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 0
    assert {file: file.read_bytes() for file in folder.path.glob("outside*")} == before


def test_only_its_own_leftovers_are_removed(folder, run):
    others = folder.path / "others"
    shutil.move(run / "checkpoints", others)
    (run / "checkpoints").symlink_to(others)
    for name in (".notes.tmp", ".last.safetensors.123.tmp"):
        (others / name).write_text("")
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 0
    assert (others / ".notes.tmp").exists()
    assert not (others / ".last.safetensors.123.tmp").exists()


def test_a_folder_whose_name_is_not_unicode(tmp_path, monkeypatch, capsys):
    place = tmp_path / os.fsdecode(b"\xff\xe9 name")
    place.mkdir()
    monkeypatch.chdir(place)
    run = Folder(place).train(text=TINY).folder
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 0
    for command in (["eval", str(run)], ["weights", str(run)], ["runs", str(run.parent)]):
        assert main(command) == 0
    assert "\udcff" not in capsys.readouterr().out


def test_no_image_starts_a_program(folder, monkeypatch, capsys):
    """PostScript under the name of an image, which Pillow would give to Ghostscript."""
    image = pytest.importorskip("PIL.Image")
    for split in ("train", "val"):
        for kind in ("a", "b"):
            place = folder.path / "images" / split / kind
            place.mkdir(parents=True)
            for number in range(2):
                image.new("RGB", (8, 8)).save(place / f"{number}.png")
    (folder.path / "images/train/a/0.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    )
    programs = folder.path / "programs"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {folder.path / 'proof'}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    text = TINY.replace("[B, 8]", "[B, 3, 8, 8]").replace(
        "stem: Linear(8, 16)", "flat: Flatten\n    stem: Linear(192, 16)"
    )
    data = "data: {name: images, folder: images, batch_size: 2}"
    lines = [data if line.startswith("data:") else line for line in text.splitlines()]
    assert main(["train", folder.write("\n".join(lines).replace("Linear(16, 4)", "Linear(16, 2)"))]) == 2
    assert "is not an image" in capsys.readouterr().err
    assert not (folder.path / "proof").exists()
