"""Shell completion: what is offered where, that no name of a file is code to a shell, and that it is light."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flowconf.cli import completion

ROOT = Path(__file__).parent.parent.parent
FILES = [
    "configs/baseline.yaml",
    "configs/graph/part.toml",
    "configs/notes.txt",
    "pyproject.toml",
    ".hidden/a.yaml",
    "venv/pyvenv.cfg",
    "venv/lib/b.yaml",
    "runs/baseline/2026-01-01_00-00-00/run.json",
    "runs/baseline/2026-01-01_00-00-00/config.yaml",
    "runs/baseline/2026-01-02_00-00-00/run.json",
    "runs/empty/notes.txt",
]
RUNS = ["runs/baseline/2026-01-01_00-00-00", "runs/baseline/2026-01-02_00-00-00"]


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bash(tmp_path):
    """What bash offers for the last of some words, with the script that `--show-completion` prints."""
    program = tmp_path / ".bin" / "flowconf"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowconf "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    where = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path / ".home"),
    }

    def run(script):
        done = subprocess.run(
            [shutil.which("bash"), "-c", script], env=where, capture_output=True, text=True, timeout=120, check=True
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    def offered(*words):
        script = [
            'eval "$(flowconf --show-completion)"',
            f"COMP_WORDS=({' '.join(repr(word) for word in words)})",
            f"COMP_CWORD={len(words) - 1}",
            "_flowconf_completion flowconf",
            """printf '%s\\n' "${COMPREPLY[@]}" """,
        ]
        return run("\n".join(script))

    return offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tra"], ["train"]),
        (["train", ""], ["configs/baseline.yaml", "configs/graph/part.toml"]),
        (["train", "--resume", "runs/baseline/"], RUNS),
        (["eval", ""], ["runs/baseline"]),
        (["explain", "FC060"], ["FC0601", "FC0602"]),
        (["list", "lo"], ["losses", "loggers"]),
        (["check", "--format", "git"], ["github"]),
        (["diff", "runs/b"], ["runs/baseline"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_bash_offers(words, expected, bash):
    assert bash("flowconf", *words) == expected


@pytest.mark.parametrize(
    ("incomplete", "offered"),
    [
        ("", ["configs/baseline.yaml", "configs/graph/part.toml"]),
        ("con", ["configs/baseline.yaml", "configs/graph/part.toml"]),
        ("configs/g", ["configs/graph/part.toml"]),
        ("./configs/b", ["./configs/baseline.yaml"]),
        ("configs/graph/../b", ["configs/graph/../baseline.yaml"]),
        ("nowhere/", []),
        ("configs/notes.txt/", []),
    ],
)
def test_configs(incomplete, offered):
    assert completion.configs(incomplete) == offered


@pytest.mark.parametrize(
    ("incomplete", "offered"),
    [
        ("", ["runs/baseline"]),
        ("ru", ["runs/baseline"]),
        ("runs/baseline", ["runs/baseline"]),
        ("runs/baseline/", RUNS),
        ("runs/baseline/2026-01-02", RUNS[1:]),
        ("elsewhere/", []),
    ],
)
def test_runs(incomplete, offered):
    assert completion.runs(incomplete) == offered


@pytest.mark.parametrize(
    "name", ["a b", "$(touch ran)", "`touch ran`", "a';touch ran;'", "a\nb", "a:b", "\x1b[31m", "*"]
)
def test_a_name_that_a_shell_would_read_as_something_else_is_not_offered(name):
    Path("configs", f"{name}.yaml").write_text("{}")
    run = Path("runs", name, "2026-01-01_00-00-00")
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    assert completion.configs("configs/") == ["configs/baseline.yaml", "configs/graph/part.toml"]
    assert completion.runs("") == ["runs/baseline"]


def test_large_folders_are_not_read_to_their_end(monkeypatch):
    seen = []
    below = completion._below
    monkeypatch.setattr(completion, "MOST_ENTRIES", 3)
    monkeypatch.setattr(completion, "_below", lambda start: (seen.append(entry) or entry for entry in below(start)))
    for number in range(10):
        Path(f"file{number}").write_text("")
    completion.configs("")
    assert len(seen) == 3


def test_it_imports_little():
    where = {**os.environ, "PYTHONPATH": str(ROOT), "_FLOWCONF_COMPLETE": "complete_zsh"}
    call = [sys.executable, "-X", "importtime", "-m", "flowconf"]
    for words in ("flowconf train ", "flowconf list ", "flowconf explain F", "flowconf eval "):
        done = subprocess.run(
            call, env={**where, "_TYPER_COMPLETE_ARGS": words}, capture_output=True, text=True, timeout=120, check=True
        )
        assert done.stdout.startswith("_arguments")
        imported = {line.split("|")[-1].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert not imported & {"torch", "hydra", "omegaconf", "pydantic", "numpy", "yaml"}
