"""Metrics of readers: the words, lines and paragraphs read without an error.

Scores of letters are [..., N, classes], those of counts [..., classes]. Targets are class indices, and -100 beyond the
end of a word, line or paragraph.
"""

from __future__ import annotations

from torch import Tensor


def word_accuracy(letters: Tensor, count: Tensor, letters_target: Tensor, count_target: Tensor) -> Tensor:
    """1 for a word of which all letters and the length are correct, else 0.

    `letters` [..., N, classes] and `count` [..., counts] are logits; `letters_target` [..., N] is -100 beyond the end
    of the word; `count_target` is [...]. The result is [...] in float32.
    """
    right = (letters.argmax(dim=-1) == letters_target) | (letters_target == -100)
    return (right.all(dim=-1) & (count.argmax(dim=-1) == count_target)).float()


def line_accuracy(
    letters: Tensor,
    lengths: Tensor,
    count: Tensor,
    letters_target: Tensor,
    lengths_target: Tensor,
    count_target: Tensor,
) -> Tensor:
    """1 for a line of which the number of words and all words are correct, else 0.

    `letters` [..., M, N, classes], `lengths` [..., M, counts] and `count` [..., words] are logits; `letters_target`
    [..., M, N] and `lengths_target` [..., M] are -100 beyond the end of the line; `count_target` is [...]. The result
    is [...] in float32.
    """
    words = word_accuracy(letters, lengths, letters_target, lengths_target).bool() | (lengths_target == -100)
    return (words.all(dim=-1) & (count.argmax(dim=-1) == count_target)).float()


def paragraph_accuracy(
    letters: Tensor,
    lengths: Tensor,
    counts: Tensor,
    count: Tensor,
    letters_target: Tensor,
    lengths_target: Tensor,
    counts_target: Tensor,
    count_target: Tensor,
) -> Tensor:
    """1 for a paragraph of which the number of lines and all lines are correct, else 0.

    `letters` [B, L, M, N, classes], `lengths` [B, L, M, counts], `counts` [B, L, words] and `count` [B, lines] are
    logits; `letters_target` [B, L, M, N], `lengths_target` [B, L, M] and `counts_target` [B, L] are -100 beyond the end
    of the paragraph; `count_target` is [B]. The result is [B] in float32.
    """
    lines = line_accuracy(letters, lengths, counts, letters_target, lengths_target, counts_target).bool()
    return ((lines | (counts_target == -100)).all(dim=-1) & (count.argmax(dim=-1) == count_target)).float()
