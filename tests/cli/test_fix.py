"""`flowconf check --fix`: names that have one right spelling are fixed in place, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowconf.cli.main import main

WRONG = """\
# a graph with five slips of the pen
label: small   # its name
params: {width: 4}
inputs: {image: [B, widht]}
flow:
  stem: Linaer(width, width)   # the first
  next: {thruogh: GELU}
  head:
    through: "Linear(width, out_feature=2)"
    frozn: true
"""
RIGHT = (
    WRONG.replace("widht", "width")
    .replace("Linaer", "Linear")
    .replace("thruogh", "through")
    .replace("out_feature=", "out_features=")
    .replace("frozn", "frozen")
)


def test_every_slip_is_mended_and_comments_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(WRONG)
    assert main(["check", str(file), "--fix"]) == 0
    assert file.read_text() == RIGHT
    assert sum(line.startswith("fixed ") for line in capsys.readouterr().err.splitlines()) == 5


def test_line_ends_stay(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    file.write_bytes(WRONG.replace("\n", "\r\n").encode())
    assert main(["check", str(file), "--fix"]) == 0
    assert file.read_bytes() == RIGHT.replace("\n", "\r\n").encode()


def test_what_has_no_one_spelling_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    text = "inputs: {x: [B, 4]}\nflow:\n  a: Linear(5, 4)\n"
    file.write_text(text)
    assert main(["check", str(file), "--fix"]) == 2
    assert file.read_text() == text


def test_without_the_option_nothing_is_written(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(WRONG)
    assert main(["check", str(file)]) == 2
    assert file.read_text() == WRONG


@pytest.mark.parametrize("written", ["MSELoss", "BCEWithLogitsLoss", "KLDivLoss", "binary_crossentropy"])
def test_the_name_is_mended_but_the_objective_is_only_proposed(tmp_path: Path, capsys, written: str) -> None:
    file = tmp_path / "config.yaml"
    text = (
        "model: {inputs: {image: [B, 8]}, flow: {logits: 'Linear(8, 4)'}}\n"
        "data: {name: synthetic, shape: [8], classes: 4}\n"
        f"loss: {{label: {{fn: {written}, input: logits, target: label}}}}\n"
    )
    file.write_text(text)
    assert main(["check", str(file), "--fix"]) == 2
    assert "fn: cross_entropy" not in file.read_text()
    assert file.read_text() != text
    assert "help: write `cross_entropy`" in capsys.readouterr().out
