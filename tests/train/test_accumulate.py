"""A batch in parts gives the step of the whole batch, whatever its elements count by."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from flowconf.language import registry
from flowconf.train.job import Job
from flowconf.train.objective.parts import whole
from flowconf.train.objective.terms import Operand, Term
from tests.train.conftest import TINY

BASE = """
model:
  inputs: {image: [B, 8]}
  flow:
    stem: "Linear(8, 16) >> Tanh"
    pick: {from: stem, through: "Linear(16, 1) >> Reshape()"}
    soft: {from: pick, through: Sigmoid}
    hard: {from: pick, through: Positive}
    guess: {from: pick, through: Guess}
    logits: {from: stem, through: "Linear(16, 4)"}
data: {name: synthetic, shape: [8], classes: 4, rows: 320, batch_size: 32}
loss:
  label: LABEL
optimizer: {name: sgd, lr: 0.5}
trainer: {steps: 12, devices: cpu}
"""


class Positive(nn.Module):
    """Which rows are selected: 1 or 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0).float()


class Guess(nn.Module):
    """A label of the graph's own, -100 where it has none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, (x * 7).long() % 4, -100)


OPERANDS = (Operand("x", in_batch=False), Operand("w", in_batch=False))


def by_confidence(logits, target):
    """Each row counts as much as it is sure."""
    return nn.functional.cross_entropy(logits, target, reduction="none"), logits.softmax(1).amax(1)


@pytest.fixture
def modules(monkeypatch):
    for module in (Positive, Guess):
        monkeypatch.setitem(registry.modules.registered, module.__name__, module)
    monkeypatch.setitem(registry.losses.registered, "by_confidence", by_confidence)


def weights(run):
    return load_file(run.folder / "checkpoints" / "last.safetensors")


LOSSES = {
    "a mask that the graph decides": "{fn: cross_entropy, input: logits, target: label, mask: hard}",
    "a mask that is learned": "{fn: cross_entropy, input: logits, target: label, mask: soft}",
    "labels that the graph gives": "{fn: cross_entropy, input: logits, target: guess}",
    "weights that a loss computes": "{fn: by_confidence, input: logits, target: label}",
    "one number for each element": "{fn: value, input: pick}",
}


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_in_parts_is_the_batch(folder, loss):
    text = BASE.replace("LABEL", LOSSES[loss])
    one, parts, uneven = (weights(folder.train(f"trainer.accumulate={k}", text=text)) for k in (1, 4, 5))
    for name in ("stem.0.weight", "pick.0.weight", "logits.weight"):
        torch.testing.assert_close(parts[name], one[name], rtol=0, atol=2e-6)
        torch.testing.assert_close(uneven[name], one[name], rtol=0, atol=2e-6)


@pytest.mark.usefixtures("modules")
def test_the_terms_of_a_loss_count_each_by_its_own(folder):
    text = BASE.replace("LABEL", LOSSES["a mask that is learned"]).replace(
        "optimizer:", f"  plain: {LOSSES['one number for each element']}\noptimizer:"
    )
    one, parts = (weights(folder.train(f"trainer.accumulate={k}", text=text)) for k in (1, 3))
    torch.testing.assert_close(parts["stem.0.weight"], one["stem.0.weight"], rtol=0, atol=2e-6)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 1000), st.sampled_from([0.0, 0.5, 1.0]))
def test_contributions_add_up_to_the_mean_and_to_its_gradient(parts, seed, selected):
    generator = torch.Generator().manual_seed(seed)
    rows = sum(parts)
    x = torch.randn(rows, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    w = torch.rand(rows, 3, dtype=torch.float64, generator=generator)
    w = (w * (torch.rand(rows, 1, generator=generator) < selected)).requires_grad_()
    term = Term("a", lambda x, w: (x.square(), w), OPERANDS, None, {}, 1.0, reduces=False)
    values = [{"x": some, "w": share} for some, share in zip(x.split(parts), w.split(parts), strict=True)]
    total = whole(term, [term.sums(each, each) for each in values])
    added = torch.stack([term.part(each, each, total) for each in values]).sum()
    mean = term.mean({"x": x, "w": w}, {"x": x})
    torch.testing.assert_close(added, mean)
    torch.testing.assert_close(torch.autograd.grad(added, (x, w)), torch.autograd.grad(mean, (x, w)))


NOISY = (
    TINY.replace("    logits:", "    chosen: 'Linear(16, 1) >> Sigmoid >> Reshape()'\n    logits:")
    .replace("logits: Linear(16, 4)", "norm: {from: drop, through: BatchNorm1d(16)}\n    logits: Linear(16, 4)")
    .replace("target: label}\nmetrics", "target: label, mask: chosen}\nmetrics")
)


def test_counting_leaves_no_trace_and_sees_the_same_random_numbers(folder, monkeypatch):
    contributed, part = [], Term.part

    def noted(term, values, batch, whole):
        contributed.append((term.sums(values, batch).detached(), whole))
        return part(term, values, batch, whole)

    monkeypatch.setattr(Term, "part", noted)
    run = folder.train("trainer.accumulate=4", "trainer.steps=3", text=NOISY)
    assert int(weights(run)["norm.num_batches_tracked"]) == 3 * 4
    assert len(contributed) == 3 * 4
    for step in range(3):
        own = contributed[4 * step : 4 * step + 4]
        total = own[0][1]
        torch.testing.assert_close(sum(sums.weights for sums, _ in own), total.weights)
        torch.testing.assert_close(sum(sums.values for sums, _ in own), total.values)


def test_the_graph_runs_twice_only_where_it_computes_the_weights(folder, monkeypatch):
    passes, values = [], Job.values

    def counted(job, view, batch):
        passes.append(job.graph.training)
        return values(job, view, batch)

    monkeypatch.setattr(Job, "values", counted)

    def trained(text):
        passes.clear()
        folder.train("trainer.accumulate=2", "trainer.steps=5", text=text)
        return sum(passes)

    assert trained(TINY) == 10
    assert trained(TINY.replace("target: label}\nmetrics", "target: label, args: {ignore_index: 2}}\nmetrics")) == 10
    assert trained(NOISY) == 20
