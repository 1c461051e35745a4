"""Every code has a page in `docs/errors`, and every page is true: wrong files give that output, fixed ones none.

`FLOWCONF_REWRITE=1` writes the outputs anew: read the difference.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowconf.cli.main import main
from flowconf.report import CODES, FlowconfError

PAGES = Path(__file__).parent.parent.parent / "docs" / "errors"
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REWRITE = "FLOWCONF_REWRITE"
WARNINGS = {
    "FC0008",
    "FC0107",
    "FC0109",
    "FC0149",
    "FC0407",
    "FC0408",
    "FC0409",
    "FC0410",
    "FC0411",
    "FC0412",
    "FC0413",
    "FC0504",
}
"""Codes that do not stop anything."""


@dataclass
class Block:
    """A fenced block: its language, the file that it is, and its text."""

    language: str
    file: str | None
    text: str


def blocks(text: str) -> list[Block]:
    return [Block(*found.groups()) for found in FENCE.finditer(text)]


def write(found: list[Block]) -> None:
    for block in found:
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")


def checked(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """What a line `$ flowconf ...` prints."""
    code = main(shlex.split(command)[1:])
    return code, capsys.readouterr().out


def ran(program: str) -> str:
    """What a Python block is refused with; empty where it runs."""
    try:
        exec(compile(program, "<page>", "exec"), {"__name__": "page"})
    except FlowconfError as error:
        return f"{error}\n"
    return ""


@pytest.mark.parametrize("code", CODES)
def test_a_page_is_true(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = PAGES / f"{code}.md"
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {code}: {CODES[code]}\n")
    before, fixed = (blocks(part) for part in text.split("\nFixed:\n"))
    write(before)
    output = before[-1]
    if output.language == "console":
        command = output.text.splitlines()[0].removeprefix("$ ")
        assert all(ran(block.text) == "" for block in before if block.language == "python")
        exit_code, printed = checked(command, capsys)
        shown = f"$ {command}\n{printed.rstrip()}\n"
        assert exit_code == (0 if code in WARNINGS else 2)
    else:
        command, program = None, next(block.text for block in before if block.language == "python")
        shown = printed = ran(program)
    shown = re.sub(r"\b(?!0{64})[0-9a-f]{64}\b", "<its digest>", shown.replace(f"{tmp_path}/", "/home/me/"))
    assert printed.count(f"[{code}]") == 1, printed
    assert len(re.findall(r"(?:error|warning)\[", printed)) == 1, printed
    if os.environ.get(REWRITE):
        page.write_text(
            text.replace(f"```{output.language}\n{output.text}", f"```{output.language}\n{shown}", 1),
            encoding="utf-8",
        )
    else:
        assert shown == output.text
    write(fixed)
    again = next((block.text for block in fixed if block.language == "console"), f"$ {command}")
    if command is not None:
        assert checked(again.strip().removeprefix("$ "), capsys) == (0, "")
    else:
        assert ran(next(block.text for block in fixed if block.language == "python")) == ""


def test_explain_prints_the_page(capsys):
    assert main(["explain", "fc0201"]) == 0
    assert capsys.readouterr().out == (PAGES / "FC0201.md").read_text(encoding="utf-8")
    assert main(["explain", "0201"]) == 0
    capsys.readouterr()
    assert main(["explain"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CODES)
    assert main(["explain", "FC9999"]) == 2
    assert "FC9999" in capsys.readouterr().err


def test_there_is_no_page_without_a_code():
    assert {page.stem for page in PAGES.glob("FC*.md")} == set(CODES)
