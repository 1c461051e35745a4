"""Completions at a position: the names that the checks would offer for a name that does not exist there.

The word at the position is replaced by one that nothing is called, and the config is checked. So every list that a
message can give is also a completion, with the names of the project, and nothing lists the names a second time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowconf.editor.uses import uses_of
from flowconf.language import registry
from flowconf.report import Available, Suggestion
from flowconf.text.source import edited
from flowconf.train.checks.road import BEFORE_TORCH, untried

UNKNOWN = "Completed_here_"
"""The word that nothing is called."""
_BEFORE = re.compile(r"[\w./]*$")
_AFTER = re.compile(r"\w*")
_BEGINS_KEY = re.compile(r"(?:^|[{,])\s*(?:-\s+)?$")


@dataclass(frozen=True)
class Choice:
    """A name that can be written. `typed` is the number of characters before the position that it replaces."""

    name: str
    what: str
    """The kind of name: "keys", "arguments", "modules"..."""
    typed: int


def choices(file: str, text: str, line: int, column: int) -> list[Choice]:
    """The names that can be written at a position of a file with this text."""
    found: dict[str, Choice] = {}
    lines = text.split("\n")
    before, after = lines[line - 1][: column - 1], lines[line - 1][column - 1 :]
    typed = _BEFORE.search(before)
    assert typed is not None
    last = re.split(r"[./]", typed[0])[-1]
    rest = after[len(_AFTER.match(after)[0]) :]  # type: ignore[index]
    for word in _words(before.removesuffix(typed[0]), rest):
        lines[line - 1] = f"{before.removesuffix(last)}{word}{rest}"
        with edited({file: "\n".join(lines)}):
            for offer in _offers(file):
                for name in offer.names:
                    whole = len(typed[0]) if name.startswith(typed[0].removesuffix(last)) else len(last)
                    found.setdefault(name, Choice(name, offer.what, whole))
    return list(found.values())


def _words(before: str, after: str) -> Iterator[str]:
    """The text that replaces the word: a key if no colon follows, an argument within a call, or a name."""
    if _BEGINS_KEY.search(before) and not after.lstrip().startswith(":") and before.count("(") == before.count(")"):
        yield f"{UNKNOWN}: null"
    if before.count("(") > before.count(")") and not after.lstrip().startswith("="):
        yield f"{UNKNOWN}=1"
    yield UNKNOWN


def _offers(file: str) -> Iterator[Available]:
    """The lists of names in the mistakes about the unknown word."""
    uses = uses_of(Path(file))
    checked = [(file, "")] if uses is None else [(use.config, use.override) for use in uses]
    for config, override in checked:
        for one in untried(config, [override] if override else [], BEFORE_TORCH):
            advice = one.advice.otherwise if isinstance(one.advice, Suggestion) else one.advice
            if isinstance(advice, Available) and UNKNOWN in one.message:
                yield advice


def summary(choice: Mapping[str, str]) -> str:
    """The first sentence about a registered name, empty for any other."""
    table = next((one for one in registry.TABLES.values() if one.plural == choice.get("what")), None)
    name = choice.get("name", "")
    return table.summary(name) if table is not None and name in table else ""
