"""Definitions with a slip in their name: everything that uses them lacks it, and one word mends all of it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from flowconf.report import AND_HERE, Diagnostic, Label, Place, Reporter


def blame(what: str, unused: Mapping[str, Place], reporter: Reporter, within: str = "") -> None:
    """Tell of a definition instead of its uses, where several places lack a name that it nearly has.

    `unused` holds the definitions that nothing refers to, and where they are named; `within` is the path below which
    they mean something. A single place is wrong by itself.
    """
    lacking: dict[str, list[Diagnostic]] = {}
    for told in reporter.errors:
        if told.lacks and f"{told.path}.".startswith(within and f"{within}."):
            lacking.setdefault(told.lacks, []).append(told)
    for name, uses in lacking.items():
        places = list(dict.fromkeys(place for told in uses for place in _places(told)))
        close = get_close_matches(name, unused, 1, 0.75)
        if not close or close[0] == name or len(places) < 2:
            continue
        labels = (Label(f"`{name}` is used here", places[0]), *(Label(AND_HERE, place) for place in places[1:]))
        message = f"`{name}` is used in {len(places)} places, and {what} is called `{close[0]}`"
        reporter.diagnostics = [told for told in reporter.diagnostics if told not in uses]
        reporter.repeated += len(uses)
        if all(told.place != unused[close[0]] for told in reporter.errors):
            reporter.error(uses[0].code, message, unused[close[0]], labels=labels, help=f"write `{name}`")


def _places(told: Diagnostic) -> list[Place]:
    return [told.place, *(label.place for label in told.labels if label.message == AND_HERE)]
