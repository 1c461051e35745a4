"""Groups findings by cause: each mistake is reported once, with all the places where it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from flowconf.report.diagnostic import Diagnostic, Label
from flowconf.report.places import Place
from flowconf.report.suggestion import Suggestion

AND_HERE = "and here"
"""The label of each further place of a mistake."""

MOST = 100
"""The maximum number of mistakes reported at once."""

ALMOST = 0.75
"""The similarity from which one name counts as a misspelling of another."""


@dataclass(frozen=True)
class Unused:
    """Unused definitions: what they define, the place of each name, and the path below which they are visible."""

    what: str
    places: Mapping[str, Place]
    within: str = ""


@dataclass(frozen=True)
class _Mistake:
    """The findings with one cause."""

    findings: tuple[Diagnostic, ...]

    @property
    def places(self) -> list[Place]:
        return list(dict.fromkeys(finding.place for finding in self.findings))

    def diagnostic(self) -> Diagnostic:
        """The first finding, with the places of the others."""
        first, known = self.findings[0], {label.place for label in self.findings[0].labels}
        labels = tuple(Label(AND_HERE, place) for place in self.places[1:] if place not in known)
        return replace(first, labels=(*first.labels, *labels))


def grouped(findings: Iterable[Diagnostic], unused: Sequence[Unused] = ()) -> list[Diagnostic]:
    """The mistakes that caused the findings, in order: one for each cause and place, at most `MOST`.

    A misspelled definition is one mistake, instead of one for each reference to it.
    """
    causes: dict[object, list[Diagnostic]] = {}
    for number, finding in enumerate(findings):
        causes.setdefault((finding.code, *finding.cause) if finding.cause else number, []).append(finding)
    mistakes = _misspelled_definitions([_Mistake(tuple(found)) for found in causes.values()], unused)
    return _one_for_each_place(mistake.diagnostic() for mistake in mistakes)


def _misspelled_definitions(mistakes: list[_Mistake], unused: Sequence[Unused]) -> list[_Mistake]:
    """The mistakes, with unknown names in several places replaced by the unused definition that nearly has the name."""
    for group in unused:
        below = f"{group.within}." if group.within else ""
        lacking: dict[str, list[_Mistake]] = {}
        for mistake in mistakes:
            first = mistake.findings[0]
            if first.lacks and first.severity == "error" and f"{first.path}.".startswith(below):
                lacking.setdefault(first.lacks, []).append(mistake)
        for name, uses in lacking.items():
            places = list(dict.fromkeys(place for use in uses for place in use.places))
            if len(places) < 2:  # a single reference is rather misspelled itself
                continue
            close = next(iter(get_close_matches(name, group.places, 1, ALMOST)), name)
            if close == name:
                continue
            position, at = mistakes.index(uses[0]), group.places[close]
            mistakes = [mistake for mistake in mistakes if mistake not in uses]
            if all(mistake.findings[0].place != at for mistake in mistakes):  # else its name is reported already
                code = uses[0].findings[0].code
                mistakes.insert(position, _Mistake((_misspelled(group.what, close, at, name, places, code),)))
    return mistakes


def _misspelled(what: str, name: str, at: Place, wanted: str, places: Sequence[Place], code: str) -> Diagnostic:
    """The definition `name` that all references call `wanted`."""
    labels = (Label(f"`{wanted}` is used here", places[0]), *(Label(AND_HERE, place) for place in places[1:]))
    message = f"`{wanted}` is used in {len(places)} places, but {what} is named `{name}`"
    return Diagnostic(code, message, at, labels=labels, advice=Suggestion(wanted, instead_of=name))


def _one_for_each_place(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """One diagnostic for each code and place, no warnings at places with an error. Beyond `MOST`, errors come first."""
    all_of_them = list(diagnostics)
    wrong = {d.place for d in all_of_them if d.severity == "error" and d.place.is_exact}
    kept: dict[object, Diagnostic] = {}
    for d in all_of_them:
        if d.severity == "error" or d.place not in wrong:
            kept.setdefault((d.code, d.place) if d.place.is_exact else (d.code, d.message), d)
    found = list(kept.values())
    return found if len(found) <= MOST else sorted(found, key=lambda d: d.severity != "error")[:MOST]
