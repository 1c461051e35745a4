"""English words of two to four letters, of which some letters are hidden."""

from __future__ import annotations

import string

import torch
from torch import Tensor

import flowconf
from flowconf.fbrl.words import common_words

LONGEST = 4
NONE, HIDDEN = 0, 27
"""The tokens for no letter, and for a hidden one; a is 1."""


def _fields(**others: object) -> dict[str, tuple[object, ...]]:
    return {
        "letters": ((LONGEST,), torch.int64, 28),
        "present": ((LONGEST,), torch.int64),
        "hidden": ((LONGEST,), torch.int64, 28),
    }


@flowconf.register_dataset
@flowconf.provides("letters", "present", "hidden", shapes=_fields)
def masked_words(*, copies: int = 8, share: float = 0.3, seed: int) -> flowconf.Splits:
    """Words as tokens, `copies` of each with other letters hidden.

    Fields: `letters` [4], where a share of them is hidden; `present` [4], 1 for each letter; `hidden` [4], the letters
    that are hidden, and -100 elsewhere.
    """
    lists = common_words()
    return flowconf.Splits(
        train=_hidden(lists.train, copies, share, seed),
        validation=_hidden(lists.validation, copies, share, 1),
        test=_hidden(lists.test, copies, share, 2),
    )


def _hidden(words: tuple[str, ...], copies: int, share: float, seed: int) -> flowconf.Resident:
    numbers = torch.Generator().manual_seed(seed)
    letters = torch.tensor([_tokens(word) for word in words]).repeat(copies, 1)
    chosen = (torch.rand(letters.shape, generator=numbers) < share) & (letters != NONE)
    chosen[~chosen.any(1), 0] = True
    fields: dict[str, Tensor] = {
        "letters": letters.masked_fill(chosen, HIDDEN),
        "present": (letters != NONE).long(),
        "hidden": letters.masked_fill(~chosen, -100),
    }
    return flowconf.Resident(fields)


def _tokens(word: str) -> list[int]:
    found = [string.ascii_lowercase.index(letter) + 1 for letter in word]
    return found + [NONE] * (LONGEST - len(found))
