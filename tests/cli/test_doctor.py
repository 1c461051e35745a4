"""`flowconf doctor`: what a bug report needs, also of an installation that is broken."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib.metadata import requires

import pytest
import torch
from packaging.requirements import Requirement

import flowconf
from flowconf.cli.main import main
from flowconf.train import doctor


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(capsys, code: int = 0) -> dict:
    assert main(["doctor", "--format", "json"]) == code
    return json.loads(capsys.readouterr().out)


def test_it_says_what_runs_here(capsys):
    found = report(capsys)
    assert list(found) == [*doctor.PARTS, "problems"]
    assert found["versions"]["flowconf"] == flowconf.__version__
    assert found["packages"]["torch"].startswith("2.")
    assert found["devices"]["torch"] == torch.__version__
    assert found["devices"]["cpu"]["threads"] == torch.get_num_threads()
    assert {"basic"} <= set(found["plug-ins"]["launchers"])
    assert found["project"] == {"file": None, "modules": {}}
    assert found["runs"]["writable"] is True
    assert found["git"] is None
    assert found["problems"] == []


def test_every_requirement_is_listed(capsys):
    found = report(capsys)
    listed = set(found["packages"]) | {name for extra in found["extras"].values() for name in extra}
    wanted = [Requirement(text) for text in requires("flowconf")]
    names = {one.name for one in wanted if not re.search("extra == ['\"](test|dev|docs)", str(one.marker))}
    assert listed == names


def test_the_text_is_for_people(capsys):
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "versions:"
    assert f"  flowconf: {flowconf.__version__}" in lines
    assert "  writable: yes" in lines
    assert err == ""


def test_modules_of_the_project_are_imported_one_by_one(folder, capsys):
    (folder / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["doctored_broken", "doctored_whole"]\n')
    (folder / "doctored_broken.py").write_text("import nothing_of_that_name\n")
    (folder / "doctored_whole.py").write_text("")
    found = report(capsys, 3)
    sys.modules.pop("doctored_whole")
    assert found["project"]["file"] == str(folder / "pyproject.toml")
    assert found["project"]["modules"] == {
        "doctored_broken": "cannot be imported",
        "doctored_whole": "can be imported",
    }
    (problem,) = found["problems"]
    assert (problem["code"], problem["line"]) == ("FC0132", 2)
    assert "nothing_of_that_name" in problem["message"]


def test_a_project_file_that_cannot_be_read_is_a_problem(folder, capsys):
    (folder / "pyproject.toml").write_text("[tool.flowconf]\nmodules = 3\n")
    (problem,) = report(capsys, 3)["problems"]
    assert problem["code"] == "FC0123"


@pytest.mark.parametrize(
    ("module", "parts"), [("torch", ["devices"]), ("hydra", ["plug-ins"]), ("yaml", ["project", "plug-ins"])]
)
def test_what_cannot_be_imported_is_a_problem_and_the_rest_is_reported(module, parts, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] in ("flowconf", module)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    from flowconf.cli.main import main as anew

    assert anew(["doctor", "--format", "json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert [name for name in doctor.PARTS if name != "git" and found[name] is None] == parts
    assert [problem["message"].split("`")[1] for problem in found["problems"]] == parts


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "the package `torch` is not installed"),
        ("2.1.0", "flowconf requires `torch` `>=2.6`, got `2.1.0`"),
    ],
)
def test_packages_that_do_not_fit_are_problems(version, message, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "installed", lambda name: version if name == "torch" else "99")
    problems = {problem["message"]: problem["help"] for problem in report(capsys, 3)["problems"]}
    assert problems[message] == "run `pip install 'torch>=2.6'`"


@pytest.mark.usefixtures("permissions_count")
def test_a_folder_that_cannot_be_written_is_a_problem(folder, capsys):
    folder.chmod(0o500)
    try:
        assert main(["doctor"]) == 3
    finally:
        folder.chmod(0o700)
    out, err = capsys.readouterr()
    assert "  writable: no" in out
    assert err.startswith("error[FC0601]: runs cannot be written: ")


def test_a_file_called_runs_is_a_problem(folder, capsys):
    (folder / "runs").write_text("")
    assert report(capsys, 3)["runs"]["writable"] is False


def test_nothing_that_it_prints_moves_the_cursor(folder, monkeypatch, capsys):
    (folder / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["a\\u001b[2Jb"]\n')
    monkeypatch.setenv("TORCH_X", "\x1b[31m")
    assert main(["doctor"]) == 3
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert r"TORCH_X: \x1b[31m" in out


def test_only_variables_that_matter_are_shown(monkeypatch, capsys):
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "OMP_NUM_THREADS: 1" in out
    assert os.environ["MY_TOKEN"] not in out


def test_nothing_is_written(folder, capsys):
    report(capsys)
    assert list(folder.iterdir()) == []
