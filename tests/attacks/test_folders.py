"""Files beside a config or in a run folder: none is run, and none leads to another file or to a wait without end."""

from __future__ import annotations

import json
import os
import re
import shlex
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
    for name in ("checkpoints/.notes.tmp", "checkpoints/.last.safetensors.123.tmp", ".run.json.123.tmp"):
        (run / name).write_text("")
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 0
    assert (run / "checkpoints/.notes.tmp").exists()
    assert not (run / "checkpoints/.last.safetensors.123.tmp").exists()
    assert not (run / ".run.json.123.tmp").exists()


def test_predictions_are_written_where_a_link_leads_to(folder, run):
    Path("link.npz").symlink_to("outside.npz")
    assert main(["predict", str(run), "--split", "val", "-o", "link.npz"]) == 0
    assert Path("link.npz").is_symlink()
    assert Path("outside.npz").stat().st_size


def digests(place):
    return {path: path.read_bytes() if path.is_file() else b"" for path in sorted(place.rglob("*"))}


@pytest.mark.parametrize("name", ["checkpoints", "images/seen", "profile"])
def test_a_folder_in_a_run_that_is_a_link_is_not_written(folder, run, capsys, name):
    others = folder.path / "others"
    (run / name).mkdir(parents=True, exist_ok=True)
    shutil.move(run / name, others)
    (run / name).symlink_to(others)
    before = digests(folder.path)
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 1
    assert f"error[FC0702]: `{name}` is a link" in capsys.readouterr().err
    assert main(["profile", str(run)]) == 1
    assert digests(folder.path) == before


def test_a_link_in_the_place_of_a_temporary_file_is_replaced(folder, run):
    """A run folder may have links under every name that its files may have before they take their place."""
    for name in ("run.json", "config.yaml", "report.html", "checkpoints/last.safetensors"):
        file = run / name
        file.with_name(f".{file.name}.{os.getpid()}.tmp").symlink_to(Path("outside").absolute())
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 0
    assert (folder.path / "outside").read_text() == "a line\n" * 1000


@pytest.fixture
def sweep(folder, run, capsys):
    """A sweep of one run that has not finished, and a file outside of its folder."""
    made = run.parent / "sweep"
    made.mkdir()
    record = {"config": str(Path("tiny.yaml").absolute()), "overrides": ["seed=0"], "folder": str(folder.path)}
    (made / "sweep.json").write_text(json.dumps(record))
    (made / "runs.jsonl").write_text("")
    return made


@pytest.mark.parametrize("name", ["runs.jsonl", "multirun.yaml"])
def test_the_files_of_a_sweep_are_not_written_through_a_link(folder, sweep, name):
    (sweep / name).touch()
    a_link(sweep / name)
    assert main(["train", "--resume", str(sweep)]) == 2
    assert (folder.path / "outside").read_text() == "a line\n" * 1000


@pytest.mark.parametrize("change", [a_pipe, a_device, a_folder, larger_than_the_memory])
@pytest.mark.parametrize("name", ["sweep.json", "runs.jsonl"])
def test_a_file_of_a_sweep_that_is_not_what_it_seems(sweep, capsys, name, change):
    change(sweep / name)
    for command in (["train", "--resume", str(sweep)], ["report", str(sweep)], ["runs"]):
        main(command)
        err = capsys.readouterr().err
        assert "FULL_TRACE" not in err, err


def test_a_sweep_that_cannot_go_on_is_refused(sweep, run, capsys):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("lr: 0.01", "lr: 0.02"))
    line = {"number": 1, "overrides": ["seed=0"], "best": "val/accuracy", "mode": "max", "status": ""}
    (sweep / "runs.jsonl").write_text(json.dumps({**line, "folder": str(run.absolute())}) + "\n")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    (sweep / "multirun.yaml").write_text("what Hydra wrote before")
    before = digests(run.parent)
    assert main(["train", "--resume", str(sweep)]) == 2
    assert "error[FC0702]: `optimizer.lr` has changed since the run" in capsys.readouterr().err
    assert digests(run.parent) == before


@pytest.mark.parametrize("change", [a_pipe, a_device, larger_than_the_memory])
@pytest.mark.parametrize("name", ["weights.txt", "origins.json", "predictions.json", "resources.jsonl"])
def test_a_report_of_files_that_are_not_what_they_seem(run, capsys, name, change):
    (run / name).touch()
    change(run / name)
    assert main(["report", str(run)]) == 0


def test_a_report_without_times(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({key: record[key] for key in ("config", "status", "metrics")}))
    assert main(["report", str(run)]) == 0


def test_what_is_no_weights_is_not_published(folder, run, capsys):
    (run / "checkpoints/best.safetensors").unlink()
    (run / "checkpoints/best.safetensors").symlink_to(Path("outside").absolute())
    assert main(["push", str(run), "me/model", "--dry-run", "made"]) == 2
    assert not (folder.path / "made").exists()


DATA = {
    "images": "{name: idx, folder: %s}",
    "a table": "{name: table, train: %s, fields: {image: {columns: a}, label: {columns: b}}}",
    "a pattern": "{name: table, train: '*.csv', fields: {image: {columns: a}, label: {columns: b}}}",
    "arrays": "{name: arrays, train: %s}",
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_data_that_are_a_pipe_or_a_device(folder, capsys, data):
    os.mkfifo("pipe.csv")
    for file in ("pipe.csv", "/dev/zero"):
        text = "\n".join(
            f"data: {data.replace('%s', file)}" if line[:5] == "data:" else line for line in TINY.split("\n")
        )
        for command in ("check", "train"):
            assert main([command, folder.write(text)]) == 2
            assert "is neither a file nor a folder" in "".join(capsys.readouterr())


def test_an_image_that_is_a_pipe(folder):
    pytest.importorskip("PIL.Image")
    from flowconf.train.data.decoding import examine

    os.mkfifo("a.png")
    assert examine(Path("a.png")) == "is not a regular file"


NAME = "it's; touch proof #"


def test_a_command_that_is_printed_can_be_copied(folder, run, capsys):
    """The name of a folder that someone else made is a word in a command, not a part of it."""
    from flowconf.report import shell_word

    assert shell_word("-o") == "./-o"
    project = folder.path / NAME
    project.mkdir()
    (project / "pyproject.toml").write_text("[tool.flowconf]\nmodules = ['not_there']\n")
    (project / "tiny.yaml").write_text(TINY)
    assert main(["check", str(project / "tiny.yaml")]) == 0
    copied = re.search(r"`(cd .*)`\n", capsys.readouterr().out)
    assert copied is not None
    assert shlex.split(copied[1]) == ["cd", NAME]
    other = run.with_name(NAME)
    run.rename(other)
    assert main(["train", "--resume", str(other), "trainer.epochs=3", "optimizer.lr=1e38", "trainer.log_every=1"]) == 1
    copied = re.search(r"`(flowconf train --resume .*) trainer.find_nan=true`", capsys.readouterr().err)
    assert copied is not None
    assert shlex.split(copied[1]) == ["flowconf", "train", "--resume", str(other)]


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
