"""What the README and the pages in `docs/` show is true: every block is run, and every link leads somewhere.

The words after a block's language say what is done with it (CONTRIBUTING has the table). The blocks of a page run in
order, in one empty folder with a copy of `configs/`, so that a later block may use what an earlier one made.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import flowconf
from flowconf.cli.main import main
from flowconf.language import projects
from flowconf.language.registry import TABLES

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)?[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CHANGING = [
    (re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?"), "<time>"),
    (re.compile(r"-?\d+\.\d+(e[-+]\d+)?"), "<number>"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r"\s+$", re.MULTILINE), ""),
]
"""What may differ from one run to the next, or from one machine to the other."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the words after it, its text, and the line it begins at."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def file(self) -> str | None:
        return next((word for word in self.words if "." in word), None)


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(found[1] or "", tuple(found[2].split()), found[3], line)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(projects, "_trust", projects.Trust())
    yield tmp_path
    for module in [module for module in sys.modules.values() if is_below(tmp_path, module)]:
        forget(module.__name__)


def is_below(folder: Path, module: ModuleType) -> bool:
    return getattr(module, "__file__", None) is not None and Path(module.__file__).is_relative_to(folder)


def forget(module: str) -> None:
    """Remove a module that a page has made, and the names that it has registered."""
    del sys.modules[module]
    for table in TABLES.values():
        for name in [name for name, item in table.registered.items() if item.__module__ == module]:
            del table.registered[name]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
@pytest.mark.usefixtures("folder")
def test_what_a_page_shows_is_true(page):
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        where = f"{name_of(page)}:{block.line}"
        match block.language:
            case "yaml" | "toml":
                follow_document(block, where)
            case "python":
                follow_python(block, names, where)
            case "console":
                follow_console(block, where)
            case "text" | "sh":
                follow_text(block)
            case _:
                pytest.fail(f"{where}: expected one of the languages that CONTRIBUTING lists, got `{block.language}`")


def write(block: Block, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.text, encoding="utf-8")


def follow_document(block: Block, where: str) -> None:
    """Write it under its name, and check it unless it is a part or is there to be refused."""
    assert set(block.words) <= {block.file, "part", "refused"}, where
    if "part" in block.words:
        yaml.safe_load(block.text)
        return
    file = Path(block.file or f"example.{block.language}")
    if (ROOT / file).exists():
        assert yaml.safe_load(block.text) == yaml.safe_load((ROOT / file).read_text(encoding="utf-8")), where
    write(block, file)
    if "pivot" in file.parts:
        return
    project = next(folder for folder in file.parents if (folder / "pyproject.toml").exists())
    with contextlib.chdir(project):  # what a project registers is imported in it
        found = flowconf.check(file.relative_to(project))
    refused = any(diagnostic.severity == "error" for diagnostic in found)
    assert refused == ("refused" in block.words), f"{where}: {found}"


def follow_text(block: Block) -> None:
    """Write it under its name; without a name it is only shown."""
    if block.file is not None:
        write(block, Path(block.file))


def follow_python(block: Block, names: dict[str, object], where: str) -> None:
    """Write it under its name, or run it; a page's blocks share their names. What is only shown is parsed."""
    if block.file is not None:
        write(block, Path(block.file))
    elif block.words == ("shown",):
        ast.parse(block.text)
    else:
        assert block.words == (), where
        exec(compile("\n" * block.line + block.text, where, "exec"), names)


def follow_console(block: Block, where: str) -> None:
    """Run each `$ ` line, and compare what it prints with the lines below, in which `...` stands for anything."""
    assert block.words == (), where
    with contextlib.chdir("."):  # a `cd` lasts until the end of the block
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            printed = run(command)
            if expected.strip() and not fits(expected, printed):
                pytest.fail(f"{where}: `{command}` prints\n{printed}\nand the page says\n{expected}", pytrace=False)


def run(command: str) -> str:
    """What a command prints; `flowconf` runs in this process, which has imported torch already."""
    words = shlex.split(command, comments=True)
    if words[0] == "cd":
        os.chdir(words[1])
        return ""
    if words[0] != "flowconf":
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        main(words[1:])
    return printed.getvalue()


def fits(expected: str, printed: str) -> bool:
    for pattern, mark in CHANGING:
        expected, printed = pattern.sub(mark, expected), pattern.sub(mark, printed)
    pattern = ".*".join(re.escape(piece.strip()) for piece in expected.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    dead = [
        link
        for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
        if not link.startswith(("http", "#")) and not (page.parent / link.partition("#")[0]).exists()
    ]
    assert dead == []


def test_make_train_is_the_command_that_the_readme_says():
    """`make train` sets up an environment, so it is not run here; what it runs is."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\n\t$(BIN)/flowconf train configs/fbrl_word.yaml $(ARGS)\n" in makefile
    assert flowconf.check(ROOT / "configs" / "fbrl_word.yaml") == []


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a 0.5  b", "a 0.71 b\n", True),
        ("a\n...\nz", "a\nb\nc\nz", True),
        ("a ... z", "a b\nz", True),
        ("runs/x/2026-01-02_03-04-05", "runs/x/2027-11-12_13-14-15-2", True),
        ("a 1", "a 2", False),
        ("a", "a\nb", False),
    ],
)
def test_what_counts_as_the_same_output(expected, printed, same):
    assert fits(expected, printed) == same
