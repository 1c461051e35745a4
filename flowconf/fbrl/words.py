"""The vocabulary: common English words of two to four letters, in a fixed split.

The split depends on the words only, not on a seed, so that no run trains on the test words of another.
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
        """The words that training must not contain."""
        return frozenset(self.validation + self.test)


@cache
def common_words() -> WordLists:
    """662 words for training, 60 for validation, 180 for the test."""
    words = files("flowconf.fbrl").joinpath("words.txt").read_text(encoding="ascii").split()
    mixed = sorted(words, key=lambda word: sha256(word.encode()).digest())
    validation, test, train = mixed[:VALIDATION], mixed[VALIDATION : VALIDATION + TEST], mixed[VALIDATION + TEST :]
    return WordLists(tuple(sorted(train)), tuple(sorted(validation)), tuple(sorted(test)))
