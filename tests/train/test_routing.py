"""Routed gradients, clipping, accumulation, averages, patience: each against the same written by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from flowconf.api import load
from flowconf.report import ConfigError
from flowconf.train.loop import one_step
from flowconf.train.optim.averages import Averages
from flowconf.train.prepare import prepare
from tests.train.conftest import TINY, assert_same, go_on, killed

ROUTED = TINY.replace("    drop: Dropout(0.1)\n", "").replace(
    "metrics:",
    "  small: {fn: value, input: hidden, weight: 0.5, updates: [stem]}\n"
    "  large: {fn: value, input: logits, weight: -0.1, updates: logits}\nmetrics:",
)


def job_of(folder, text, *overrides):
    job = prepare(load(folder.write(text), overrides), folder.path)
    job.graph.train()
    return job


def gradients(job, rows):
    """The gradients of one step, whose update is of no size."""
    for group in job.learning_rate.groups:
        group["lr"] = 0.0
    job.learning_rate.base = [0.0] * len(job.learning_rate.base)
    losses = one_step(job, rows, 0)
    return {name: parameter.grad for name, parameter in job.graph.named_parameters()}, losses


def by_hand(job, rows):
    batch = job.train.batch(rows, 0)
    model = dict(job.graph.named_parameters())
    hidden = F.relu(F.linear(batch["image"], model["stem.weight"], model["stem.bias"]))
    logits = F.linear(hidden, model["logits.weight"], model["logits.bias"])
    terms = F.cross_entropy(logits, batch["label"]), hidden.mean(), logits.mean()
    return model, terms


@pytest.mark.parametrize("accumulate", [1, 2, 5])
def test_routed_gradients_are_those_of_autograd(folder, accumulate):
    job = job_of(folder, ROUTED, f"+trainer.accumulate={accumulate}")
    assert len(job.active.routes.passes) == 3
    rows = torch.arange(30)
    model, (label, small, large) = by_hand(job, rows)
    expected = dict(zip(model, torch.autograd.grad(label, model.values(), retain_graph=True), strict=True))
    for term, weight, part in ((small, 0.5, "stem"), (large, -0.1, "logits")):
        names = [name for name in model if name.startswith(part)]
        for name, gradient in zip(
            names, torch.autograd.grad(term, [model[name] for name in names], retain_graph=True), strict=True
        ):
            expected[name] = expected[name] + weight * gradient
    found, losses = gradients(job, rows)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
    torch.testing.assert_close(losses[0], label + 0.5 * small - 0.1 * large)
    torch.testing.assert_close(torch.stack(losses[1:]), torch.stack([label, small, large]))


def test_terms_with_the_same_updates_share_a_pass(folder):
    job = job_of(folder, ROUTED.replace("updates: logits", "updates: [stem]"))
    assert [numbers for numbers, _ in job.active.routes.passes] == [[0], [1, 2]]


def test_updates_of_a_frozen_part_move_nothing(folder):
    text = ROUTED.replace("stem: Linear(8, 16)", "stem: {through: 'Linear(8, 16)', frozen: true}")
    found, _ = gradients(job_of(folder, text), torch.arange(30))
    assert found["stem.weight"] is None
    assert found["logits.weight"] is not None


def test_updates_that_name_nothing_are_refused(folder):
    with pytest.raises(ConfigError) as caught:
        load(folder.write(ROUTED.replace("[stem]", "[stm]")))
    assert [(d.code, d.place.line) for d in caught.value.diagnostics] == [("FC0405", 11)]


def test_clipping_by_value_comes_before_clipping_by_norm(folder):
    rows = torch.arange(30)
    plain, _ = gradients(job_of(folder, TINY.replace("Dropout(0.1)", "Identity")), rows)
    text = TINY.replace("Dropout(0.1)", "Identity")
    clipped, _ = gradients(job_of(folder, text, "trainer.clip_value=0.01", "trainer.clip=0.05"), rows)
    parameters = [nn.Parameter(gradient) for gradient in plain.values()]
    for parameter, gradient in zip(parameters, plain.values(), strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_value_(parameters, 0.01)
    nn.utils.clip_grad_norm_(parameters, 0.05)
    for parameter, gradient in zip(parameters, clipped.values(), strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_accumulation_gives_the_weights_of_the_whole_batch(folder):
    text = TINY.replace("Dropout(0.1)", "Identity").replace("name: adamw", "name: sgd")
    whole, parts = (folder.train(f"trainer.accumulate={n}", text=text) for n in (1, 3))
    for name in ("stem.weight", "logits.bias"):
        first, second = (load_file(run.folder / "checkpoints" / "last.safetensors")[name] for run in (whole, parts))
        torch.testing.assert_close(first, second)
    for one, other in zip(whole.log, parts.log, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_averages_are_kept_evaluated_and_are_the_best(folder):
    run = folder.train("trainer.ema=0.9", "trainer.best=val/loss", "trainer.checkpoint_every=1")
    last = load_file(run.folder / "checkpoints" / "last.safetensors")
    best = load_file(run.folder / "checkpoints" / "best.safetensors")
    assert torch.equal(best["stem.weight"], last["@own/average/stem.weight"])
    assert not torch.equal(best["stem.weight"], last["stem.weight"])
    plain = folder.train("trainer.best=val/loss")
    assert torch.equal(load_file(plain.folder / "checkpoints" / "last.safetensors")["stem.weight"], last["stem.weight"])
    assert plain.record["metrics"]["test/loss"] != run.record["metrics"]["test/loss"]


def test_averages_by_hand():
    parameter = nn.Parameter(torch.zeros(2))
    averages = Averages({"a": parameter}, 0.5)
    expected = torch.zeros(2)
    for step in range(30):
        with torch.no_grad():
            parameter += 1
        averages.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
    with averages.applied():
        torch.testing.assert_close(parameter.detach(), expected)
    assert parameter.tolist() == [30, 30]


def test_patience_ends_the_run(folder):
    text = TINY.replace("epochs: 2", "epochs: 50, evaluate_every: 1, patience: 3")
    run = folder.train("optimizer.lr=0.3", "trainer.best=val/loss", text=text)
    evaluated = [line["step"] for line in run.log if "val/loss" in line]
    test = next(line for line in run.log if "test/loss" in line)
    assert evaluated[-1] == test["step"] + 3
    assert evaluated[-1] < 400
    assert run.record["status"] == "finished"
    assert "nothing better for 3 evaluations" in folder.said.getvalue()
    assert max(line["step"] for line in run.log if "train/loss" in line) == evaluated[-1]


RECURRENT = TINY.replace(
    "    drop: Dropout(0.1)\n", "    carried: {through: 'GRUCell(16, 16)', using: {hx: carried}}\n"
)


def test_state_between_calls_begins_anew_with_every_epoch_and_evaluation(folder):
    text = RECURRENT.replace("batch_size: 32", "batch_size: 48")
    job = job_of(folder, text)
    assert job.memory.kept
    plain = folder.train(text=text)
    watched = folder.train("trainer.evaluate_every=2", text=text)
    first, second = (load_file(run.folder / "checkpoints" / "last.safetensors") for run in (plain, watched))
    assert torch.equal(first["carried.weight_hh"], second["carried.weight_hh"])
    with pytest.raises(ConfigError, match="does not support `accumulate`"):
        job_of(folder, text, "trainer.accumulate=2")


def test_state_between_calls_is_part_of_a_checkpoint(folder):
    text = RECURRENT.replace("epochs: 2", "epochs: 2, checkpoint_every: 3")
    whole = folder.train(text=text)
    killed(lambda: folder.train(text=text, name="again.yaml"), 5)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)
