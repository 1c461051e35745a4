"""Which findings of the shape check are one mistake, and what is reported of them.

The check notes each module that does not fit what it is given. Several of these findings can have one cause: a size
that all readers of a value expect otherwise, a tuple of which each reader needs one part, a size that the input of a
graph declares and no mount gives, a parameter that makes several sizes wrong. Such findings carry the cause as data,
and become one diagnostic here, after the last one is known, so that their order means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from flowconf.report import Advice, Diagnostic, Label, Place


@dataclass(frozen=True)
class Misfit:
    """A value has one size, and its reader expects another. One mistake of the giver, if several readers agree."""

    giver: str
    """What the value is called."""
    origin: Place | str
    """Where the giver is; its name when it has no place."""
    made: Place
    """Where the size is written that the value has."""
    actual: int
    shown: str
    expected: int | str
    reader: str
    at: Place

    @property
    def key(self) -> Hashable:
        return self.origin, self.expected, self.actual


@dataclass(frozen=True)
class Several:
    """A value is several tensors, and its reader takes one. The giver's mistake, if several readers do."""

    giver: str
    origin: Place | str
    place: Place
    """Where the giver says what it gives: at its `take`, or at the step."""
    shown: str
    picked: bool
    """Whether the giver's own `take` picks them: then it is at fault, however few read them."""
    advice: Advice | None
    reader: str
    at: Place

    @property
    def key(self) -> Hashable:
        return self.origin


@dataclass(frozen=True)
class Contradiction:
    """A graph's input declares one size, and a mount gives another. The declaration's mistake, if several mounts do."""

    name: str
    entry: Place
    """Where the input is, and where the size is in its shape."""
    declared: Place
    size: int | str
    given: int

    @property
    def key(self) -> Hashable:
        return self.declared, self.size, self.given


Cause = Misfit | Several | Contradiction


@dataclass(frozen=True)
class Finding:
    """One mistake where it was found, and what else it may be part of."""

    diagnostic: Diagnostic
    causes: tuple[Cause, ...] = ()
    parameters: tuple[Place, ...] = ()
    """The parameters that make a size wrong, where they are set."""
    first: Place | None = None
    """Where a module stands that does not fit where it is used again; a mistake there is the reason."""


def grouped(findings: Sequence[Finding], fitting: Collection[Place]) -> list[Diagnostic]:
    """What is reported: one diagnostic for each cause, in the order in which they were found.

    `fitting` are the inputs of graphs that fit what some mount gives them: then the mounts are wrong, each by itself.
    """
    places = {finding.diagnostic.place for finding in findings}
    found = _by_parameter([one for one in findings if not (one.first and one.first.line and one.first in places)])
    found = _by_cause(found, Misfit, _misfit)
    found = _by_cause(found, Several, _several)
    found = [replace(one, causes=_unfit(one.causes, fitting)) for one in found]
    found = _by_cause(found, Contradiction, _contradiction)
    return [finding.diagnostic for finding in found]


def _by_parameter(findings: list[Finding]) -> list[Finding]:
    """A parameter that makes several sizes wrong is one mistake, where it is set."""
    uses: dict[Place, list[Finding]] = {}
    places = {finding.diagnostic.place for finding in findings}
    for finding in findings:
        for place in finding.parameters:
            uses.setdefault(place, []).append(finding)
    kept = []
    for finding in findings:
        if any(place in places for place in finding.parameters):
            continue
        shared = next((place for place in finding.parameters if len(uses[place]) > 1), None)
        if shared is None:
            kept.append(finding)
        elif uses[shared][0] is finding:
            first, *others = dict.fromkeys(one.diagnostic.place for one in uses[shared])
            labels = (Label("it is used here", first), *(Label("and here", place) for place in others))
            kept.append(Finding(replace(finding.diagnostic, place=shared, labels=labels)))
    return kept


CauseT = TypeVar("CauseT", Misfit, Several, Contradiction)


def _by_cause(
    findings: list[Finding], kind: type[CauseT], joint: Callable[[list[Finding], list[CauseT]], Finding | None]
) -> list[Finding]:
    """`joint` makes one finding of all those with the same cause of a kind, or None to leave them apart."""
    groups: dict[Hashable, list[tuple[int, CauseT]]] = {}
    for number, finding in enumerate(findings):
        for cause in finding.causes:
            if isinstance(cause, kind):
                groups.setdefault(cause.key, []).append((number, cause))
    kept = dict(enumerate(findings))
    for group in groups.values():
        first, *others = [number for number, _ in group]
        one = joint([findings[number] for number, _ in group], [cause for _, cause in group])
        if one is not None:
            kept[first] = one
            for number in others:
                del kept[number]
    return list(kept.values())


def _misfit(findings: list[Finding], causes: list[Misfit]) -> Finding | None:
    last = causes[-1]
    if len({cause.at if cause.at.line else cause.reader for cause in causes}) < 2:
        return findings[0]
    if findings[0].diagnostic.code not in ("FC0201", "FC0206"):
        return None
    readers = dict.fromkeys((cause.reader, cause.at) for cause in causes)
    names = ", ".join(f"`{name}`" for name, _ in readers)
    message = f"`{last.giver}` gives {last.shown}, and {last.expected} is expected by all of {names}"
    labels = tuple(Label(f"`{name}` expects {last.expected}", place) for name, place in readers)
    return Finding(Diagnostic("FC0201", message, last.made, last.giver, labels))


def _several(findings: list[Finding], causes: list[Several]) -> Finding | None:
    last = causes[-1]
    if len(causes) < 2 and not last.picked:
        return None
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(cause.reader for cause in causes))
    message = f"`{last.giver}` gives {last.shown}, and one tensor is expected by {names}"
    labels = tuple(Label(f"`{cause.reader}` takes one tensor", cause.at) for cause in causes)
    return Finding(Diagnostic("FC0201", message, last.place, last.giver, labels, last.advice))


def _unfit(causes: tuple[Cause, ...], fitting: Collection[Place]) -> tuple[Cause, ...]:
    """The causes without a declaration that fits elsewhere."""
    return tuple(one for one in causes if not isinstance(one, Contradiction) or one.entry not in fitting)


def _contradiction(findings: list[Finding], causes: list[Contradiction]) -> Finding | None:
    if len(findings) < 2:
        return None
    last, told = causes[-1], [finding.diagnostic for finding in findings]
    names = ", ".join(f"`{one.path}`" for one in told)
    message = f"the input `{last.name}` is declared with {last.size}, and gets {last.given} in all of {names}"
    labels = tuple(label for one in told for label in one.labels if label.place != last.declared)
    return Finding(Diagnostic(told[-1].code, message, last.declared, told[-1].path, labels))
