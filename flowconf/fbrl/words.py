"""The words that are read: common English words of two to four letters, split once and for all.

The split depends on the words alone, never on a seed, so that no run trains on what another one tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

VALIDATION, TEST = 60, 180


@dataclass(frozen=True, slots=True)
class WordLists:
    """Three disjoint lists, each in alphabetical order."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def held_out(self) -> frozenset[str]:
        """What training must never show."""
        return frozenset(self.validation + self.test)


@cache
def common_words() -> WordLists:
    """662 words to train on, 60 to choose by, 180 to report on."""
    words = files("flowconf.fbrl").joinpath("words.txt").read_text(encoding="ascii").split()
    mixed = sorted(words, key=lambda word: sha256(word.encode()).digest())
    validation, test, train = mixed[:VALIDATION], mixed[VALIDATION : VALIDATION + TEST], mixed[VALIDATION + TEST :]
    return WordLists(tuple(sorted(train)), tuple(sorted(validation)), tuple(sorted(test)))
