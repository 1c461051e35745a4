"""The exact texts that the renderers give, since people and programs read them."""

from __future__ import annotations

import json
import pickle

import pytest

from flowconf.report import (
    CODES,
    Available,
    ConfigError,
    Diagnostic,
    Label,
    MachineError,
    PathError,
    Place,
    Reporter,
    RunError,
    StepError,
    Suggestion,
    nearest,
    render_github,
    render_json,
    render_plain,
    render_text,
    suggest,
    wants_colour,
)

READER = """\
model:
  inputs: {image: [B, 784]}
  flow:
    encoder: Linear(784, 192)
    hidden: GELU
    norm: LayerNorm(192)
    extra: Dropout(0.1)
    proj: Linear(256, 64)
"""


@pytest.fixture
def reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "configs" / "reader.yaml"
    file.parent.mkdir()
    file.write_text(READER, encoding="utf-8")
    return str(file)


@pytest.fixture
def mismatch(reader):
    return Diagnostic(
        "FC0201",
        "`proj` expects 256 features, but `encoder` gives 192",
        Place(reader, 8, 11, 15),
        path="proj",
        labels=(Label("gives [B, 192]", Place(reader, 4, 14, 16)),),
        advice=Suggestion("192", instead_of="256", at=Place(reader, 8, 18, 3)),
    )


def test_text_draws_both_parties(mismatch):
    assert render_text([mismatch]) == (
        "error[FC0201]: `proj` expects 256 features, but `encoder` gives 192\n"
        " --> configs/reader.yaml:8:11\n"
        "  |\n"
        "4 |     encoder: Linear(784, 192)\n"
        "  |              ---------------- gives [B, 192]\n"
        "  :\n"
        "8 |     proj: Linear(256, 64)\n"
        "  |           ^^^^^^^^^^^^^^^\n"
        "  = help: write `192`"
    )


def test_text_draws_neighbouring_lines_without_a_gap_and_two_marks_on_one_line(reader):
    found = Diagnostic(
        "FC0142",
        "`hidden` is used twice",
        Place(reader, 5, 5, 6),
        labels=(Label("this one", Place(reader, 5, 13, 4)), Label("and this", Place(reader, 4, 5, 7))),
    )
    assert render_text([found]) == (
        "error[FC0142]: `hidden` is used twice\n"
        " --> configs/reader.yaml:5:5\n"
        "  |\n"
        "4 |     encoder: Linear(784, 192)\n"
        "  |     ------- and this\n"
        "5 |     hidden: GELU\n"
        "  |     ^^^^^^\n"
        "  |             ---- this one"
    )


def test_text_shows_the_other_file_of_a_mistake(reader, tmp_path):
    other = tmp_path / "pivot.yaml"
    other.write_text("model: {flow: {proj: null}}\n", encoding="utf-8")
    found = Diagnostic(
        "FC0141",
        "there is no `proj` here",
        Place(reader, 8, 5, 4),
        labels=(Label("removed here", Place(str(other), 1, 16, 4)),),
    )
    assert render_text([found]) == (
        "error[FC0141]: there is no `proj` here\n"
        " --> configs/reader.yaml:8:5\n"
        "  |\n"
        "8 |     proj: Linear(256, 64)\n"
        "  |     ^^^^\n"
        " ::: pivot.yaml:1:16\n"
        "  |\n"
        "1 | model: {flow: {proj: null}}\n"
        "  |                ---- removed here"
    )


def test_text_of_a_mistake_on_the_command_line(reader):
    found = Diagnostic(
        "FC0102",
        "there is no `model.flow.prj`",
        Place(word="model.flow.prj=null"),
        labels=(Label("the flow is here", Place(reader, 3, 3, 4)),),
        advice="write `model.flow.proj`",
    )
    assert render_text([found]) == (
        "error[FC0102]: there is no `model.flow.prj`\n"
        " --> command line, `model.flow.prj=null`\n"
        " ::: configs/reader.yaml:3:3\n"
        "  |\n"
        "3 |   flow:\n"
        "  |   ---- the flow is here\n"
        "  = help: write `model.flow.proj`"
    )


def test_text_of_a_mistake_that_was_partly_typed(reader):
    found = Diagnostic(
        "FC0123",
        "`lr` must be a number, got the text `1e-4x`",
        Place(reader, 2, 3, 6),
        labels=(Label("replaced", Place(word="lr=1e-4x")),),
    )
    assert render_text([found]).splitlines()[-1] == "  = note: replaced (command line, `lr=1e-4x`)"


def test_text_without_a_place_or_without_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert render_text([Diagnostic("FC0702", "the run failed")]) == "error[FC0702]: the run failed"
    assert render_text([Diagnostic("FC0001", "there is no such file", Place("gone.yaml"))]) == (
        "error[FC0001]: there is no such file\n --> gone.yaml"
    )
    found = Diagnostic(
        "FC0121", "unknown key `a`", Place("notebook", 3, 4), labels=(Label("here", Place("cell", 1, 2)),)
    )
    assert render_text([found]) == ("error[FC0121]: unknown key `a`\n --> notebook:3:4\n  = note: here (cell:1:2)")


def test_text_ends_the_mark_where_the_line_ends(reader):
    found = Diagnostic("FC0124", "no verb", Place(reader, 3, 3, 400))
    assert render_text([found]).splitlines()[-1] == "  |   ^^^^^"


def test_text_in_colour_says_the_same(mismatch):
    import re

    coloured = render_text([mismatch], colour=True)
    assert coloured.startswith("\x1b[1;31merror[FC0201]\x1b[0m: ")
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render_text([mismatch])


def test_several_are_reported_with_a_line_between(mismatch):
    assert render_text([mismatch, mismatch]).count("\n\n") == 1
    assert render_text([]) == ""


def test_plain(mismatch):
    assert render_plain([mismatch]) == (
        "configs/reader.yaml:8:11: error FC0201: `proj` expects 256 features, but `encoder` gives 192\n"
        "  configs/reader.yaml:4:14: gives [B, 192]\n"
        "  help: write `192`\n"
    )


def test_json_is_one_object_a_line(mismatch):
    lines = render_json([mismatch, Diagnostic("FC0103", "no override", Place(word="a b"), severity="warning")])
    first, second = (json.loads(line) for line in lines.splitlines())
    assert first == {
        "code": "FC0201",
        "severity": "error",
        "message": "`proj` expects 256 features, but `encoder` gives 192",
        "file": "configs/reader.yaml",
        "line": 8,
        "column": 11,
        "path": "proj",
        "labels": [{"message": "gives [B, 192]", "file": "configs/reader.yaml", "line": 4, "column": 14}],
        "help": "write `192`",
        "fix": {"file": "configs/reader.yaml", "line": 8, "column": 18, "length": 3, "text": "192"},
    }
    assert (second["file"], second["line"], second["fix"], second["severity"]) == (None, None, None, "warning")
    assert second["message"] == "no override (on the command line: a b)"


def test_github(mismatch):
    assert render_github([mismatch]) == (
        "::error file=configs/reader.yaml,line=8,col=11::"
        "FC0201: `proj` expects 256 features, but `encoder` gives 192; write `192`\n"
    )
    typed = Diagnostic("FC0103", "100 %\nwrong", Place(word="a=b"), severity="warning")
    assert render_github([typed]) == "::warning::FC0103: 100 %25\\nwrong (on the command line: a=b)\n"
    odd = Diagnostic("FC0002", "not YAML", Place("a,b:c.yaml", 1, 1))
    assert render_github([odd]) == "::error file=a%2Cb%3Ac.yaml,line=1,col=1::FC0002: not YAML\n"


@pytest.mark.parametrize(
    ("kind", "code"), [(ConfigError, 2), (PathError, 2), (StepError, 1), (RunError, 1), (MachineError, 3)]
)
def test_errors_carry_their_diagnostics(kind, code, mismatch):
    error = kind(mismatch)
    assert error.exit_code == code
    assert isinstance(error, ValueError)
    assert str(error) == render_text([mismatch])
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.diagnostics) == (kind, (mismatch,))


def test_a_reporter_tells_everything_once(mismatch):
    found = Reporter()
    found.warn("FC0304", "one tensor is not used")
    found.stop_on_errors()
    found.error("FC0121", "unknown key `a`")
    found.error("FC0121", "unknown key `a`")
    with pytest.raises(ConfigError) as caught:
        found.stop_on_errors()
    assert [(d.severity, d.message) for d in caught.value.diagnostics] == [
        ("warning", "one tensor is not used"),
        ("error", "unknown key `a`"),
    ]


def test_only_known_codes_are_used():
    with pytest.raises(AssertionError):
        Diagnostic("FC9999", "no such code")
    assert all(len(code) == 6 and text[0].islower() for code, text in CODES.items())


def test_suggestions():
    assert nearest("linear", ["Linear", "Bilinear"]) == "Linear"
    assert nearest("zzz", ["Linear"]) is None
    listed = Available("names", ("frozen", "from"))
    assert str(listed) == "available names: `frozen`, `from`"
    assert suggest("frozn", ["frozen", "from"]) == Suggestion("frozen", instead_of="frozn", otherwise=listed)
    assert suggest("cosine_restarts", ["constant", "steps"]) == Available("names", ("constant", "steps"))
    several = suggest("hiden", ["hidden", "hide"])
    assert [each.write for each in several.candidates()] == ["hidden", "hide"]
    many = suggest("zzz", [f"m{n}" for n in range(14)], "modules", most=2)
    assert str(many) == "available modules: `m0`, `m1` and 12 more"
    assert suggest("zzz", []) is None
    assert suggest("f1", ["val/loss", "val/f1"]) == Suggestion("val/f1", instead_of="f1")
    assert suggest("f1", ["val/f1", "test/f1", "seed"]) == Available("names", ("val/f1", "test/f1"))


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    assert not wants_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    assert wants_colour(Terminal())
    assert not wants_colour(object())
    monkeypatch.setenv("NO_COLOR", "")
    assert wants_colour(Terminal())


def test_a_file_name_does_nothing_to_a_terminal():
    assert str(Place("a\x1b[31m\0.yaml", 1, 2)) == "a\\x1b[31m\\x00.yaml:1:2"
