"""Single mistakes over the shipped configs: each gives one error, at the right place, in words that were read.

The mistakes are data, in the YAML files beside this one. An entry says which `config` is checked (with `words` on the
command line) after `old` in `file` (default: the config) has become `new`, and which `code` is expected. `place` is the
text that must be marked: itself, or what stands between « and » in it, where it first stands in the file `marked`
(default: the changed file) from the change on. Without `place` the words of the command line are at fault. A warning
has `severity: warning`.

`messages.txt` holds what is printed for each of them. `FLOWCONF_REWRITE=1` writes it again: read the difference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import pytest
import yaml

import flowconf
from flowconf.cli.main import main
from flowconf.report import CODES, Diagnostic, render_text

HERE = Path(__file__).parent
SHIPPED = HERE.parent.parent / "configs"
MESSAGES = HERE / "messages.txt"
REWRITE = "FLOWCONF_REWRITE"
HEADER = "What is printed for every mistake of this folder. Written by the tests; read by people.\n\n"
ELSEWHERE = {
    "FC0005", "FC0006", "FC0008",  # hostile texts, and a warning
    "FC0109",  # needs a project somewhere else
    "FC0146", "FC0148", "FC0208",  # reported of graphs in Python, by a forward pass, and by an export
}  # fmt: skip
"""Codes below the weights that are shown by other tests."""
THROUGH_TRAIN = (
    "typo in a trainer key",
    "a wrong size after flattening",
    "a stage that waits for itself",
    "a checkpoint's file that is not there",
    "everything is frozen",
    "a negative learning rate",
)


@dataclass(frozen=True)
class Mistake:
    """One entry of the files."""

    name: str
    code: str
    config: str
    file: str
    old: str | None = None
    new: str = ""
    place: str | None = None
    marked: str | None = None
    words: tuple[str, ...] = ()
    severity: str = "error"

    @property
    def command(self) -> list[str]:
        return [f"configs/{self.config}", *self.words]


@lru_cache
def corpus() -> tuple[Mistake, ...]:
    found = []
    for file in sorted(HERE.glob("*.yaml")):
        for name, entry in yaml.safe_load(file.read_text(encoding="utf-8")).items():
            given = {"file": entry["config"], **entry, "words": tuple(entry.get("words", ()))}
            assert set(given) <= {field.name for field in fields(Mistake)}, name
            found.append(Mistake(name, **given))
    return tuple(found)


def expected_place(mistake: Mistake, folder: Path) -> tuple[str | None, int, int, int]:
    """File, line, column and length that must be marked."""
    marked = mistake.marked or mistake.file
    name = str(folder / "configs" / marked)
    if mistake.place is None:
        return (name, 0, 0, 1) if mistake.marked else (None, 0, 0, 1)
    text = (folder / "configs" / marked).read_text(encoding="utf-8")
    bare = mistake.place.replace("«", "").replace("»", "")
    changed = text.find(mistake.new) if marked == mistake.file and mistake.new else 0
    start = text.find(bare, changed)
    start = text.find(bare) if start < 0 else start
    assert start >= 0, f"`{bare}` is not in {marked}"
    begin = start + max(mistake.place.find("«"), 0)
    end = start + mistake.place.find("»") - 1 if "»" in mistake.place else start + len(bare)
    return name, text.count("\n", 0, begin) + 1, begin - text.rfind("\n", 0, begin), max(end - begin, 1)


def make(mistake: Mistake, folder: Path) -> None:
    """The configs with the mistake in them."""
    configs = folder / "configs"
    shutil.copytree(SHIPPED, configs)
    project = (SHIPPED.parent / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        project.replace("packages = [", 'packages = ["shelf", "absent_models", '), encoding="utf-8"
    )
    shutil.copytree(HERE / "base", configs, dirs_exist_ok=True)
    if mistake.old is not None:
        file = configs / mistake.file
        text = file.read_text(encoding="utf-8")
        assert mistake.old in text, f"`{mistake.old}` is not in {mistake.file}"
        file.write_text(text.replace(mistake.old, mistake.new, 1), encoding="utf-8")


def found_in(mistake: Mistake, folder: Path) -> list[Diagnostic]:
    make(mistake, folder)
    return flowconf.check(f"configs/{mistake.config}", list(mistake.words))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE.parent / "packages"))
    return tmp_path


@lru_cache
def messages() -> dict[str, str]:
    """The text of each mistake that was read by people."""
    sections = MESSAGES.read_text(encoding="utf-8").removeprefix(HEADER).split("=== ")[1:]
    return {name: text.rstrip("\n") for name, _, text in (section.partition("\n") for section in sections)}


def rewrite(printed: dict[str, str]) -> None:
    """Write the file again with what is printed now, in the order of the mistakes."""
    known = {**messages(), **printed}
    texts = {mistake.name: known.get(mistake.name, "") for mistake in corpus()}
    messages.cache_clear()
    MESSAGES.write_text(HEADER + "".join(f"=== {name}\n{text}\n\n" for name, text in texts.items()), encoding="utf-8")


@pytest.mark.parametrize("mistake", corpus(), ids=lambda mistake: mistake.name)
def test_one_error_at_the_right_place(mistake, folder):
    found = found_in(mistake, folder)
    shown = render_text(found)
    printed = shown.replace(str(folder), "/home/me").replace(str(HERE.parent), "/home/me/tests")
    if os.environ.get(REWRITE):
        rewrite({mistake.name: printed})
    assert len(found) == 1, shown
    (reported,) = found
    assert (reported.severity, reported.code) == (mistake.severity, mistake.code), shown
    place = reported.place
    assert (place.file, place.line, place.column, place.length) == expected_place(mistake, folder), shown
    if place.file is None:
        assert place.word in mistake.words
    assert printed == messages().get(mistake.name), f"{REWRITE}=1 writes it again"


def test_no_message_is_left_of_a_mistake_that_was_removed():
    if os.environ.get(REWRITE):
        rewrite({})
    assert list(messages()) == [mistake.name for mistake in corpus()]


def test_the_corpus_is_large_and_covers_what_a_file_can_get_wrong():
    names = [mistake.name for mistake in corpus()]
    assert len(set(names)) == len(names) >= 300
    shown = {mistake.code for mistake in corpus()}
    assert {code for code in CODES if code < "FC0300"} - shown <= ELSEWHERE


@pytest.mark.parametrize("name", THROUGH_TRAIN)
def test_training_refuses_with_exit_code_2_and_makes_nothing(name, folder):
    (mistake,) = (mistake for mistake in corpus() if mistake.name == name)
    make(mistake, folder)
    command = [sys.executable, "-m", "flowconf", "train", *mistake.command]
    environment = {**os.environ, "PYTHONPATH": str(SHIPPED.parent), "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error[") == 1
    assert f"error[{mistake.code}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert {entry.name for entry in folder.iterdir()} == {"configs", "pyproject.toml"}


@pytest.mark.parametrize("command", ["check", "train", "summary", "draw", "show"])
def test_every_command_tells_the_same(command, folder, capsys):
    (mistake,) = (mistake for mistake in corpus() if mistake.name == "an override inside a mounted graph")
    make(mistake, folder)
    assert main([command, *mistake.command]) == 2
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("error[FC0102]") == 1
