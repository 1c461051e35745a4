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

    `instead_of` is the text that it replaces at the mistake's place; `at` is the place to write it over, where that is
    another one. With neither, `write` only shows what to write: where it goes is not certain. `why` ends the sentence.
    """

    write: str
    instead_of: str | None = None
    at: Place | None = None
    why: str = ""

    def __str__(self) -> str:
        return printable(f"write `{self.write}`{self.why}")

    def within(self, text: str) -> Suggestion:
        """The same suggestion for all of the dotted `text`, of which `instead_of` is one name."""
        if self.instead_of is None:
            return self
        name = rf"(?<![^.]){re.escape(self.instead_of)}(?![^.\[])"
        return replace(self, write=re.sub(name, self.write, text.strip(), count=1), instead_of=text.strip())


Advice = str | Suggestion
"""What to do about a mistake: a sentence, or the text to write."""


def suggest(name: str, allowed: Iterable[str], what: str = "names", most: int = 40) -> Advice | None:
    """The help for an unknown name: the nearest allowed one, else the list of them."""
    options = list(dict.fromkeys(allowed))
    close = nearest(name, options)
    if close is not None:
        return Suggestion(close, instead_of=name)
    return f"the {what} here are {listing(options, most)}" if options else None
