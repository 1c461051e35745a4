"""What the command line says and returns, whatever happens inside a command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from flowconf.cli.main import app, main
from flowconf.report import ConfigError, Diagnostic, MachineError, Place, RunError, raised_at
from flowconf.train.checks import road

GRAPH = "inputs: {x: [B, 4]}\nflow:\n  head: Linear(4, 2)\n"


@pytest.fixture
def graph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph.yaml").write_text(GRAPH, encoding="utf-8")
    return "graph.yaml"


@pytest.fixture
def failing(monkeypatch):
    """Makes `flowconf check` raise what it is given."""

    def arrange(error: BaseException) -> None:
        def fail(*arguments, **more):
            raise error

        monkeypatch.setattr(road, "findings", fail)

    return arrange


def flowconf_process(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "flowconf", *arguments]
    return subprocess.run(call, text=True, capture_output=True, timeout=120, check=False, **more)


def test_help_names_the_commands(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in ("train", "check", "draw", "show", "summary", "list", "doctor"):
        assert f"\n  {command} " in shown
    assert "..." not in shown.partition("Commands:")[2]  # no summary is cut off


def test_help_says_what_every_option_takes(capsys):
    """Not only its type, such as `<str>` or `<path>`."""
    for command in typer.main.get_command(app).commands:
        assert main([command, "--help"]) == 0
        assert not re.findall(r"<(?:str|path|int|float)[^>|]*>", capsys.readouterr().out), command


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("flowconf 0.")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["check"], "FILE"),
        (["chekc", "a.yaml"], "chekc"),
        (["check", "a.yaml", "--formt", "json"], "--formt"),
        (["check", "a.yaml", "--format", "xml"], "xml"),
        (["draw", "graph.yaml", "-o", "graph.jpg"], "graph.jpg"),
    ],
)
def test_a_wrong_command_line_is_2_with_a_short_word(arguments, word, graph, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert word in err
    assert len(err.splitlines()) <= 5


@pytest.mark.parametrize("kind", [ConfigError, RunError, MachineError])
def test_a_refusal_is_drawn_on_stderr_and_gives_its_code(kind, failing, capsys):
    failing(kind(Diagnostic("FC0102", "there is no `lr`", Place(word="lr=1"), advice="write `optimizer.lr`")))
    assert main(["check", "a.yaml"]) == kind.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error[FC0102]: there is no `lr`\n --> command line, `lr=1`\n  = help: write `optimizer.lr`\n"


def test_any_other_exception_is_short(failing, capsys):
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    error.add_note("in `letter.read` (configs/letter.yaml:12:5)")
    failing(error)
    assert main(["check", "a.yaml"]) == 1
    assert capsys.readouterr().err == (
        "flowconf: RuntimeError: mat1 and mat2 shapes cannot be multiplied\n"
        "in `letter.read` (configs/letter.yaml:12:5)\n"
        f"  --> {raised_at(error)}\n"
        "   |  raise error\n"
        "(FLOWCONF_FULL_TRACE=1 shows the full traceback)\n"
    )


class Odd(BaseException):
    """Neither an `Exception`, nor with a message."""

    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(
    ("error", "words"), [(SystemExit(0), "SystemExit: 0"), (Odd(), "Odd: an exception without a message")]
)
def test_code_of_a_project_does_not_end_a_command_silently(error, words, failing, capsys):
    failing(error)
    assert main(["check", "a.yaml"]) == 1
    assert capsys.readouterr().err.startswith(f"flowconf: {words}\n  --> ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has the device")
def test_an_output_that_is_full_is_named(graph):
    with Path("/dev/full").open("w") as full:
        call = [sys.executable, "-m", "flowconf", "show", graph]
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 3
    assert done.stderr == "error[FC0601]: `<stdout>`: no space left on device\n --> <stdout>\n"


def test_the_environment_is_3(failing, capsys):
    failing(OSError(28, "No space left on device"))
    assert main(["check", "a.yaml"]) == 3
    assert "error[FC0601]: no space left on device" in capsys.readouterr().err
    failing(OSError(28, "No space left on device", "from", None, "to"))
    assert main(["check", "a.yaml"]) == 3
    assert "error[FC0601]: `to`: no space left on device" in capsys.readouterr().err


def test_an_interruption_is_130(failing):
    failing(KeyboardInterrupt())
    assert main(["check", "a.yaml"]) == 130


def test_the_trace_is_shown_on_request(failing, capsys, monkeypatch):
    monkeypatch.setenv("FLOWCONF_FULL_TRACE", "1")
    failing(RuntimeError("boom"))
    assert main(["check", "a.yaml"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_closed_pipe_is_silent(graph):
    reader, writer = os.pipe()
    os.close(reader)
    call = [sys.executable, "-m", "flowconf", "show", graph]
    try:
        done = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1


def test_a_mistake_makes_no_traceback_in_a_real_process(graph):
    done = flowconf_process("check", "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "train"])
def test_the_process_of_a_check_ends_without_a_garbage_collection(command, tmp_path):
    code = f"""
import atexit, gc
from flowconf.cli.main import main
atexit.register(lambda: print(len(gc.get_objects())))
assert main([{command!r}, "missing.yaml"]) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=tmp_path, check=True)
    assert (int(done.stdout.splitlines()[-1]) < 1_000) == (command == "check")


def test_a_current_folder_that_was_deleted(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["runs", str(tmp_path)]) == 3
    assert capsys.readouterr().err.startswith("error[FC0601]: the current folder was deleted\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "graph.yaml", "--max_epochs", "3"], "a setting is written without dashes, as in `max_epochs=...`"),
        (["check", "graph.yaml", "--batch-size", "3"], "without dashes, as in `data.batch_size=...`"),
        (["check", "graph.yaml", "-m", "seed=0,1"], "No such option: -m"),
        (["train", "graph.yaml", "--resume", "runs/a"], "a run is resumed with its own config; remove `graph.yaml`"),
    ],
)
def test_a_command_line_of_another_tool(graph, capsys, words, said):
    assert main(words) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", "").split())
