"""Advice that was tried: what a help text says to write leads to no error at its place.

Every golden mistake, and slips made by rule, are mended by the suggestion that is given for them, and checked again.
Nothing here knows how suggestions are tried.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowconf.report import Diagnostic, FlowconfError, Suggestion, render_text
from flowconf.train.checks import road
from tests.mistakes.test_mistakes import Mistake, corpus, make
from tests.mistakes.test_mutations import CONFIGS, OPERATORS, Slip
from tests.mistakes.test_mutations import folder as slips_folder

folder = slips_folder
SAMPLE = 6
"""The number of slips of each operator that are mended when not all are."""


def errors(config: str, words: list[str], last: str = road.BEFORE_TORCH) -> tuple[list[Diagnostic], str]:
    """The errors, and the stage that found them."""
    walk = None
    try:
        walk = road.begin(config, words)
        walk.to(last)
    except FlowconfError as error:
        found = [one for one in error.diagnostics if one.severity == "error"]
        return found, road.STAGES[walk.position - 1].name if walk is not None else road.BEFORE_TORCH
    return [], last


def mended(reported: Diagnostic, words: list[str]) -> list[str] | None:
    """The words of the command line after the suggestion was made in its file or word; None if it is not an edit."""
    if reported.better_word is not None and reported.place.word in words:
        return [reported.better_word if word == reported.place.word else word for word in words]
    fix = reported.fix
    if fix is None or fix.place.file is None:
        return None
    file = Path(fix.place.file)
    lines = file.read_text(encoding="utf-8").split("\n")
    line, start = lines[fix.place.line - 1], fix.place.column - 1
    lines[fix.place.line - 1] = line[:start] + fix.text + line[start + fix.place.length :]
    file.write_text("\n".join(lines), encoding="utf-8")
    return words


def wrong_advice(config: str, words: list[str]) -> str | None:
    """What is wrong with the first suggestion for a config: the errors at its place once it was followed."""
    found, stage = errors(config, words, road.END)
    given = next((one for one in found if isinstance(one.advice, Suggestion)), None)
    after = None if given is None else mended(given, words)
    if given is None or after is None:
        return None
    last = stage if stage in (one.name for one in road.STAGES if one.torch) else road.BEFORE_TORCH
    left, _ = errors(config, after, last)
    place, new = given.place, given.better_word
    before = {(one.code, one.message) for one in found if one is not given}
    here = [
        one
        for one in left
        if (one.code, one.message) not in before
        and ((one.place.file, one.place.line) == (place.file, place.line) if place.line else one.place.word == new)
        and (one.path in ("", given.path) or not place.line or one.place.column <= place.column + place.length)
    ]
    return f"{render_text([given])}\n\nleads to\n\n{render_text(here)}" if here else None


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(mistake, id=mistake.name, marks=[] if number % 6 == 0 else pytest.mark.slow)
        for number, mistake in enumerate(corpus())
    ],
)
def test_advice_leads_to_no_error_at_its_place(
    mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(mistake, tmp_path)
    wrong = wrong_advice(f"configs/{mistake.config}", list(mistake.words))
    assert wrong is None, wrong


def mends_slips(operator: Callable[[str], Iterator[Slip]], most: int | None) -> None:
    slips = [(config, slip) for config in CONFIGS for slip in operator(Path(config).read_text(encoding="utf-8"))]
    failures = []
    for config, slip in slips if most is None else random.Random(2).sample(slips, min(most, len(slips))):
        written = {file: file.read_text(encoding="utf-8") for file in [Path(config)]}
        Path(config).write_text(slip.text, encoding="utf-8")
        failures += [wrong for wrong in [wrong_advice(config, [])] if wrong is not None]
        for file, text in written.items():
            file.write_text(text, encoding="utf-8")
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_advice_for_a_slip_leads_to_no_error_at_its_place(operator, folder):
    mends_slips(operator, SAMPLE)


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_advice_for_every_slip_leads_to_no_error_at_its_place(operator, folder):
    mends_slips(operator, None)
