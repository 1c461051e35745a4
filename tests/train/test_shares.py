"""Shares of a batch: every row is somebody's, and the parts' gradients average to the whole's, whatever the shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flowconf.train.objective import losses
from flowconf.train.objective.terms import Operand, Term, means_of, weighted
from flowconf.train.team.shares import AHEAD, MEASURED, WARMUP, Idle, RowShares, Stopwatch, divide, shared_term

SHARES = st.lists(st.floats(0.01, 100), min_size=1, max_size=6)


@given(st.integers(0, 500), SHARES)
def test_every_row_is_given_once_and_nobody_gets_none_while_there_are_enough(rows, shares):
    counts = divide(rows, shares)
    assert sum(counts) == rows
    assert min(counts) >= (1 if rows >= len(shares) else 0)
    assert divide(rows, [2 * share for share in shares]) == counts


@given(st.integers(8, 500), SHARES)
def test_counts_follow_the_shares(rows, shares):
    counts = divide(rows, shares)
    free = rows - len(shares)
    assert all(abs(n - 1 - free * share / sum(shares)) <= 1 for n, share in zip(counts, shares, strict=True))


def test_examples_of_shares():
    assert divide(64, [3, 1]) == [48, 16]
    assert divide(64, [1, 1, 1]) == [22, 21, 21]
    assert divide(3, [1000, 1]) == [2, 1]
    assert divide(1, [1, 1]) == [1, 0]


def test_parts_are_the_batch():
    shares = RowShares((3.0, 1.0))
    rows = torch.arange(10, 17)
    assert torch.cat([shares.part(rows, 0, rank) for rank in (0, 1)]).equal(rows)


def parts_of(batch, counts):
    """The batch as each process sees it; one without rows gets the first row as an idle one."""
    start, found = 0, []
    for count in counts:
        some = {name: tensor[start : start + count] for name, tensor in batch.items()}
        found.append(some if count else Idle({name: tensor[:1] for name, tensor in batch.items()}))
        start += count
    return found


def gradients(model, terms, batch):
    model.zero_grad()
    means = means_of(terms, {"out": model(batch["x"])}, batch)
    loss = weighted(means, [term.weight for term in terms])
    loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()], loss.detach(), [m.detach() for m in means]


def averaged(model, terms, parts):
    """What a team computes, one process after the other: first the weights that they add up, then everything."""
    size, totals = len(parts), []
    for part in parts:
        own = []
        recording = [
            shared_term(term, size, lambda total, own=own: own.append(total.clone()) or total) for term in terms
        ]
        means_of(recording, {"out": model(part["x"])}, part)
        totals.append(torch.stack(own))
    sums = torch.stack(totals).sum(0)
    found = []
    for part in parts:
        shared = [shared_term(term, size, lambda _, at=at: sums[at].clone()) for at, term in enumerate(terms)]
        found.append(gradients(model, shared, part))
    mean = lambda tensors: torch.stack(tensors).mean(0)  # noqa: E731
    return (
        [mean(list(held)) for held in zip(*(grads for grads, _, _ in found), strict=True)],
        mean([loss for _, loss, _ in found]),
        [mean(list(held)) for held in zip(*(means for _, _, means in found), strict=True)],
    )


def term(name, function, *, target=None, mask=None, factor=1.0, reduces=False, **args):
    operands = (Operand("out", False), *((Operand(target, True),) if target else ()))
    return Term(name, function, operands, Operand(mask, True) if mask else None, args, factor, reduces)


TERMS = [
    term("plain", losses.cross_entropy, target="label", reduces=True),
    term("ignoring", losses.cross_entropy, target="holes", factor=0.5, reduces=True, ignore_index=1),
    term("classes", losses.cross_entropy, target="label", factor=2.0, reduces=True, weight=[1.0, 2.0, 0.5]),
    term("masked", losses.value, mask="mask", factor=0.1),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("counts", [[8, 8], [12, 4], [15, 1], [16, 0], [5, 7, 4]])
def test_the_parts_average_to_the_whole(dtype, tolerance, counts):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)
    batch = {
        "x": torch.randn(16, 5, dtype=dtype),
        "label": torch.randint(3, (16,)),
        "holes": torch.randint(3, (16,)),
        "mask": torch.rand(16, dtype=dtype) * (torch.rand(16) > 0.4),
    }
    whole = gradients(model, TERMS, batch)
    parts = averaged(model, TERMS, parts_of(batch, counts))
    torch.testing.assert_close(parts, whole, rtol=0, atol=tolerance)


def test_a_mask_that_leaves_nothing_anywhere_gives_zero():
    model = nn.Linear(5, 3)
    batch = {"x": torch.randn(4, 5), "mask": torch.zeros(4)}
    grads, loss, _ = averaged(model, [TERMS[3]], parts_of(batch, [2, 2]))
    assert loss == 0
    assert all(not grad.any() for grad in grads)


def test_one_number_for_a_batch_counts_for_its_rows():
    model = nn.Linear(5, 3)
    batch = {"x": torch.randn(8, 5)}
    mean = term("mean", lambda out: out.mean())
    torch.testing.assert_close(averaged(model, [mean], parts_of(batch, [6, 2])), gradients(model, [mean], batch))


def test_sums_of_short_numbers_are_kept_in_long_ones():
    shared = shared_term(term("short", losses.value), 1, lambda total: total)
    assert shared.mean({"out": torch.ones(4096, dtype=torch.bfloat16)}, {"x": torch.zeros(4096)}) == 1


def test_the_stopwatch_divides_by_measured_speed(monkeypatch):
    view = nn.Identity()
    shares = RowShares((1.0, 1.0))
    watch = Stopwatch(shares, lambda own: [own, (own[0] / 3, 40)], torch.device("cpu"))
    clock = iter(range(1000))
    monkeypatch.setattr(watch, "_now", lambda: float(next(clock)))
    watch.watch(view)
    for number in range(WARMUP + MEASURED + 5):
        assert shares.at(number) == (1.0, 1.0)
        view(input=torch.zeros(4, 2))
    assert shares.at(40 + AHEAD - 1) == (1.0, 1.0)
    assert shares.at(40 + AHEAD) == pytest.approx((4.0, 4 / 3))
    assert next(clock) < 2 * (WARMUP + MEASURED)
