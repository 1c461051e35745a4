"""Metrics of readers: the words and lines read without an error."""

from __future__ import annotations

from torch import Tensor


def word_accuracy(letters: Tensor, count: Tensor, letters_target: Tensor, count_target: Tensor) -> Tensor:
    """1 for a word of which all letters and the length are correct, else 0.

    `letters` [..., N, classes] and `count` [..., counts] are logits; `letters_target` [..., N] is -100 beyond the end
    of the word; `count_target` is [...]. The result is [...] in float32.
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
    """1 for a line of which the number of words and all words are correct, else 0.

    `letters` [B, M, N, classes], `lengths` [B, M, counts] and `count` [B, words] are logits; `letters_target` [B, M, N]
    and `lengths_target` [B, M] are -100 beyond the end of the line; `count_target` is [B]. The result is [B] in
    float32.
    """
    words = _word_is_right(letters, lengths, letters_target, lengths_target) | (lengths_target == -100)
    return (words.all(dim=-1) & (count.argmax(dim=-1) == count_target)).float()


def _word_is_right(letters: Tensor, count: Tensor, letters_target: Tensor, count_target: Tensor) -> Tensor:
    """Whether all letters and the length of a word are correct: bool [...]."""
    right = (letters.argmax(dim=-1) == letters_target) | (letters_target == -100)
    return right.all(dim=-1) & (count.argmax(dim=-1) == count_target)
