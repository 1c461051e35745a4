"""Groups findings of the shape check that have one cause, and reports each cause once.

The check notes every module whose input does not match. Several findings can have one cause: a size that all readers of
a value reject, a tuple of which each reader needs one part, a declared size of an input that no mount provides, a
parameter that makes several sizes wrong. Such findings carry the cause as data, and are merged into one diagnostic
after the check, so that their order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from flowconf.report import Advice, Diagnostic, Label, Place


@dataclass(frozen=True)
class Misfit:
    """A value does not have the size that its reader expects. One error of the giver, if several readers agree."""

    giver: str
    """The name of the value."""
    origin: Place | str
    """The place of the giver, or its name without one."""
    made: Place
    """Where the size of the value is written."""
    actual: int
    shown: str
    expected: int | str
    reader: str
    at: Place

    @property
    def key(self) -> Hashable:
        return self.origin, self.expected, self.actual

    @property
    def of_reader(self) -> tuple[str, int, int | str]:
        """The reader with both sizes."""
        return self.reader, self.actual, self.expected


@dataclass(frozen=True)
class Several:
    """A value has several tensors, and its reader expects one. One error of the giver, if several readers do."""

    giver: str
    origin: Place | str
    place: Place
    """The place of the `take` of the giver, or of the step."""
    shown: str
    picked: bool
    """Whether `take` selects them: then the giver is at fault, even with a single reader."""
    advice: Advice | None
    reader: str
    at: Place

    @property
    def key(self) -> Hashable:
        return self.origin


@dataclass(frozen=True)
class Contradiction:
    """A mount does not match the declared size of an input. One error of the declaration, if several mounts do not."""

    name: str
    entry: Place
    """The place of the input; `declared` is the place of the size in its shape."""
    declared: Place
    size: int | str
    given: int

    @property
    def key(self) -> Hashable:
        return self.declared, self.size, self.given


Cause = Misfit | Several | Contradiction


@dataclass(frozen=True)
class Finding:
    """One error where it was found, and its possible causes."""

    diagnostic: Diagnostic
    causes: tuple[Cause, ...] = ()
    parameters: tuple[Place, ...] = ()
    """Where the parameters that make a size wrong are set."""
    first: Place | None = None
    """The first use of a module that does not match where it is reused; an error there is the cause."""


def grouped(findings: Sequence[Finding], fitting: Collection[Place]) -> list[Diagnostic]:
    """One diagnostic for each cause, in the order of the findings.

    `fitting` are the inputs that match at least one mount: then the other mounts are at fault, not the declaration.
    """
    places = {finding.diagnostic.place for finding in findings}
    found = _by_parameter([one for one in findings if not (one.first and one.first.line and one.first in places)])
    found = _by_cause(found, Misfit, _misfit)
    found = _by_cause(found, Several, _several)
    found = [replace(one, causes=_unfit(one.causes, fitting)) for one in found]
    found = _by_cause(found, Contradiction, _contradiction)
    return [finding.diagnostic for finding in found]


def _by_parameter(findings: list[Finding]) -> list[Finding]:
    """Merge the findings of a parameter that makes several sizes wrong, at the place where it is set."""
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
            labels = (Label("used here", first), *(Label("and here", place) for place in others))
            kept.append(Finding(replace(finding.diagnostic, place=shared, labels=labels)))
    return kept


CauseT = TypeVar("CauseT", Misfit, Several, Contradiction)


def _by_cause(
    findings: list[Finding], kind: type[CauseT], joint: Callable[[list[Finding], list[CauseT]], Finding | None]
) -> list[Finding]:
    """Merge findings with the same cause of a kind by `joint`, which returns None to keep them separate."""
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
    message = f"expected {last.expected} for {names}, got {last.shown} from `{last.giver}`"
    labels = tuple(Label(f"`{name}` expects {last.expected}", place) for name, place in readers)
    return Finding(Diagnostic("FC0201", message, last.made, last.giver, labels))


def _several(findings: list[Finding], causes: list[Several]) -> Finding | None:
    last = causes[-1]
    if len(causes) < 2 and not last.picked:
        return None
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(cause.reader for cause in causes))
    message = f"expected a tensor for {names}, got {last.shown}"
    labels = tuple(Label(f"`{cause.reader}` expects a tensor", cause.at) for cause in causes)
    return Finding(Diagnostic("FC0201", message, last.place, last.giver, labels, last.advice))


def _unfit(causes: tuple[Cause, ...], fitting: Collection[Place]) -> tuple[Cause, ...]:
    """The causes without declarations that match another mount."""
    return tuple(one for one in causes if not isinstance(one, Contradiction) or one.entry not in fitting)


def _contradiction(findings: list[Finding], causes: list[Contradiction]) -> Finding | None:
    if len(findings) < 2:
        return None
    last, found = causes[-1], [finding.diagnostic for finding in findings]
    names = ", ".join(f"`{one.path}`" for one in found)
    message = f"the input `{last.name}` is declared with size {last.size}, got {last.given} in {names}"
    labels = tuple(label for one in found for label in one.labels if label.place != last.declared)
    return Finding(Diagnostic(found[-1].code, message, last.declared, found[-1].path, labels))
