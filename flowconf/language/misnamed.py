"""Definitions with a slip in their name: everything that uses them lacks it, and one word mends all of it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from flowconf.diagnostics import AND_HERE, Collector, Diagnostic, Label, Place


def blame(what: str, unused: Mapping[str, Place], collector: Collector, within: str = "") -> None:
    """Tell of a definition instead of its uses, where several places lack a name that it nearly has.

    `unused` holds the definitions that nothing refers to, and where they are named; `within` is the path below which
    they mean something. A single place is wrong by itself.
    """
    lacking: dict[str, list[Diagnostic]] = {}
    for told in collector.errors:
        if told.lacks and f"{told.path}.".startswith(within and f"{within}."):
            lacking.setdefault(told.lacks, []).append(told)
    for name, uses in lacking.items():
        places = list(dict.fromkeys(place for told in uses for place in _places(told)))
        close = get_close_matches(name, unused, 1, 0.75)
        if not close or close[0] == name or len(places) < 2:
            continue
        labels = (Label(f"`{name}` is used here", places[0]), *(Label(AND_HERE, place) for place in places[1:]))
        message = f"`{name}` is used in {len(places)} places, and {what} is called `{close[0]}`"
        collector.diagnostics = [told for told in collector.diagnostics if told not in uses]
        collector.repeated += len(uses)
        if all(told.place != unused[close[0]] for told in collector.errors):
            collector.error(uses[0].code, message, unused[close[0]], labels=labels, help=f"write `{name}`")


def _places(told: Diagnostic) -> list[Place]:
    return [told.place, *(label.place for label in told.labels if label.message == AND_HERE)]
