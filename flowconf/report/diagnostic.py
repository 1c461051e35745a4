"""One mistake as data: what is wrong, where, who the other party is, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass, field

from flowconf.report.codes import CODES
from flowconf.report.places import NOWHERE, Place
from flowconf.report.suggestion import Advice, Suggestion
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
    """One mistake. `path` is the label path or config key it concerns; `advice` says what to do about it."""

    code: str
    message: str
    place: Place = NOWHERE
    path: str = ""
    labels: tuple[Label, ...] = ()
    advice: Advice | None = None
    severity: str = "error"
    lacks: str = ""
    """The name that stands for nothing, where that is the mistake."""
    cause: tuple[object, ...] = field(default=(), repr=False, compare=False)
    """What is at the root of it: findings of one code and cause are one mistake."""

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code
        object.__setattr__(self, "message", printable(self.message))
        if isinstance(self.advice, str):
            object.__setattr__(self, "advice", printable(self.advice))

    @property
    def help(self) -> str | None:
        """What to do about it, as a sentence."""
        return None if self.advice is None else str(self.advice)

    @property
    def fix(self) -> Fix | None:
        """What mends it without a person, where that is certain."""
        meant = self.advice
        if not isinstance(meant, Suggestion) or (meant.at is None and meant.instead_of is None):
            return None
        place = meant.at or self.place
        if meant.instead_of is not None and not place.holds(meant.instead_of):
            return None
        return Fix(place, meant.write)
