"""A downloaded folder is data: what its project lists is imported only by a command in it, or with `--trust`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

import flowconf
from flowconf.cli.main import main
from flowconf.language import projects
from flowconf.train.checks import road
from flowconf.train.commands.sweep import sweep
from flowconf.train.team import launch
from tests.train.conftest import TINY, Folder

CONFIG = TINY.replace("epochs: 2", "epochs: 1").replace("rows: 320", "rows: 64")
MODULE = """\
from pathlib import Path
import flowconf
from torch import nn
Path({mark!r}).touch()
@flowconf.register(name={block!r})
class Block(nn.Identity):
    pass
"""


_numbers = count()


class Download:
    """A folder that someone else made, with a project whose module leaves a mark when it is imported."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.mark, self.block = folder, folder.parent / f"{name}-ran", f"Block{name.title()}"
        folder.mkdir()
        (folder / "pyproject.toml").write_text(f"[tool.flowconf]\nmodules = ['blocks_of_{name}']\n")
        (folder / f"blocks_of_{name}.py").write_text(MODULE.format(mark=str(self.mark), block=self.block))
        (folder / "plain.yaml").write_text(CONFIG)
        (folder / "own.yaml").write_text(CONFIG.replace("hidden: ReLU", f"hidden: {self.block}"))


@pytest.fixture
def download(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return Download(tmp_path / "download", f"d{next(_numbers)}")


@pytest.fixture
def run(download):
    """A run that was started with a config of the downloaded folder, laid beside it with a project of its own."""
    record = Folder(Path.cwd()).train(text=CONFIG).folder
    reported = json.loads((record / "run.json").read_text())
    reported |= {"config": str(download.folder / "plain.yaml"), "folder": str(download.folder)}
    (record / "run.json").write_text(json.dumps(reported))
    for file in download.folder.iterdir():
        if file.suffix in (".toml", ".py"):
            (record / file.name).write_bytes(file.read_bytes())
    return record


COMMANDS = ("check", "summary", "draw", "eject", "diff", "show", "profile", "train")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_nothing_of_a_project_that_it_is_not_called_in(command, download, capsys):
    file = str(download.folder / "plain.yaml")
    assert main([command, file]) == 0
    assert not download.mark.exists()
    if command == "check":
        assert "warning[FC0109]" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS[:5])
def test_an_unknown_name_says_which_project_may_have_it(command, download, capsys):
    assert main([command, str(download.folder / "own.yaml")]) == 2
    reported = "".join(capsys.readouterr())
    assert f"unknown module `{download.block}`" in reported
    assert f"the project `{download.folder}/pyproject.toml` registers modules that were not imported" in reported
    assert "add `--trust`" in reported
    assert f"`cd {download.folder}`" in reported
    assert not download.mark.exists()


@pytest.mark.parametrize("command", COMMANDS[:6])
def test_it_is_imported_when_it_is_trusted(command, download):
    assert main([command, "--trust", str(download.folder / "own.yaml")]) == 0
    assert download.mark.exists()


def test_it_is_imported_by_a_command_in_it(download, monkeypatch):
    (download.folder / "below").mkdir()
    monkeypatch.chdir(download.folder / "below")
    assert main(["check", "../own.yaml"]) == 0
    assert download.mark.exists()


def test_python_trusts_by_a_keyword(download):
    file = download.folder / "own.yaml"
    assert [reported.code for reported in flowconf.check(file)] == ["FC0109", "FC0132"]
    assert not download.mark.exists()
    assert flowconf.build(file, trust=True).plan.step("hidden") is not None
    assert flowconf.check(file) == []


def run_commands(run: Path) -> list[list[str]]:
    given = run.parent / "rows.npz"
    import numpy

    numpy.savez(given, image=numpy.zeros((2, 8), dtype="float32"))
    return [
        ["eval", str(run)],
        ["predict", str(run), "-i", str(given), "-o", str(run.parent / "out.npz")],
        ["profile", str(run)],
        ["weights", str(run)],
        ["runs", str(run.parent)],
        ["diff", str(run), str(run)],
        ["train", "--resume", str(run), "trainer.epochs=2"],
    ]


def test_a_run_imports_nothing_of_the_folders_that_it_names_or_lies_in(run, download):
    for command in run_commands(run):
        assert main(command) == 0, command
        assert not download.mark.exists(), command


def test_a_command_in_a_run_folder_imports_nothing_of_it(run, download, monkeypatch):
    monkeypatch.chdir(run)
    assert main(["eval", "."]) == 0
    assert not download.mark.exists()


def test_a_run_is_trusted_by_a_flag(run, download):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("hidden: ReLU", f"hidden: {download.block}"))
    assert main(["eval", str(run)]) == 2
    assert not download.mark.exists()
    assert main(["eval", "--trust", str(run)]) == 0
    assert download.mark.exists()


def test_a_folder_that_a_run_names_is_not_where_the_command_was_called(download):
    with projects.in_folder(download.folder):
        assert [reported.code for reported in projects.import_project(download.folder)] == ["FC0109"]
    assert not download.mark.exists()


def test_the_runs_of_a_sweep_import_what_it_trusts(download):
    assert main(["train", "-m", str(download.folder / "plain.yaml"), "seed=0"]) == 0
    assert not download.mark.exists()
    assert main(["train", "-m", "--trust", str(download.folder / "own.yaml"), "seed=0"]) == 0


def test_a_team_imports_what_was_trusted(download, tmp_path):
    flowconf.load(download.folder / "own.yaml", trust=True)
    task = launch.Task(road.begin(download.folder / "own.yaml"))
    assert download.folder / "pyproject.toml" in task.projects
    assert task.projects == projects.imported()


@pytest.mark.slow
def test_processes_of_a_team_and_of_a_launcher_carry_the_trust(download):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    environment = {**os.environ, "PYTHONPATH": str(Path(flowconf.__file__).parents[1]), "OMP_NUM_THREADS": "1"}

    def ran(*words: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-P", "-m", "flowconf", "train", *words]
        return subprocess.run(call, capture_output=True, text=True, timeout=300, env=environment)

    own, plain = str(download.folder / "own.yaml"), str(download.folder / "plain.yaml")
    launched = ["-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    for more in (launched, ["trainer.devices=2"]):
        assert ran(plain, *more).returncode == 0
        assert not download.mark.exists()
        assert ran(own, *more).returncode == 2
        assert not download.mark.exists()
        done = ran("--trust", own, *more)
        assert done.returncode == 0, done.stderr
        download.mark.unlink()


def test_the_sweep_of_python_imports_nothing_either(download):
    sweep(str(download.folder / "plain.yaml"), ["seed=0"])
    assert not download.mark.exists()
