"""Terms of the loss: per-element values, weights, masks, and means over batches of any size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from flowconf.language.training import LossSection
from flowconf.train.objective import losses, metrics
from flowconf.train.objective.terms import Average, means_of, term_of, weighted

FIELDS = ("label", "image", "mask")


def term(function, reduces=True, **section):
    section = LossSection(fn="any", **section)
    return term_of("a", section, function, FIELDS, lambda name: name == "y", section.weight, reduces)


@pytest.fixture
def values():
    torch.manual_seed(0)
    return {"y": torch.randn(6, 4, 5)}


def test_the_plain_mean_is_torchs(values):
    label = torch.randint(4, (6, 5))
    mean = term(losses.cross_entropy, input="y", target="label").mean(values, {"label": label})
    torch.testing.assert_close(mean, F.cross_entropy(values["y"], label))


def test_a_class_axis_at_the_end(values):
    label = torch.randint(5, (6, 4))
    mean = term(losses.cross_entropy, input="y", target="label", args={"dim": -1}).mean(values, {"label": label})
    assert torch.equal(mean, F.cross_entropy(values["y"].reshape(-1, 5), label.reshape(-1)))


@pytest.mark.parametrize("classes", [None, [0.5, 1.0, 2.0, 0.0]])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_mask_of_ones_changes_nothing(values, classes, ignored):
    label = torch.randint(3, (6, 5))
    if ignored:
        label[:, 2:] = -100
    args = {"weight": classes}
    batch = {"label": label, "mask": torch.ones(6)}
    plain = term(losses.cross_entropy, input="y", target="label", args=args).mean(values, batch)
    masked = term(losses.cross_entropy, input="y", target="label", mask="mask", args=args).mean(values, batch)
    torch.testing.assert_close(plain, masked)
    torch.testing.assert_close(plain, F.cross_entropy(values["y"], label, classes and torch.tensor(classes)))


def test_a_mask_picks_elements_from_the_left(values):
    goal = torch.zeros(6, 4, 5)
    mask = torch.tensor([True, False, True, False, False, False])
    mean = term(losses.mse, input="y", target="label", mask="mask").mean(values, {"label": goal, "mask": mask})
    torch.testing.assert_close(mean, values["y"][[0, 2]].square().mean())


@pytest.mark.parametrize("missing", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("loss", [losses.mse, losses.l1, losses.huber, losses.bce_with_logits])
def test_what_a_mask_leaves_out_may_hold_anything(loss, missing):
    y = torch.randn(6, 3, requires_grad=True)
    known = torch.tensor([[True, False, True]] * 6)
    goal = torch.rand(6, 3)
    batch = {"label": goal.masked_fill(~known, missing), "mask": known}
    mean = term(loss, input="y", target="label", mask="mask").mean({"y": y}, batch)
    mean.backward()
    torch.testing.assert_close(mean, loss(y[known], goal[known]).mean())
    assert bool((y.grad[~known] == 0).all())
    assert bool(y.grad.isfinite().all())


def test_a_masked_label_need_not_be_a_class():
    y = torch.randn(4, 3, requires_grad=True)
    batch = {"label": torch.tensor([0, 255, 2, 255]), "mask": torch.tensor([1, 0, 1, 0])}
    mean = term(losses.cross_entropy, input="y", target="label", mask="mask").mean({"y": y}, batch)
    torch.testing.assert_close(mean, torch.nn.functional.cross_entropy(y[[0, 2]], torch.tensor([0, 2])))


def test_an_empty_mask_gives_zero_and_no_gradient(values):
    y = values["y"].requires_grad_()
    batch = {"label": torch.zeros(6, 4, 5), "mask": torch.zeros(6, dtype=torch.bool)}
    mean = term(losses.mse, input="y", target="label", mask="mask").mean({"y": y}, batch)
    mean.backward()
    assert mean == 0
    assert not y.grad.any()


def test_a_mask_that_does_not_fit_is_refused(values):
    batch = {"label": torch.zeros(6, 4, 5), "mask": torch.ones(6, 5)}
    with pytest.raises(ValueError, match=r"a mask of shape \[6, 5\] does not match"):
        term(losses.mse, input="y", target="label", mask="mask").mean(values, batch)


def test_shapes_that_torch_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="do not match"):
        losses.mse(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match="do not match logits"):
        losses.cross_entropy(torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.int64))


def test_targets_are_fields_first_and_inputs_are_values_first():
    section = LossSection(fn="any", input=["label", "image"], target=["label"], mask="y")
    found = term_of("a", section, losses.mse, FIELDS, lambda name: name in ("label", "y"))
    assert [source.in_batch for source in found.operands] == [False, True, True]
    assert found.references == ["label", "y"]


def test_the_total_is_the_weighted_sum(values):
    first = term(losses.value, reduces=False, input="y")
    second = term(losses.value, reduces=False, input="y", weight=-2)
    means = means_of([first, second], values, {})
    torch.testing.assert_close(weighted(means, [1, -2]), -values["y"].mean())
    assert torch.equal(means[0], means[1])


def test_a_failing_loss_says_its_name(values):
    with pytest.raises(ValueError) as caught:
        means_of([term(losses.mse, input="y", target="label")], values, {"label": torch.zeros(1)})
    assert caught.value.__notes__ == ["in the loss `a`"]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 1000))
def test_an_average_does_not_depend_on_the_batches(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = sum(sizes)
    y = torch.randn(rows, 3, generator=generator)
    label = torch.randint(3, (rows,), generator=generator)
    label[rows // 2 :] = -100
    whole, parts = (Average(term(losses.cross_entropy, input="y", target="label")) for _ in range(2))
    whole.update({"y": y}, {"label": label})
    for some, goal in zip(y.split(sizes), label.split(sizes), strict=True):
        parts.update({"y": some}, {"label": goal})
    assert parts.compute() == pytest.approx(whole.compute(), nan_ok=True, rel=1e-6)


def test_one_number_for_a_batch_counts_for_its_rows():
    average = Average(term(lambda y: y.sum(), reduces=False, input="y"))
    average.update({"y": torch.ones(1)}, {"label": torch.zeros(1)})
    average.update({"y": torch.ones(3)}, {"label": torch.zeros(3)})
    assert average.compute() == (1 * 1 + 3 * 3) / 4


def test_accuracy():
    scores = torch.tensor([[1.0, 3.0, 2.0], [3.0, 2.0, 1.0], [0.0, 0.0, 9.0]])
    label = torch.tensor([2, 0, -100])
    right, counted = metrics.accuracy(scores, label)
    assert right.tolist()[:2] == [0, 1]
    assert counted.tolist() == [True, True, False]
    right, _ = metrics.accuracy(scores, label, top=2)
    assert right.tolist()[:2] == [1, 1]
    assert metrics.accuracy(torch.tensor([-1.0, 2.0]), torch.tensor([0, 1]))[0].tolist() == [1, 1]


def test_exact_needs_every_element_that_counts():
    scores = torch.eye(3)[torch.tensor([[0, 1, 2], [0, 1, 1]])]
    label = torch.tensor([[0, 1, -100], [0, 1, 2]])
    assert metrics.exact(scores, label).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mse", F.mse_loss), ("l1", F.l1_loss), ("smooth_l1", F.smooth_l1_loss), ("huber", F.huber_loss),
        ("bce_with_logits", F.binary_cross_entropy_with_logits), ("bce", F.binary_cross_entropy),
        ("poisson_nll", F.poisson_nll_loss),
    ],
)  # fmt: skip
def test_reduced_is_the_mean_of_the_elements_and_torchs(name, reference):
    torch.manual_seed(1)
    predicted, target = torch.rand(5, 3), torch.rand(5, 3)
    function = getattr(losses, name)
    fused = function(predicted, target, reduction="mean")
    assert torch.equal(fused, reference(predicted, target))
    torch.testing.assert_close(function(predicted, target).mean(), fused)


def test_the_other_losses_are_torchs():
    torch.manual_seed(1)
    x, p = torch.randn(5, 3).log_softmax(1), torch.rand(5, 3).softmax(1)
    torch.testing.assert_close(losses.kl_div(x, p).mean(), F.kl_div(x, p, reduction="batchmean"))
    label = torch.tensor([0, 1, 2, -100, 1])
    values, weights = losses.nll(x, label)
    torch.testing.assert_close((values * weights).sum() / weights.sum(), F.nll_loss(x, label))
    variance = torch.rand(5, 3) + 0.1
    torch.testing.assert_close(losses.gaussian_nll(x, variance, p).mean(), F.gaussian_nll_loss(x, p, variance))
    torch.testing.assert_close(losses.cosine(x, p), 1 - F.cosine_similarity(x, p, dim=-1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_class_indices_may_be_any_integers(dtype):
    logits, label = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    for loss, weight in ((losses.cross_entropy, None), (losses.cross_entropy, [1.0, 2.0, 3.0]), (losses.nll, None)):
        args = {} if weight is None else {"weight": weight}
        found, expected = (loss(logits, given, **args) for given in (label.to(dtype), label))
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    with pytest.raises(ValueError, match="class indices must be integers"):
        losses.nll(logits, label.float())


@pytest.mark.parametrize(("shape", "dim"), [((5, 3), 1), ((5, 3, 4), 1), ((5, 4, 3), -1), ((5, 3, 4, 4), 1)])
def test_each_label_has_its_weight_of_positive_targets(shape, dim):
    torch.manual_seed(1)
    logits, target = torch.randn(shape), torch.randint(2, shape)
    weights = [1.0, 2.5, 0.0]
    along = torch.tensor(weights).reshape([3 if axis == dim % len(shape) else 1 for axis in range(len(shape))])
    factor = torch.where(target == 1, along.expand(shape), 1.0)
    plain = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    torch.testing.assert_close(losses.bce_with_logits(logits, target, pos_weight=weights, dim=dim), plain * factor)
    mean = losses.bce_with_logits(logits, target, pos_weight=weights, dim=dim, reduction="mean")
    torch.testing.assert_close(mean, (plain * factor).mean())


@pytest.mark.parametrize(("shape", "dim"), [((5, 3), 1), ((5,), 1), ((5, 2, 2), 3)])
def test_weights_that_are_not_one_for_each_label_are_refused(shape, dim):
    with pytest.raises(ValueError, match="2 weights do not match"):
        losses.bce_with_logits(torch.randn(shape), torch.ones(shape), pos_weight=[1.0, 2.0], dim=dim)


def test_boolean_targets_are_numbers():
    logits = torch.randn(4)
    goal = torch.tensor([True, False, True, True])
    assert torch.equal(losses.bce_with_logits(logits, goal), losses.bce_with_logits(logits, goal.float()))
