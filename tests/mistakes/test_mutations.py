"""Slips made by rule over the shipped configs: each gives one error, and marks the word that was changed.

An operator takes a text and gives changed texts, with the offset at which a person would point. Nothing here knows what
the checks look for. A few slips mean something else that is right, or could be mended at two places: a rate is held.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import flowconf
from flowconf.report import Diagnostic, render_text
from tests.mistakes.test_mistakes import HERE, SHIPPED

CONFIGS = (
    "configs/digits.yaml",
    "configs/fbrl_letter.yaml",
    "configs/fbrl_word.yaml",
    "configs/verbs.yaml",
    "models/gpt_nano.yaml",
    "models/resnet20.yaml",
    "models/gru_seq.yaml",
)
SEEN_OUTSIDE = {"label", "tag", "defaults"}
"""Keys whose values may be any name, or are looked up in folders."""
RATE = 0.95
SAMPLE = 12
"""So many slips of each operator are tried when not all of them are."""


@dataclass(frozen=True)
class Slip:
    """A changed text, and where the mark may begin: the first sign of a word, or anywhere in a line."""

    text: str
    offsets: tuple[int, ...]
    whole_line: bool = False

    def is_marked_by(self, reported: Diagnostic) -> bool:
        spots = [(self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)) for at in self.offsets]
        if self.whole_line:
            return reported.place.line in [line for line, _ in spots]
        return (reported.place.line, reported.place.column) in spots


Path_ = tuple[str | int, ...]


def nodes(text: str) -> Iterator[tuple[Path_, yaml.Node | None, yaml.Node]]:
    """Path, key and value of everything in a document."""

    def below(node: yaml.Node, path: Path_) -> Iterator[tuple[Path_, yaml.Node | None, yaml.Node]]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield (*path, key.value), key, value
                yield from below(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield (*path, index), None, value
                yield from below(value, (*path, index))

    yield from below(yaml.compose(text, Loader=yaml.SafeLoader), ())


def doubled(text: str, start: int, end: int) -> str:
    """A letter of the word that stands there twice, as a hand writes it."""
    middle = (start + end) // 2
    return f"{text[:middle]}{text[middle]}{text[middle:]}"


def keys(text: str) -> Iterator[Slip]:
    """Keys of the language with a letter too many."""
    free = ("flow", "params", "inputs", "outputs", "loss", "metrics", "split", "gate", "switch", "using", "defaults")
    for path, key, _ in nodes(text):
        owner = path[-2] if len(path) > 1 else None
        if key is not None and owner not in free:
            yield Slip(doubled(text, key.start_mark.index, key.end_mark.index), (key.start_mark.index,))


def names(text: str) -> Iterator[Slip]:
    """Names in values with a letter too many; of a reference with dots, its beginning may be marked as well."""
    for path, _, value in nodes(text):
        if SEEN_OUTSIDE & set(path) or value.tag != "tag:yaml.org,2002:str" or value.value.endswith(".yaml"):
            continue
        begin, end = value.start_mark.index, value.end_mark.index
        for word in re.finditer(r"[A-Za-z_]{3,}\w*", text[begin:end]):
            at = begin + word.start()
            yield Slip(doubled(text, at, begin + word.end()), (at, begin))


def definitions(text: str) -> Iterator[Slip]:
    """Parameters with a letter too many that several places use."""
    for path, key, _ in nodes(text):
        if key is not None and len(path) > 1 and path[-2] == "params":
            uses = len(re.findall(rf"(?<![\w.]){key.value}(?!\w)(?!:)", text))
            if uses > 1:
                yield Slip(doubled(text, key.start_mark.index, key.end_mark.index), (key.start_mark.index,))


def lines(text: str, change: Callable[[str], str | None]) -> Iterator[Slip]:
    """The text with each line changed in turn, where that makes another document of it, or none."""
    start, meant = 0, yaml.safe_load(text)
    for line in text.split("\n"):
        new = None if not line.strip() or line.lstrip().startswith("#") else change(line)
        if new is not None and new != line:
            changed = text[:start] + new + text[start + len(line) :]
            if _read(changed) != meant:
                yield Slip(changed, (start,), whole_line=True)
        start += len(line) + 1


def _read(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def deeper(text: str) -> Iterator[Slip]:
    """Lines that are indented by a space too much."""
    return lines(text, lambda line: f" {line}")


def shallower(text: str) -> Iterator[Slip]:
    """Lines that are indented by a space too little."""
    return lines(text, lambda line: line[1:] if line.startswith(" ") else None)


def without_colon(text: str) -> Iterator[Slip]:
    """Keys without their colon."""
    return lines(text, lambda line: re.sub(r"^([ \w.]+):", r"\1", line))


def without_space(text: str) -> Iterator[Slip]:
    """Keys whose value follows the colon at once."""
    return lines(text, lambda line: re.sub(r"^([ \w.]+): ", r"\1:", line))


def unclosed(text: str) -> Iterator[Slip]:
    """Lines whose last bracket or parenthesis is missing."""
    return lines(text, lambda line: line.rstrip()[:-1] if line.rstrip().endswith((")", "]", "}")) else None)


def unopened(text: str) -> Iterator[Slip]:
    """Lines whose first bracket or parenthesis is missing."""
    return lines(text, lambda line: re.sub(r"^([^#]*?)[(\[{]", r"\1", line, count=1))


OPERATORS = (keys, names, definitions, deeper, shallower, without_colon, without_space, unclosed, unopened)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copytree(SHIPPED, tmp_path / "configs")
    shutil.copy(SHIPPED.parent / "pyproject.toml", tmp_path)
    shutil.copytree(SHIPPED.parent / "benchmarks" / "models", tmp_path / "models")
    shutil.copy(HERE / "base" / "verbs.yaml", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wrong(config: str, slip: Slip) -> str | None:
    """What is reported of the config with the slip in it, where that is not one error at the right place."""
    file = Path(config)
    written = file.read_text(encoding="utf-8")
    file.write_text(slip.text, encoding="utf-8")
    errors = [reported for reported in flowconf.check(config) if reported.severity == "error"]
    shown = render_text(errors)
    file.write_text(written, encoding="utf-8")
    return None if len(errors) == 1 and slip.is_marked_by(errors[0]) else f"{config}: {slip.offsets}\n{shown}"


def held(operator: Callable[[str], Iterator[Slip]], most: int | None) -> None:
    slips = [(config, slip) for config in CONFIGS for slip in operator(Path(config).read_text(encoding="utf-8"))]
    if most is not None:
        slips = random.Random(0).sample(slips, min(most, len(slips)))
    failures = [reported for config, slip in slips if (reported := wrong(config, slip)) is not None]
    assert len(failures) <= (1 - RATE) * len(slips), "\n\n".join(failures)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_a_slip_is_reported_once_where_it_was_made(operator, folder):
    held(operator, SAMPLE)


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_every_slip_is_reported_once_where_it_was_made(operator, folder):
    held(operator, None)
