"""The gaze's losses and the measures of readers, against loops written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from flowconf.fbrl.losses import diversity, guide
from flowconf.fbrl.metrics import line_accuracy, word_accuracy


@pytest.mark.parametrize("rows", [1, 3])
def test_guide_is_minus_the_mean_of_the_field_at_the_locations(rows: int) -> None:
    field = torch.arange(rows * 9.0).view(rows, 1, 3, 3)
    at = torch.tensor([[0.0, 0.0], [-1.0, 1.0], [0.5, 0.0]]).expand(rows, 3, 2)
    base = torch.arange(rows) * 9.0
    torch.testing.assert_close(guide(at, field), -(base * 3 + 4 + 6 + 4.5) / 3)


def test_guide_takes_one_location_a_row() -> None:
    field, at = torch.rand(2, 1, 5, 5), torch.rand(2, 2)
    assert torch.equal(guide(at, field), guide(at[:, None], field))


def test_guide_pulls_up_the_field() -> None:
    field = torch.arange(5.0).expand(1, 1, 5, 5)
    at = torch.zeros(1, 1, 2, requires_grad=True)
    guide(at, field).sum().backward()
    assert at.grad is not None
    torch.testing.assert_close(at.grad, torch.tensor([[[-2.0, 0.0]]]))


def written_out(at: Tensor, sigma: float) -> list[float]:
    """`diversity`, one pair at a time."""
    count = at.shape[1]
    rows = []
    for places in at.tolist():
        total = 0.0
        for i in range(count):
            for j in range(count):
                if i != j:
                    total += math.exp(-(math.dist(places[i], places[j]) ** 2) / (2 * sigma**2))
        rows.append(total / count**2)
    return rows


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize(("places", "sigma"), [(1, 0.1), (2, 0.1), (7, 0.5)])
def test_diversity_equals_the_loop_over_pairs(rows: int, places: int, sigma: float) -> None:
    at = torch.rand(rows, places, 2, generator=torch.Generator().manual_seed(places))
    expected = torch.tensor(written_out(at, sigma))
    torch.testing.assert_close(diversity(at, sigma=sigma), expected, atol=1e-6, rtol=1e-5)


def test_diversity_takes_several_groups_of_locations_together() -> None:
    one, more = torch.rand(3, 2), torch.rand(3, 4, 2)
    assert torch.equal(diversity(one, more), diversity(torch.cat((one[:, None], more), dim=1)))


def test_diversity_drives_apart_and_is_finite_where_locations_coincide() -> None:
    at = torch.tensor([[[0.0, 0.0], [0.05, 0.0], [0.05, 0.0]]], requires_grad=True)
    diversity(at).sum().backward()
    assert at.grad is not None
    assert torch.isfinite(at.grad).all()
    assert at.grad[0, 0, 0] > 0
    assert at.grad[0, 1, 0] < 0


def logits(classes: list[Any], count: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), count).float()


def test_a_word_is_right_when_each_letter_and_the_length_are() -> None:
    letters = torch.stack([logits([1, 2, 3, 25], 26)] * 4)
    target = torch.tensor([[1, 2, 3, -100], [1, 2, 3, -100], [1, 2, 4, -100], [1, 2, 3, 25]])
    count = logits([2, 3, 2, 3], 4)
    right = word_accuracy(letters, count, target, torch.tensor([2, 2, 2, 3]))
    assert right.tolist() == [1, 0, 0, 1]
    assert word_accuracy(letters[:1], count[:1], target[:1], torch.tensor([2])).tolist() == [1]


def test_a_line_counts_when_all_its_words_and_their_number_are_right() -> None:
    letters = torch.tensor([[[0, 1, -100], [2, 0, 1]], [[2, 1, 0], [-100, -100, -100]]])
    lengths, count = torch.tensor([[1, 2], [2, -100]]), torch.tensor([1, 0])
    read = [logits(of.clamp_min(0).tolist(), classes) for of, classes in ((letters, 3), (lengths, 3), (count, 2))]
    assert line_accuracy(*read, letters, lengths, count).tolist() == [1, 1]
    assert word_accuracy(*read[:2], letters, lengths).tolist() == [[1, 1], [1, 0]], "the absent word is left to a mask"
    assert line_accuracy(read[0], read[1], 1 - read[2], letters, lengths, count).tolist() == [0, 0]
    misread = read[0].clone()
    misread[0, 1, 2] = torch.tensor([1.0, 0.0, 0.0])
    misread[1, 1] = misread[1, 1].flip(-1)
    assert line_accuracy(misread, *read[1:], letters, lengths, count).tolist() == [0, 1]
    shorter = read[1].clone()
    shorter[1, 0] = torch.tensor([0.0, 1.0, 0.0])
    assert line_accuracy(read[0], shorter, read[2], letters, lengths, count).tolist() == [1, 0]
