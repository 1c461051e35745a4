"""Fixes in place: what is marked changes, and nothing else does."""

from __future__ import annotations

from flowconf.cli.main import main
from flowconf.report import Diagnostic, Place, Suggestion
from flowconf.text.fixes import PACKAGE, apply

WRONG = """\
# a small graph   with  odd spacing
inputs: {image: [B, 64]}   # the first comment
flow:
  stem: Liner(64, 32, bais=false)      # the second
  act: {through: LayerNorm(32, eps=1e-5), frozn: true}
  logits:
    form: stm
    through: Linear(32, 10)
"""
RIGHT = """\
# a small graph   with  odd spacing
inputs: {image: [B, 64]}   # the first comment
flow:
  stem: Linear(64, 32, bias=false)      # the second
  act: {through: "LayerNorm(32, eps=1e-5)", frozen: true}
  logits:
    from: stem
    through: Linear(32, 10)
"""


def test_check_fix_mends_stage_after_stage(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "graph.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + WRONG.replace("\n", "\r\n").encode())
    assert main(["check", "graph.yaml"]) == 2
    assert main(["check", "graph.yaml", "--fix"]) == 0
    assert file.read_bytes() == b"\xef\xbb\xbf" + RIGHT.replace("\n", "\r\n").encode()
    reported = capsys.readouterr().err
    assert "fixed graph.yaml:4:9\n" in reported
    assert "fixed graph.yaml:7:11\n" in reported
    assert list(tmp_path.iterdir()) == [file]


def test_what_has_no_single_fix_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "graph.yaml"
    text = "inputs: {x: [B, 4]}\nflow:\n  a: Linear(5, 4)\n  b: Linear(zzz, 4)\n"
    file.write_text(text, encoding="utf-8")
    assert main(["check", "graph.yaml", "--fix"]) == 2
    assert file.read_text(encoding="utf-8") == text


def test_overlapping_fixes_are_not_mixed(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("abcdef\n", encoding="utf-8")
    found = [
        Diagnostic("FC0121", "m", advice=Suggestion(text, at=Place(str(file), 1, column, 3)))
        for column, text in ((1, "x"), (3, "y"), (4, "z"), (4, "z"))
    ]
    assert [place.column for place in apply(found)] == [1, 4]
    assert file.read_text(encoding="utf-8") == "xz\n"


def test_the_files_of_the_package_are_left_alone():
    file = PACKAGE / "configs" / "optimizer" / "adam.yaml"
    before = file.read_bytes()
    assert apply([Diagnostic("FC0121", "m", advice=Suggestion("x", at=Place(str(file), 1, 1, 3)))]) == []
    assert file.read_bytes() == before
