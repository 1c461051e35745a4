"""The measure of a word reader."""

from __future__ import annotations

from torch import Tensor


def word_accuracy(letters: Tensor, count: Tensor, letters_target: Tensor, count_target: Tensor) -> Tensor:
    """1 for a row read without a mistake, its length included, else 0.

    `letters` [B, N, classes] and `count` [B, counts] are logits; `letters_target` [B, N] is -100 where the
    word has no letter; `count_target` [B]; the result [B] in float32.
    """
    letters_right = (letters.argmax(dim=-1) == letters_target) | (letters_target == -100)
    return (letters_right.all(dim=1) & (count.argmax(dim=-1) == count_target)).float()
