"""What comes from the environment is used, and not written: the run's files and loggers have the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowconf.api import compose, load
from flowconf.cli.main import main
from flowconf.language import registry
from flowconf.report import ConfigError
from flowconf.train.commands.train import resume
from flowconf.train.screen import Screen
from tests.train.conftest import TINY

SECRET = "correct horse battery staple"
TEXT = (
    TINY
    + """
loggers:
  spy:
    token: ${oc.env:TOKEN}
    header: "Bearer ${oc.env:TOKEN}"
    again: ${loggers.spy.header}
    near: ${.again}
    number: ${oc.decode:${oc.env:NUMBER}}
    plain: ${data.rows}
"""
)


@pytest.fixture
def seen(monkeypatch):
    """What a logger of the project is given."""
    found = []

    class Spy:
        def log(self, step, values): ...

        def close(self, status): ...

    def spy(run, *, token, header, again, near, number, plain):
        found.append((run, [token, header, again, near, number, plain]))
        return Spy()

    monkeypatch.setitem(registry.loggers.registered, "spy", spy)
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("NUMBER", "7")
    return found


def holding(folder, text):
    return [file.name for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_a_secret_is_used_and_kept_as_a_reference(folder, seen, monkeypatch):
    run = folder.train(text=TEXT).folder
    ((reported, arguments),) = seen
    bearer = f"Bearer {SECRET}"
    assert arguments == [SECRET, bearer, bearer, bearer, 7, 320]
    assert holding(folder.path / "runs", SECRET) == []
    kept = reported.config["loggers"]["spy"]
    assert kept == {
        "token": "${oc.env:TOKEN}",
        "header": "Bearer ${oc.env:TOKEN}",
        "again": "${loggers.spy.header}",
        "near": "${.again}",
        "number": 7,
        "plain": 320,
    }
    assert SECRET not in repr(reported)
    text = (run / "config.yaml").read_text()
    assert 'token: "${oc.env:TOKEN}"' in text
    monkeypatch.setenv("TOKEN", "battery staple")
    resume(str(run), ["trainer.epochs=3"], Screen(folder.said))
    assert seen[-1][1][:2] == ["battery staple", "Bearer battery staple"]
    assert 'token: "${oc.env:TOKEN}"' in (run / "config.yaml").read_text()
    assert holding(folder.path / "runs", "battery staple") == []


def test_without_the_variable_a_run_cannot_be_read(folder, seen, monkeypatch, capsys):
    run = folder.train(text=TEXT).folder
    monkeypatch.delenv("TOKEN")
    assert main(["eval", str(run)]) == 2
    said = capsys.readouterr().err
    assert "the environment variable `TOKEN` is not set" in said
    assert f"{run.relative_to(Path.cwd())}/config.yaml" in said


def test_a_word_of_the_command_line_is_kept_as_it_was_typed(folder, seen):
    run = folder.train("loggers.spy.token='${oc.env:TOKEN}-x'", text=TEXT).folder
    assert seen[0][1][0] == f"{SECRET}-x"
    assert 'token: "${oc.env:TOKEN}-x"' in (run / "config.yaml").read_text()
    assert holding(folder.path / "runs", SECRET) == []


def test_wholes_keep_the_references_in_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    file = tmp_path / "graph.yaml"
    file.write_text(
        "params: {a: '${oc.env:TOKEN}', b: ['${.0x}']}\n".replace("['${.0x}']", "['${params.a}', 2]")
        + "label: x\ninputs: {x: [B, 4]}\nflow: {y: ReLU}\n"
    )
    read = compose(file)
    assert read.document.origins.root.written()["params"] == {"a": "${oc.env:TOKEN}", "b": ["${params.a}", 2]}
    assert read.document.data["params"] == {"a": SECRET, "b": [SECRET, 2]}


@pytest.mark.parametrize(
    ("written", "expected"),
    [("${params}", {"a": "${oc.env:TOKEN}"}), ("${oc.dict.values:params}", "${oc.dict.values:params}"),
     ("${oc.decode:'[1, ${oc.env:NUMBER}]'}", "${oc.decode:'[1, ${oc.env:NUMBER}]'}"),
     ("${oc.dict.keys:params}", ["a"])],
)  # fmt: skip
def test_what_is_made_of_secrets_is_a_reference(tmp_path, monkeypatch, written, expected):
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("NUMBER", "7")
    file = tmp_path / "graph.yaml"
    file.write_text(f"params: {{a: '${{oc.env:TOKEN}}'}}\ncopy: \"{written}\"\n")
    assert compose(file).document.origins.root.written()["copy"] == expected


@pytest.mark.usefixtures("seen")
def test_a_default_is_a_reference_too(folder, monkeypatch):
    text = TEXT.replace("${oc.env:TOKEN}\n", "${oc.env:MISSING,none}\n")
    run = folder.train(text=text).folder
    assert 'token: "${oc.env:MISSING,none}"' in (run / "config.yaml").read_text()
    with pytest.raises(ConfigError, match="`NOTHING` is not set"):
        load(folder.write(TEXT.replace("${oc.env:TOKEN}\n", "${oc.env:NOTHING}\n")))


@pytest.fixture
def quoting(tmp_path, monkeypatch):
    """The config with secrets, in a file; and what a command prints about it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", SECRET)
    return tmp_path / "tiny.yaml"


def test_show_and_diff_print_references_unless_asked(quoting, capsys, monkeypatch):
    quoting.write_text(TINY + "init_from: ${oc.env:TOKEN}\n")
    assert main(["show", "tiny.yaml"]) == 0
    assert 'init_from: "${oc.env:TOKEN}"' in capsys.readouterr().out
    assert main(["show", "tiny.yaml", "--origin"]) == 0
    assert SECRET not in capsys.readouterr().out
    assert main(["show", "tiny.yaml", "--resolve"]) == 0
    assert f"init_from: {SECRET}" in capsys.readouterr().out
    for form in ("text", "json"):
        assert main(["diff", "tiny.yaml", "init_from='x ${oc.env:TOKEN}'", "--format", form]) == 0
        reported = capsys.readouterr().out
        assert "x ${oc.env:TOKEN}" in reported
        assert SECRET not in reported


@pytest.mark.parametrize(
    ("before", "after", "reported"),
    [
        ("epochs: 2", "epochs: '${oc.env:TOKEN}'", "an integer of at least 1, got the string `${oc.env:TOKEN}`"),
        ("lr: 0.01", "lr: '${oc.env:TOKEN}'", "`optimizer.lr` must be a number, got the string `${oc.env:TOKEN}`"),
        ("name: adamw", "name: '${oc.env:TOKEN}'", "unknown optimizer `${oc.env:TOKEN}`"),
        ("input: logits", "input: '${oc.env:TOKEN}'", "${oc.env:TOKEN}"),
        ("best: val/accuracy", "best: 'val/${oc.env:TOKEN}'", "unknown value `val/${oc.env:TOKEN}`"),
        ("optimizer:", "init_from: '${oc.env:TOKEN}.pt'\noptimizer:", "`${oc.env:TOKEN}.pt` does not exist"),
    ],
)  # fmt: skip
def test_errors_quote_the_reference(quoting, capsys, before, after, reported):
    quoting.write_text(TINY.replace(before, after, 1))
    for form in ("text", "json", "plain"):
        assert main(["check", "tiny.yaml", "--format", form]) == 2
        found = capsys.readouterr()
        assert reported in found.out + found.err
        assert SECRET not in found.out + found.err


def test_a_long_secret_is_not_quoted_in_part(quoting, capsys, monkeypatch):
    monkeypatch.setenv("TOKEN", "abcdefgh" * 20)
    quoting.write_text(TINY.replace("devices: cpu", "devices: '${oc.env:TOKEN}'"))
    assert main(["check", "tiny.yaml"]) == 2
    found = capsys.readouterr()
    assert "abcdefgh" not in found.out + found.err


def test_checkpoints_hold_the_reference(folder, monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    text = TINY.replace("  inputs:", "  params: {note: '${oc.env:TOKEN}'}\n  inputs:", 1)
    run = folder.train(text=text).folder
    assert holding(run, SECRET) == []
    assert {"best.safetensors", "report.html"} <= set(holding(run, "${oc.env:TOKEN}"))
    assert main(["report", str(run)]) == 0
    assert holding(run, SECRET) == []


NAMED = """
model:
  params: {name: "${oc.env:TOKEN}"}
  inputs: {x: [B, 8]}
  flow: {stem: "named(name=name)", head: "Linear(8, 4)"}
"""


@pytest.mark.parametrize("form", [".html", ".json", ".dot", ".mmd", ".txt"])
def test_pictures_show_the_reference(folder, form, monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setitem(registry.modules.registered, "named", Named)
    Path("named.yaml").write_text(NAMED.replace("model:\n", "").replace("\n  ", "\n").lstrip())
    assert main(["draw", "named.yaml", "-o", f"drawn{form}"]) == 0
    assert holding(folder.path, SECRET) == []
    assert f"drawn{form}" in holding(folder.path, "oc.env:TOKEN")
    if form in (".html", ".dot"):
        assert main(["diff", "named.yaml", "inputs.x=[B, 8, 8]", "-o", f"diff{form}"]) == 0
        assert f"diff{form}" in holding(folder.path, "oc.env:TOKEN")
        assert holding(folder.path, SECRET) == []


def test_pictures_of_a_run_show_the_reference(folder, monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setitem(registry.modules.registered, "named", Named)
    text = TINY.replace("  inputs:", "  params: {note: '${oc.env:TOKEN}'}\n  inputs:", 1)
    text = text.replace("  flow:\n", "  flow:\n    noted: named(name=note)\n", 1)
    run = folder.train(text=text).folder
    assert {"graph.dot", "report.html"} <= set(holding(run, "oc.env:TOKEN"))
    assert holding(run, SECRET) == []


class Named(torch.nn.Module):
    def __init__(self, name: str):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
