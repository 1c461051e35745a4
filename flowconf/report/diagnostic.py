"""One mistake as data: what is wrong, where, who the other party is, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass

from flowconf.report.codes import CODES
from flowconf.report.places import NOWHERE, Place
from flowconf.report.wording import printable


@dataclass(frozen=True, slots=True)
class Label:
    """Another place that takes part in a mistake, and what it says there."""

    message: str
    place: Place

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message))


@dataclass(frozen=True, slots=True)
class Fix:
    """The one text that mends a mistake, to be written over `place`."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake. `path` is the label path or config key it concerns."""

    code: str
    message: str
    place: Place = NOWHERE
    path: str = ""
    labels: tuple[Label, ...] = ()
    help: str | None = None
    fix: Fix | None = None
    severity: str = "error"
    lacks: str = ""
    """The name that stands for nothing, where that is the mistake."""

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code
        object.__setattr__(self, "message", printable(self.message))
        object.__setattr__(self, "help", self.help and printable(self.help))
