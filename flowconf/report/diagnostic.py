"""One diagnostic as data: message, place, other places involved, and what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from flowconf.report.codes import CODES
from flowconf.report.places import NOWHERE, Place
from flowconf.report.suggestion import Advice, Suggestion
from flowconf.report.wording import printable


@dataclass(frozen=True, slots=True)
class Label:
    """Another place that is involved, and a message about it."""

    message: str
    place: Place

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message))


@dataclass(frozen=True, slots=True)
class Fix:
    """The text that fixes an error when it replaces the text at `place`."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error or warning. `path` is the label path or config key that it is about; `advice` says what to do."""

    code: str
    message: str
    place: Place = NOWHERE
    path: str = ""
    labels: tuple[Label, ...] = ()
    advice: Advice | None = None
    severity: str = "error"
    lacks: str = ""
    """The unknown name, if the diagnostic is about one."""
    cause: tuple[object, ...] = field(default=(), repr=False, compare=False)
    """Its root cause. Findings with the same code and cause are reported as one."""

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code
        object.__setattr__(self, "message", printable(self.message))
        if isinstance(self.advice, str):
            object.__setattr__(self, "advice", printable(self.advice))

    @property
    def help(self) -> str | None:
        """The advice as text."""
        return None if self.advice is None else str(self.advice)

    @property
    def fix(self) -> Fix | None:
        """The edit of a file that `check --fix` applies, or None without a certain one."""
        meant = self.advice
        if not isinstance(meant, Suggestion) or (meant.at is None and meant.instead_of is None):
            return None
        place = meant.at or self.place
        if meant.instead_of is not None and not place.holds(meant.instead_of):
            return None
        return Fix(place, meant.write)

    @property
    def is_about_key(self) -> bool:
        """Whether its suggestion renames the key at its path."""
        meant = self.advice
        return isinstance(meant, Suggestion) and meant.instead_of == self.path.rpartition(".")[2]

    @property
    def better_word(self) -> str | None:
        """The word of the command line that its suggestion means instead of the one at its place, or None."""
        meant, word = self.advice, self.place.word
        if not isinstance(meant, Suggestion) or word is None or meant.instead_of is None:
            return None
        if meant.instead_of == word:
            return meant.write
        key, equals, value = word.partition("=")
        if self.is_about_key and re.split(r"[.+~]", key)[-1] == meant.instead_of:
            return f"{key.removesuffix(meant.instead_of)}{meant.write}{equals}{value}"
        name = re.compile(rf"(?<![\w.]){re.escape(meant.instead_of)}(?!\w)")
        better = name.sub(lambda _: meant.write, value, count=1)
        return f"{key}{equals}{better}" if better != value else None
