"""Number formats and memory layouts: what computes in what, what skips, and what a checkpoint keeps of it."""

from __future__ import annotations

import os
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from flowconf.api import load
from flowconf.report import MachineError, Place
from flowconf.train import loop
from flowconf.train.commands.train import resume
from flowconf.train.optim.averages import Averages
from flowconf.train.optim.groups import state_bytes
from flowconf.train.optim.optimizers import sgd
from flowconf.train.precision import Precision, on_device
from flowconf.train.prepare import prepare
from flowconf.train.screen import Screen
from tests.train.conftest import TINY, assert_same, killed, weights

PICTURES = """
model:
  inputs: {image: [B, 3, 8, 8]}
  flow:
    stem: Conv2d(3, 8, 3)
    norm: BatchNorm2d(8)
    pool: AdaptiveAvgPool2d(1)
    flat: Flatten
    logits: Linear(8, 4)
data: {name: synthetic, shape: [3, 8, 8], classes: 4, rows: 160, batch_size: 32}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
trainer: {epochs: 2, devices: cpu, checkpoint_every: 3, ema: 0.9}
"""


def test_pictures_with_their_channels_last(folder):
    plain = folder.train(text=PICTURES)
    last = folder.train("trainer.channels_last=true", text=PICTURES)
    assert weights(last).keys() == weights(plain).keys()
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(last)[name], tensor, rtol=1e-4, atol=1e-5)


def test_the_graph_and_its_batches_have_that_layout(folder):
    job = prepare(load(folder.write(PICTURES), ["trainer.channels_last=true"]), folder.path)
    seen = []
    job.graph.stem.register_forward_hook(lambda module, args, output: seen.extend([*args, output]))
    batch = job.train.batch(torch.arange(32), 0)
    job.values(job.active.view, batch)["logits"].sum().backward()
    for tensor in (*seen, batch["image"], job.graph.stem.weight, job.graph.stem.weight.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()


@pytest.mark.parametrize("words", [[], ["optimizer.name=adamw", "~optimizer.momentum"]], ids=["sgd", "adamw"])
def test_going_on_keeps_that_layout(folder, words):
    words = ["trainer.channels_last=true", *words]
    whole = folder.train(*words, text=PICTURES)
    killed(lambda: folder.train(*words, text=PICTURES), 4)
    again = folder.run(resume(folder.runs()[-1], (), Screen(folder.said)))
    assert_same(again, whole)


def test_the_scaler_goes_on_from_the_checkpoint(folder):
    words = ["trainer.precision=fp16", "trainer.checkpoint_every=3", "trainer.ema=0.9"]
    whole = folder.train(*words)
    killed(lambda: folder.train(*words), 5)
    assert_same(folder.run(resume(folder.runs()[-1], (), Screen(folder.said))), whole)


@pytest.mark.parametrize(("precision", "inside"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_losses_and_metrics_compute_in_full_precision(folder, precision, inside):
    job = prepare(load(folder.write(), [f"trainer.precision={precision}"]), folder.path)
    seen = []
    job.graph.stem.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    values = job.values(job.active.view, job.train.batch(torch.arange(4), 0))
    assert seen == [inside]
    assert {value.dtype for value in values.values()} == {torch.float32}


def test_a_step_that_the_scaler_skips_leaves_averages_alone():
    layer = nn.Linear(1, 1)
    averages = Averages(dict(layer.named_parameters()), 0.9)
    precision = Precision("fp16", torch.device("cpu"))
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    reported = []
    for step, factor in enumerate([1.0, float("inf"), 1.0]):
        before, weight = averages.values[0].clone(), layer.weight.detach().clone()
        optimizer.zero_grad()
        precision.scaled(layer(torch.ones(1, 1)).sum() * factor).backward()
        precision.step([optimizer], list(layer.parameters()))
        averages.update(step, precision.skipped)
        reported.append(precision.skipped())
        assert reported[-1] == torch.equal(weight, layer.weight) == torch.equal(before, averages.values[0])
    assert reported == [False, True, False]


def test_a_first_step_that_is_skipped_leaves_no_momentum():
    """torch's kernel would leave memory that nothing was written to, which the next step adds up."""
    mine, theirs = (nn.Parameter(torch.ones(8)) for _ in range(2))
    optimizer, plain = sgd([{"params": [mine]}], momentum=0.9), torch.optim.SGD([theirs], momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    for gradient in (float("inf"), 1.0, 2.0):
        scaler.scale(torch.ones(()))
        mine.grad, theirs.grad = torch.full((8,), gradient * scaler.get_scale()), torch.full((8,), gradient)
        scaler.step(optimizer)
        scaler.update()
        if gradient < float("inf"):
            plain.step()
        else:
            assert not optimizer.state[mine]
        torch.testing.assert_close(mine, theirs)


def test_without_a_scaler_nothing_is_skipped():
    assert not Precision("bf16", torch.device("cpu")).skipped()


@pytest.mark.parametrize(("name", "instead"), [("bf16", "fp16"), ("tf32", "fp32")])
def test_a_device_without_the_format_is_refused_at_the_key(monkeypatch, name, instead):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old")
    place = Place("a.yaml", 3, 4)
    with pytest.raises(MachineError) as raised, on_device(torch.device("cuda"), name, place):
        pass
    (reported,) = raised.value.diagnostics
    assert (reported.message, reported.help, reported.place) == (
        f"`Old` does not support `{name}`",
        f"write `{instead}`",
        place,
    )


def test_deterministic_operations_are_for_the_run_alone(folder, monkeypatch):
    """CUBLAS is asked for it by a variable of the environment, before the first product."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    plain, seen = loop.one_step, []

    def step(job, rows, number):
        seen.append((torch.are_deterministic_algorithms_enabled(), os.environ["CUBLAS_WORKSPACE_CONFIG"]))
        return plain(job, rows, number)

    monkeypatch.setattr(loop, "one_step", step)
    folder.train("trainer.deterministic=true", "trainer.steps=1")
    assert seen == [(True, ":4096:8")]
    assert not torch.are_deterministic_algorithms_enabled()
    assert ", fp32, deterministic" in folder.said.getvalue()


def test_a_run_is_on_its_own_device(monkeypatch):
    """Sharding, streams and what modules of a project allocate follow the current device, which would be the first."""
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: (asked.append(device), nullcontext())[1])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for precision in ("fp32", "tf32"):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        with on_device(torch.device("cuda", 1), precision):
            rounds = precision == "tf32"
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (rounds, rounds)
    assert asked == [torch.device("cuda", 1)] * 4
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_tf32_needs_cuda_and_the_file_is_named(folder):
    with pytest.raises(MachineError) as raised:
        folder.train(text=TINY.replace("devices: cpu", "devices: cpu, precision: tf32"))
    assert raised.value.diagnostics[0].place.line == TINY.count("\n")


@pytest.mark.parametrize(
    ("name", "settings", "copies"),
    [("adamw", {}, 2), ("sgd", {}, 0), ("sgd", {"momentum": 0.9}, 1), ("adagrad", {}, 1), ("rmsprop", {}, 1)],
)
def test_what_an_optimizer_keeps_is_foretold(folder, name, settings, copies):
    words = [f"optimizer.name={name}", *(f"++optimizer.{key}={value}" for key, value in settings.items())]
    job = prepare(load(folder.write(), words), folder.path)
    weights = sum(parameter.nbytes for parameter in job.graph.parameters())
    assert sum(state_bytes(group, job.config.training.optimizer) for group in job.groups) == copies * weights
    (optimizer,) = job.optimizers
    for parameter in job.graph.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kept = sum(value.nbytes for state in optimizer.state.values() for value in state.values() if value.ndim)
    assert kept == copies * weights


def test_the_memory_is_said_before_the_first_step(folder):
    folder.train("trainer.ema=0.9")
    line = "memory     4.24 kB: 848 B weights + 848 B gradients + 1.7 kB optimizer + 848 B averages"
    assert line in folder.said.getvalue()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_formats_of_a_device(folder, precision):
    words = ["trainer.devices=cuda", "trainer.channels_last=true"]
    exact, run = (folder.train(*words, f"trainer.precision={name}", text=PICTURES) for name in ("fp32", precision))
    assert run.record["metrics"]["test/loss"] == pytest.approx(exact.record["metrics"]["test/loss"], rel=0.05)
