"""The measures of readers: what is read without a mistake."""

from __future__ import annotations

from torch import Tensor


def word_accuracy(letters: Tensor, count: Tensor, letters_target: Tensor, count_target: Tensor) -> Tensor:
    """1 for a word read without a mistake, its length included, else 0.

    `letters` [..., N, classes] and `count` [..., counts] are logits; `letters_target` [..., N] is -100 where the
    word has no letter; `count_target` [...]; the result [...] in float32.
    """
    return _word_is_right(letters, count, letters_target, count_target).float()


def line_accuracy(
    letters: Tensor,
    lengths: Tensor,
    count: Tensor,
    letters_target: Tensor,
    lengths_target: Tensor,
    count_target: Tensor,
) -> Tensor:
    """1 for a line read without a mistake: the number of words, and each of them with its length; else 0.

    `letters` [B, M, N, classes], `lengths` [B, M, counts] and `count` [B, words] are logits; `letters_target`
    [B, M, N] and `lengths_target` [B, M] are -100 where the line has none; `count_target` [B]; the result [B] in
    float32.
    """
    words = _word_is_right(letters, lengths, letters_target, lengths_target) | (lengths_target == -100)
    return (words.all(dim=-1) & (count.argmax(dim=-1) == count_target)).float()


def _word_is_right(letters: Tensor, count: Tensor, letters_target: Tensor, count_target: Tensor) -> Tensor:
    """As booleans [...]."""
    right = (letters.argmax(dim=-1) == letters_target) | (letters_target == -100)
    return right.all(dim=-1) & (count.argmax(dim=-1) == count_target)
