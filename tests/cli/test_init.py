"""`flowconf init`: the project that it makes works at once, and nothing that exists is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowconf.cli.main import main

ROOT = Path(__file__).parent.parent.parent
FILES = [
    ".gitignore",
    "README.md",
    "configs/baseline.yaml",
    "pyproject.toml",
    "seals/__init__.py",
    "seals/blocks.py",
    "seals/data.py",
    "tests/test_project.py",
]
WHERE = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files(folder="."):
    """The files of a folder with their bytes."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()
    }


def typed(*words, folder="seals"):
    """What a newcomer types in the project; its output."""
    call = [sys.executable, "-m", *words]
    done = subprocess.run(call, cwd=folder, env=WHERE, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_first_minutes(capsys):
    assert main(["init", "seals"]) == 0
    written, following = capsys.readouterr().out.split("\n\nNext:\n")
    assert written.splitlines() == [f"wrote seals/{name}" for name in FILES]
    assert following.splitlines() == ["  cd seals", "  flowconf train configs/baseline.yaml", "  pytest"]
    assert sorted(files("seals")) == FILES
    assert typed("flowconf", "check", "configs/baseline.yaml") == "configs/baseline.yaml: no errors\n"
    assert "run folder runs/baseline/" in typed("flowconf", "train", "configs/baseline.yaml", "trainer.epochs=1")
    assert "3 passed" in typed("pytest", "-p", "no:cacheprovider")
    assert "Spectrum(" in typed("flowconf", "list", "modules")
    typed("flowconf", "predict", "runs/baseline", "--split", "test", "-o", "test.csv", "--with", "tone")
    assert len(Path("seals/test.csv").read_text().splitlines()) == 201


def test_its_python_passes_the_linter():
    main(["init", "seals"])
    rules = ["--config", str(ROOT / "pyproject.toml"), "--config", "lint.isort.known-first-party=['seals']"]
    for words in (
        ["check", *rules],
        ["format", "--check"],
        ["check", "--isolated"],
        ["format", "--check", "--isolated"],
    ):
        assert typed("ruff", *words, "--no-cache", ".")


def test_the_current_folder(tmp_path, monkeypatch, capsys):
    Path("seals").mkdir()
    monkeypatch.chdir("seals")
    assert main(["init", "."]) == 0
    assert sorted(files()) == FILES
    assert "cd " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "folder", "package"),
    [
        (["my-seals"], "my-seals", "my_seals"),
        (["Seals"], "Seals", "seals"),
        (["deep/er/seals/"], "deep/er/seals", "seals"),
        (["2026 seals", "--name", "seals"], "2026 seals", "seals"),
    ],
)
def test_the_name_of_the_package(words, folder, package, capsys):
    assert main(["init", *words]) == 0
    text = (Path(folder) / "pyproject.toml").read_text()
    assert f'modules = ["{package}.blocks", "{package}.data"]' in text
    assert (Path(folder) / package / "blocks.py").is_file()
    assert f"from {package}.blocks import" in (Path(folder) / "tests/test_project.py").read_text()
    assert f"  cd {words[0]}\n".replace("2026 seals", "'2026 seals'") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "reason", "instead"),
    [
        ("2026-seals", "begins with a letter", "seals"),
        ("séals", "ASCII letters", "seals"),
        ("a b; touch ran", "ASCII letters", "a_b_touch_ran"),
        ("$(touch ran)", "ASCII letters", "touch_ran"),
        ('"]\nmodules = ["os', "ASCII letters", "modules_os"),
        ("\x1b[31m", "ASCII letters", "m"),
        ("..", "ASCII letters", None),
        ("", "ASCII letters", "my_project"),
        ("42", "begins with a letter", "my_project"),
        ("class", "keyword", "my_class"),
        ("torch", "hide the installed module `torch`", "my_torch"),
        ("flowconf", "hide the installed module `flowconf`", "my_flowconf"),
        ("json", "hide the installed module `json`", "my_json"),
        ("tests", "another folder `tests`", "my_tests"),
        ("configs", "another folder `configs`", "my_configs"),
        ("runs", "another folder `runs`", "my_runs"),
    ],
)
def test_a_name_that_cannot_be_a_package_is_refused_with_one_that_can(
    name, reason, instead, tmp_path, monkeypatch, capsys
):
    place = tmp_path / "!" / "in"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    before = files(tmp_path)
    assert main(["init", "--", name]) == 2
    said = capsys.readouterr().err
    assert "error[FC0126]" in said
    assert reason in said
    assert files(tmp_path) == before
    assert list(place.iterdir()) == []
    if instead is not None:
        assert f"add `--name {instead}`" in said
        assert main(["init", "seals", "--name", instead]) == 0


def test_the_name_of_the_option_is_checked_like_that_of_the_folder(capsys):
    assert main(["init", "seals", "--name", "a.b"]) == 2
    assert "command line, `--name a.b`" in capsys.readouterr().err
    assert not Path("seals").exists()


@pytest.mark.parametrize("name", [name for name in FILES if name not in (".gitignore", "README.md")])
def test_a_file_that_exists_is_named_and_nothing_is_written(name, capsys):
    file = Path("seals") / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert main(["init", "seals"]) == 2
    assert f"error[FC0602]: `seals/{name}` exists, and nothing was overwritten" in capsys.readouterr().err
    assert files() == {f"seals/{name}": b"mine"}


def test_a_new_repository_may_have_a_readme_and_ignored_files(capsys):
    Path("seals").mkdir()
    for name in ("README.md", ".gitignore", "LICENSE"):
        Path("seals", name).write_text("mine")
    assert main(["init", "seals"]) == 0
    assert "kept  seals/.gitignore\nkept  seals/README.md\nwrote seals/configs" in capsys.readouterr().out
    found = files("seals")
    assert sorted(found) == sorted([*FILES, "LICENSE"])
    assert found["README.md"] == found[".gitignore"] == found["LICENSE"] == b"mine"


def test_a_second_call_changes_nothing(capsys, monkeypatch):
    monkeypatch.syspath_prepend("")  # as under `python -m`: the project itself can be imported
    assert main(["init", "seals"]) == 0
    before = files()
    assert main(["init", "seals"]) == 2
    said = capsys.readouterr().err
    assert all(f"`seals/{name}`" in said for name in FILES if name not in (".gitignore", "README.md"))
    assert files() == before


def test_nothing_is_written_through_a_link(tmp_path, capsys):
    Path("seals").mkdir()
    Path("seals/pyproject.toml").symlink_to(tmp_path / "elsewhere")
    assert main(["init", "seals"]) == 2
    assert "`seals/pyproject.toml` exists" in capsys.readouterr().err
    assert not Path("elsewhere").exists()


def test_a_file_in_place_of_the_folder_is_reported(capsys):
    Path("seals").write_text("mine")
    assert main(["init", "seals"]) == 3
    assert "error[FC0601]: `seals" in capsys.readouterr().err
    assert files() == {"seals": b"mine"}


def test_it_needs_no_torch():
    call = [sys.executable, "-X", "importtime", "-m", "flowconf", "init", "seals"]
    done = subprocess.run(call, env=WHERE, capture_output=True, text=True, check=True)
    assert not {"torch", "hydra", "pydantic", "numpy"} & {line.split()[-1] for line in done.stderr.splitlines()}
    assert Path("seals/pyproject.toml").is_file()
