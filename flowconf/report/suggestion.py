"""What to write instead, as data: help texts, `check --fix`, JSON and editors derive from it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from flowconf.report.places import Place
from flowconf.report.wording import listing, nearest_of, printable


@dataclass(frozen=True, slots=True)
class Available:
    """The names that can be written, which an editor completes. The help text is `summary`, by default their list."""

    what: str
    names: tuple[str, ...]
    most: int = 40
    """Of more names, the help text lists the first few."""
    summary: str = ""

    def __str__(self) -> str:
        return printable(self.summary or f"available {self.what}: {listing(self.names, self.most)}")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The text to write.

    `instead_of` is the text to replace at the place of the diagnostic; `at` is the place to replace, if it is a
    different one. Without either, the suggestion is not applied automatically. `why` is appended to the help text.

    A suggestion is tried before it is given. If the config has another error at that place then, the texts in `others`
    are tried in order, and `otherwise` is the advice if none of them works.
    """

    write: str
    instead_of: str | None = None
    at: Place | None = None
    why: str = ""
    others: tuple[str, ...] = ()
    otherwise: str | Available | None = None

    def __str__(self) -> str:
        return printable(f"write `{self.write}`{self.why}")

    def within(self, text: str) -> Suggestion:
        """The same suggestion for the whole dotted `text`, of which `instead_of` is one name."""
        if self.instead_of is None:
            return self
        name, whole = re.compile(rf"(?<![^.]){re.escape(self.instead_of)}(?![^.\[])"), text.strip()
        write, *others = (name.sub(new, whole, count=1) for new in (self.write, *self.others))
        return replace(self, write=write, others=tuple(others), instead_of=whole)

    def candidates(self) -> list[Suggestion]:
        """The suggestion with each of its texts, in the order in which they are tried."""
        return [replace(self, write=text, others=()) for text in (self.write, *self.others)]


Advice = str | Suggestion | Available
"""What to do about an error: a sentence, the text to write, or the names that can be written."""


def suggest(
    name: str, allowed: Iterable[str], what: str = "names", most: int = 40, listed: Iterable[str] | None = None
) -> Advice | None:
    """The advice for an unknown name: the nearest allowed name, or the list of names (`listed`, if it is another).

    A name means a longer one that ends with it, such as `accuracy` for `val/accuracy`, if it is the only one.
    """
    options = list(dict.fromkeys(allowed))
    ends = [option for option in options if option != name and option.endswith((f".{name}", f"/{name}"))]
    if len(ends) == 1:
        return Suggestion(ends[0], name)
    names = ends or (options if listed is None else list(dict.fromkeys(listed)))
    otherwise = Available(what, tuple(names), most) if names else None
    found = nearest_of(name, options)
    return Suggestion(found[0], name, others=found[1:], otherwise=otherwise) if found else otherwise
