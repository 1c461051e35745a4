"""The loop: bit-identical with a hand-written one, repeatable, and unmoved by what is only looked at."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flowconf
from flowconf.language import registry
from flowconf.report import ConfigError, RunError
from flowconf.train.data.builtin import synthetic
from flowconf.train.data.sampling import epoch_order
from flowconf.train.job import Job
from flowconf.train.objective.routing import Routes
from tests.train.conftest import TINY, same, weights


def by_hand(epochs=2, warmup=5, clip=0.5, lr=0.01):
    """What the tiny config with a cosine schedule and clipping means, written out."""
    splits = synthetic(shape=[8], classes=4, rows=320, seed=0)
    image, label = splits.train.tensors["image"], splits.train.tensors["label"]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    batches = math.ceil(len(image) / 32)
    total, step = epochs * batches, 0
    for epoch in range(epochs):
        for rows in epoch_order(len(image), 0, epoch).split(32):
            if step < warmup:
                factor = (step + 1) / warmup
            else:
                factor = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
            optimizer.param_groups[0]["lr"] = lr * factor
            loss = F.cross_entropy(model(image[rows]), label[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            step += 1
    names = {"0": "stem", "3": "logits"}
    found = {f"{names[key[0]]}{key[1:]}": tensor for key, tensor in model.state_dict().items()}
    model.eval()
    tested = splits.test.tensors
    with torch.no_grad():
        right = (model(tested["image"]).argmax(1) == tested["label"]).double().mean()
        return found, F.cross_entropy(model(tested["image"]), tested["label"]), right


def test_bit_identical_with_a_loop_written_by_hand(folder):
    run = folder.train("+schedule={name: cosine, warmup: 5, final: 0.1}", "trainer.clip=0.5", "trainer.best=val/loss")
    expected, loss, accuracy = by_hand()
    assert same(weights(run), expected)
    assert same(weights(run, "best"), expected)
    assert run.record["metrics"]["test/loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert run.record["metrics"]["test/accuracy"] == accuracy.item()


def test_one_seed_gives_the_same_weights_and_logs(folder):
    first, second, other = folder.train(), folder.train(), folder.train("seed=1")
    assert same(weights(first), weights(second))
    assert first.log == second.log
    assert not same(weights(first), weights(other))


def test_what_is_only_looked_at_changes_nothing(folder):
    plain = folder.train()
    watched = folder.train(
        "trainer.evaluate_every=3",
        "trainer.checkpoint_every=2",
        "trainer.log_every=1",
        "metrics={}",
        "trainer.best=val/loss",
    )
    assert same(weights(plain), weights(watched))
    assert [line["step"] for line in watched.log if "val/loss" in line] == [3, 6, 9, 12, 15, 16]


def test_equal_weights_have_equal_values_in_every_evaluation(folder):
    text = TINY.replace("stem: Linear(8, 16)", "noisy: {through: Concat, using: noise}\n    stem: Linear(12, 16)")
    text = text.replace("  flow:", "  flow:\n    noise: {fork: Noise(4)}")
    run = folder.train("optimizer.lr=1e-30", "trainer.evaluate_every=3", text=text)
    found = [line["val/loss"] for line in run.log if "val/loss" in line]
    assert len(found) > 3
    assert len(set(found)) == 1
    expected = {name: value for name, value in run.record["metrics"].items() if "loss" in name}
    assert {name: value for name, value in flowconf.evaluate(run.folder).items() if "loss" in name} == expected


def test_losses_are_means_since_the_last_reading(folder):
    each = [line["train/loss"] for line in folder.train("trainer.log_every=1").log if "train/loss" in line]
    some = [line["train/loss"] for line in folder.train("trainer.log_every=5").log if "train/loss" in line]
    assert len(each) == 16
    expected = [sum(each[start : start + 5]) / len(each[start : start + 5]) for start in range(0, 16, 5)]
    assert some == pytest.approx(expected, rel=1e-5)


def test_the_run_ends_at_epochs_or_steps(folder):
    assert folder.train("trainer.steps=5").log[-2]["step"] == 5
    assert folder.train("trainer.steps=500").log[-1]["step"] == 16
    assert folder.train("trainer.epochs=null", "trainer.steps=20").log[-2]["step"] == 20


def test_the_best_weights_are_tested(folder):
    text = TINY.replace("epochs: 2", "epochs: 6, evaluate_every: 1")
    run = folder.train("optimizer.lr=0.3", "trainer.best=val/loss", text=text)
    evaluated = {line["step"]: line["val/loss"] for line in run.log if "val/loss" in line}
    best = min(evaluated, key=evaluated.get)
    assert best != max(evaluated)
    assert run.record["metrics"]["val/loss"] == evaluated[best]
    assert [line["step"] for line in run.log if "test/loss" in line] == [best]
    assert f"weights of step {best}" in folder.said.getvalue()
    assert not same(weights(run), weights(run, "best"))


def test_of_equal_values_the_latest_weights_are_the_best(folder):
    text = TINY.replace("epochs: 2", "epochs: 9, evaluate_every: 1, patience: 5")
    run = folder.train("optimizer.lr=1e-30", text=text)
    evaluated = {line["step"]: line["val/accuracy"] for line in run.log if "val/accuracy" in line}
    assert len(set(evaluated.values())) == 1
    assert max(evaluated) == 6, "an equal value is no improvement"
    assert f"weights of step {max(evaluated)}" in folder.said.getvalue()


def test_without_a_validation_split_the_last_weights_are_the_best(folder):
    run = folder.train("+data.validation=0", "~trainer.best")
    assert same(weights(run), weights(run, "best"))
    assert set(run.record["metrics"]) == {"test/loss", "test/loss/label", "test/accuracy"}
    assert folder.train("+data.validation=0", "~trainer.best", "+data.test=0").record["metrics"] == {}


def test_frozen_parts_do_not_change(folder):
    text = TINY.replace("stem: Linear(8, 16)", "stem: {through: 'Linear(8, 16)', frozen: true}")
    run = folder.train(text=text)
    torch.manual_seed(0)
    start = nn.Linear(8, 16)
    assert torch.equal(weights(run)["stem.weight"], start.weight)
    assert ["stem", "0", "144"] in [line.split() for line in folder.said.getvalue().splitlines()]


def test_groups_by_path(folder):
    still = folder.train("+optimizer.groups={stem: {lr: 0.0, weight_decay: 0.0}}")
    torch.manual_seed(0)
    assert torch.equal(weights(still)["stem.weight"], nn.Linear(8, 16).weight)


def test_a_loss_that_is_not_finite_ends_the_run(folder):
    with pytest.raises(RunError, match="`train/loss/label` is not finite between steps 1 and 8"):
        folder.train("optimizer.lr=1e30")
    record = folder.run(folder.runs()[0]).record
    assert record["status"] == "failed"


def test_only_what_the_losses_need_runs_in_training(folder, monkeypatch):
    calls = []

    class Counted(nn.Identity):
        def forward(self, x):
            if type(x) is torch.Tensor:  # and not the shape check's
                calls.append(self.training)
            return x

    monkeypatch.setitem(registry.modules.registered, "Counted", Counted)
    text = TINY.replace("    logits: L", "    probe: {fork: Counted}\n    logits: L").replace(
        "metrics:", "metrics:\n  size: {fn: value, input: probe}"
    )
    folder.train(text=text)
    assert calls
    assert not any(calls)


def test_values_are_freed_before_the_backward_pass(folder, monkeypatch):
    """What autograd needs of them, it holds itself; logits of a large vocabulary are a tenth of a step's memory."""
    logits, alive = [], []

    def values(job, view, batch, compute=Job.values):
        found = compute(job, view, batch)
        logits.append(weakref.ref(found["logits"]))
        return found

    def backward(routes, parts, scaled, compute=Routes.backward):
        alive.append(logits[-1]() is not None)
        compute(routes, parts, scaled)

    monkeypatch.setattr(Job, "values", values)
    monkeypatch.setattr(Routes, "backward", backward)
    folder.train("trainer.accumulate=2")
    assert alive
    assert not any(alive)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions_train(folder, precision):
    exact, run = (folder.train(f"trainer.precision={name}", "trainer.clip=1") for name in ("fp32", precision))
    assert run.record["metrics"]["test/loss"] == pytest.approx(exact.record["metrics"]["test/loss"], rel=0.05)
    assert not same(weights(run), weights(exact))
    assert weights(run)["stem.weight"].dtype == torch.float32


def test_several_terms_with_weights_and_masks(folder):
    text = TINY.replace(
        "metrics:",
        "  small: {fn: value, input: hidden, weight: 0.01}\n"
        "  odd: {fn: cross_entropy, input: logits, target: label, mask: label}\nmetrics:",
    )
    log = folder.train("trainer.log_every=1", text=text).log
    for line in log:
        for split in ("train", "val", "test"):
            if f"{split}/loss" in line:
                total = line[f"{split}/loss/label"] + 0.01 * line[f"{split}/loss/small"] + line[f"{split}/loss/odd"]
                assert line[f"{split}/loss"] == pytest.approx(total, rel=1e-5)


def test_torchmetrics_by_class_name(folder):
    text = TINY.replace(
        "metrics:",
        "metrics:\n  theirs: {fn: Accuracy, input: logits, target: label, args: {task: multiclass, num_classes: 4}}",
    )
    metrics = folder.train(text=text).record["metrics"]
    assert metrics["val/theirs"] == pytest.approx(metrics["val/accuracy"])


def test_torchmetrics_of_a_module_that_the_package_does_not_export(folder):
    text = TINY.replace("metrics:", "metrics:\n  same: {fn: RandScore, input: label, target: label}")
    assert folder.train(text=text).record["metrics"]["val/same"] == 1


def test_torchmetrics_are_named_in_suggestions(folder):
    with pytest.raises(ConfigError) as caught:
        folder.train("metrics.accuracy.fn=F1Scor")
    assert [(d.code, d.help) for d in caught.value.diagnostics] == [
        ("FC0401", "write `F1Score`, and `args: {task: ...}`")
    ]


def test_losses_and_metrics_that_do_not_fit_are_reported_before_the_first_step(folder):
    text = TINY.replace("input: logits, target: label}\noptimizer", "input: logits, target: image}\noptimizer").replace(
        "fn: cross_entropy, input: logits", "fn: mse, input: logits"
    )
    with pytest.raises(ConfigError) as caught:
        folder.train(text=text)
    assert [(d.code, d.path, d.place.line) for d in caught.value.diagnostics] == [
        ("FC0406", "loss.label", 11),
        ("FC0406", "metrics.accuracy", 13),
    ]
    assert not (folder.path / "runs").exists()
