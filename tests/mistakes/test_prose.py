"""Messages and help texts are for people: whatever they say, the same places are marked and the same fixes are made."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from flowconf.cli.main import main
from flowconf.language import references
from flowconf.report import Diagnostic, diagnostic, suggestion
from tests.mistakes.test_mistakes import Mistake, corpus, found_in, make

WORDS = ("write", "nothing", "here", "`x`", "`frozen`", "stands", "and here", "the", "must be", "`Linear(1, 2)`")


@pytest.fixture
def scrambled(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every message, help text and label say something at random; equal texts stay equal."""

    def scramble() -> None:
        def prose(text: str) -> str:
            chance = random.Random(text)
            return " ".join(chance.choices(WORDS, k=4)) + str(chance.random())

        initial = references.NotFound.__init__

        def not_found(self: references.NotFound, message: str, *more: object, **named: object) -> None:
            initial(self, prose(message), *more, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(diagnostic, "printable", prose)
        monkeypatch.setattr(suggestion, "printable", prose)
        monkeypatch.setattr(references.NotFound, "__init__", not_found)

    return scramble


def substance(found: list[Diagnostic]) -> list[object]:
    """What programs read of diagnostics."""
    return [(d.code, d.severity, d.place, d.path, d.fix, [label.place for label in d.labels]) for d in found]


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(mistake, id=mistake.name, marks=[] if number % 8 == 0 else pytest.mark.slow)
        for number, mistake in enumerate(corpus())
    ],
)
def test_no_code_reads_prose(
    mistake: Mistake, scrambled: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = found_in(mistake, tmp_path)
    scrambled()
    import flowconf

    found = flowconf.check(f"configs/{mistake.config}", list(mistake.words))
    assert substance(found) == substance(said)
    assert all(one.message != other.message for one, other in zip(found, said, strict=True))


def test_fixes_do_not_depend_on_words(
    scrambled: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (mistake,) = (mistake for mistake in corpus() if mistake.name == "typo in a trainer key")
    make(mistake, tmp_path)
    scrambled()
    assert main(["check", f"configs/{mistake.config}", "--fix"]) == 0
