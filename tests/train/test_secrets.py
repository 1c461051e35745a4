"""What comes from the environment is used, and not written: the run's files and loggers have the reference."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    ((told, arguments),) = seen
    bearer = f"Bearer {SECRET}"
    assert arguments == [SECRET, bearer, bearer, bearer, 7, 320]
    assert holding(folder.path / "runs", SECRET) == []
    kept = told.config["loggers"]["spy"]
    assert kept == {
        "token": "${oc.env:TOKEN}",
        "header": "Bearer ${oc.env:TOKEN}",
        "again": "${loggers.spy.header}",
        "near": "${.again}",
        "number": 7,
        "plain": 320,
    }
    assert SECRET not in repr(told)
    text = (run / "config.yaml").read_text()
    assert 'token: "${oc.env:TOKEN}"' in text
    monkeypatch.setenv("TOKEN", "another")
    resume(str(run), ["trainer.epochs=3"], Screen(folder.said))
    assert seen[-1][1][:2] == ["another", "Bearer another"]
    assert 'token: "${oc.env:TOKEN}"' in (run / "config.yaml").read_text()
    assert holding(folder.path / "runs", "another") == []


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
