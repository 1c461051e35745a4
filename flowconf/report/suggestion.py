"""What to write instead, as data: help texts, `check --fix`, JSON and editors derive from it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from flowconf.report.places import Place
from flowconf.report.wording import listing, nearest, printable


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The text to write.

    `instead_of` is the text to replace at the place of the diagnostic; `at` is the place to replace, if it is a
    different one. Without either, the suggestion is not applied automatically. `why` is appended to the help text.
    """

    write: str
    instead_of: str | None = None
    at: Place | None = None
    why: str = ""

    def __str__(self) -> str:
        return printable(f"write `{self.write}`{self.why}")

    def within(self, text: str) -> Suggestion:
        """The same suggestion for the whole dotted `text`, of which `instead_of` is one name."""
        if self.instead_of is None:
            return self
        name = rf"(?<![^.]){re.escape(self.instead_of)}(?![^.\[])"
        return replace(self, write=re.sub(name, self.write, text.strip(), count=1), instead_of=text.strip())


Advice = str | Suggestion
"""What to do about an error: a sentence, or the text to write."""


def suggest(name: str, allowed: Iterable[str], what: str = "names", most: int = 40) -> Advice | None:
    """The advice for an unknown name: the nearest allowed name, or the list of names."""
    options = list(dict.fromkeys(allowed))
    close = nearest(name, options)
    if close is not None:
        return Suggestion(close, instead_of=name)
    return f"available {what}: {listing(options, most)}" if options else None
