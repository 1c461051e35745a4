"""The trial of suggestions: before a help text is given, the config with it is checked.

Nothing is written: files have the suggested texts only while they are checked. All suggestions are tried together, as
`check --fix` applies them. One that leads to another error at its place is replaced by its next candidate, and is not
given if there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from flowconf.report import Diagnostic, Fix, FlowconfError, Place, Suggestion
from flowconf.text.fixes import mended
from flowconf.text.source import edited

E = TypeVar("E", bound=FlowconfError)
Line = tuple[str | None, int, str | None]
Check = Callable[[Sequence[str]], Iterable[Diagnostic]]
"""Gives the errors of a config with these words of the command line."""

ROUNDS = 3
"""The maximum number of checks for one choice of candidates: a suggestion may uncover other mistakes in its line."""
MOST = 12
"""The maximum number of checks for all of them."""
EFFORT = 500_000
"""The maximum number of characters of all these checks together, unless the first one has more."""

_is_running: ContextVar[bool] = ContextVar("running", default=False)


def tried(error: E, words: Sequence[str], file: str | None, check: Check) -> E:
    """The same error with the advice that holds; `file` is the config. Within a trial, nothing is tried."""
    trial = _Trial(error.diagnostics, tuple(words), check, _size(error, file))
    if _is_running.get() or not trial.candidates:
        return error
    running = _is_running.set(True)
    try:
        better = type(error)(*trial.given())
    finally:
        _is_running.reset(running)
    better.unchecked = error.unchecked
    return better.with_traceback(error.__traceback__)


def _size(error: FlowconfError, file: str | None) -> int:
    """The number of bytes of the config and of the files with errors."""
    size = 0
    for one in {file, *(found.place.file for found in error.diagnostics)}:
        with suppress(OSError, ValueError):
            size += 0 if one is None else Path(one).stat().st_size
    return size


@dataclass(frozen=True)
class _EditedConfig:
    """A config with changes: its words of the command line, and the texts of files that were changed."""

    words: tuple[str, ...]
    texts: dict[str, str] = field(default_factory=dict)

    def applies(self, found: Diagnostic) -> bool:
        """Whether the advice of an error is an edit of this config."""
        return found.severity == "error" and (
            found.fix is not None or (found.place.word in self.words and found.better_word is not None)
        )

    def with_advice(self, found: Iterable[Diagnostic]) -> _EditedConfig:
        """The state after the advice of all of these errors."""
        applied = [one for one in found if self.applies(one)]
        with edited(self.texts):
            texts = mended(fix for one in applied if (fix := one.fix) is not None).texts
        better = {one.place.word: one.better_word for one in applied}
        return _EditedConfig(tuple(better.get(word) or word for word in self.words), {**self.texts, **texts})


class _Trial:
    """`candidates` are the suggestions that are not refuted yet, by the position of their error in `found`."""

    def __init__(self, found: Sequence[Diagnostic], words: tuple[str, ...], check: Check, size: int) -> None:
        self.found, self.check = found, check
        self.before = _EditedConfig(words)
        self.checks = max(1, min(MOST, EFFORT // max(size, 1)))
        self.known = {(one.code, one.message) for one in found}
        self.candidates = {
            number: [
                text
                for each in one.advice.candidates()
                if _changes(each, one.place)
                for text in _with_quotes(each, one.place)
            ]
            for number, one in enumerate(found)
            if isinstance(one.advice, Suggestion) and self.before.applies(one)
        }

    def given(self) -> list[Diagnostic]:
        """The errors with the advice that holds."""
        refuted: set[int] = set()
        while self.checks and any(self.candidates.values()):
            chosen = {n: replace(self.found[n], advice=left[0]) for n, left in self.candidates.items() if left}
            refuted = self.refuted(chosen)
            for number in refuted:
                del self.candidates[number][0]
            if not refuted:
                break
        return [self.advised(number, is_untried=number in refuted) for number in range(len(self.found))]

    def advised(self, number: int, is_untried: bool) -> Diagnostic:
        """An error with the candidate that holds."""
        one = self.found[number]
        if number not in self.candidates:
            return one
        assert isinstance(one.advice, Suggestion)
        left = self.candidates[number]
        return replace(one, advice=one.advice.otherwise if is_untried or not left else left[0])

    def refuted(self, chosen: dict[int, Diagnostic]) -> set[int]:
        """The positions of the errors whose chosen advice leads to another error at its place."""
        state = self.before.with_advice(chosen.values())
        left = self.errors(state)
        fixes = _fixes_by_line(chosen.values())
        places = {number: _after(one, fixes) for number, one in chosen.items()}
        wrong = {n for n, one in chosen.items() if any(self.is_at(e, one, places[n]) for e in left)}
        for _ in range(ROUNDS - 1):
            near = [e for e in left if any(self.is_near(e, one, places[n]) for n, one in chosen.items())]
            if wrong or not self.checks or not any(state.applies(e) for e in near):
                break
            state = state.with_advice(near)
            left = self.errors(state)
        wrong |= {n for n, one in chosen.items() if any(self.is_near(e, one, places[n]) for e in left)}
        if any(state.applies(e) for e in left):  # then a wrong value may follow from another mistake
            return wrong
        return wrong | {n for n, one in chosen.items() if any(_is_value(e, one) for e in left)}

    def errors(self, state: _EditedConfig) -> list[Diagnostic]:
        self.checks -= 1
        with edited(state.texts):
            return [found for found in self.check(state.words) if found.severity == "error"]

    def is_at(self, error: Diagnostic, one: Diagnostic, place: Place) -> bool:
        """Whether an error that is left is about the new text of `one`, at `place`."""
        is_other = (error.code, error.message) in self.known and error.message != one.message
        return not is_other and _overlaps(error.place, place)

    def is_near(self, error: Diagnostic, one: Diagnostic, place: Place) -> bool:
        """Whether an error is a new one about the path of `one`, or about its line and what is around it."""
        if (error.code, error.message) in self.known:
            return False
        is_beside = place.is_exact and _line(place) == _line(error.place)
        is_label = place.is_exact and _line(place) in [_line(label.place) for label in error.labels]
        is_around = not error.path or f"{one.path}.".startswith(f"{error.path}.")
        return is_label or (is_beside and is_around) or (bool(one.path) and error.path == one.path)


def _changes(suggestion: Suggestion, place: Place) -> bool:
    """Whether a suggestion is another text than the one at the place."""
    return suggestion.write != suggestion.instead_of or place.length != len(suggestion.write)


def _with_quotes(suggestion: Suggestion, place: Place) -> list[Suggestion]:
    """A suggestion, and the same in quotes for a text that is written in quotes."""
    is_quoted = suggestion.at is None and place.length - len(suggestion.instead_of or "") == 2
    return [suggestion, replace(suggestion, write=f'"{suggestion.write}"')] if is_quoted else [suggestion]


def _fixes_by_line(applied: Iterable[Diagnostic]) -> dict[Line, dict[Place, Fix]]:
    """The fixes of errors, one for each place, by the line."""
    found: dict[Line, dict[Place, Fix]] = {}
    for fix in (fix for one in applied if (fix := one.fix) is not None):
        found.setdefault(_line(fix.place), {})[fix.place] = fix
    return found


def _after(one: Diagnostic, fixes: Mapping[Line, Mapping[Place, Fix]]) -> Place:
    """The place of the new text of an error when all of these fixes are applied."""
    fix = one.fix
    if fix is None:
        return Place(word=one.better_word)
    place = fix.place
    left = [other for at, other in fixes.get(_line(place), {}).items() if at.column < place.column]
    column = place.column + sum(len(other.text) - other.place.length for other in left)
    return replace(place, column=column, length=max(len(fix.text), 1))


def _is_value(error: Diagnostic, one: Diagnostic) -> bool:
    """Whether an error is about the value of the key that the advice of `one` renames."""
    if not one.is_about_key:
        return False
    assert isinstance(one.advice, Suggestion)
    above, dot, _ = one.path.rpartition(".")
    return f"{error.path}.".startswith(f"{above}{dot}{one.advice.write}.")


def _line(place: Place) -> Line:
    return place.file, place.line, place.word


def _overlaps(one: Place, other: Place) -> bool:
    same = one.is_exact and _line(one) == _line(other)
    return same and one.column < other.column + other.length and other.column < one.column + one.length
