"""A run on a CUDA device: the CPU's numbers, a loop that never waits, CUDA graphs, exact resume, missing memory."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import flowconf
from flowconf.language import registry
from flowconf.report import FlowconfError
from flowconf.train import job, loop, replay
from flowconf.train.commands.predict import predict
from flowconf.train.cuda_recorder import CudaRecorder
from flowconf.train.data.splits import Splits
from tests.train.conftest import TINY, assert_same, fall, go_on
from tests.train.test_precision import PICTURES
from tests.train.test_streams import Noisy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
CUDA = "trainer.devices=cuda"
STEADY = TINY.replace("    drop: Dropout(0.1)\n", "")
"""A config in which nothing is random after the first step: a device draws other numbers than the CPU."""
FULL = [
    "data.rows=352",
    "trainer.ema=0.9",
    "trainer.clip=1",
    "trainer.clip_value=0.5",
    "trainer.accumulate=2",
    "trainer.log_every=4",
    "trainer.evaluate_every=5",
    "trainer.checkpoint_every=3",
]
"""Evaluations, checkpoints and readings of the losses at different steps, and all that stands between two of them."""


def weights(run, name="best"):
    return load_file(run.folder / "checkpoints" / f"{name}.safetensors")


@pytest.mark.parametrize("words", [[], FULL, ["optimizer.name=sgd", "optimizer.lr=0.1"]], ids=["", "full", "sgd"])
def test_the_numbers_are_those_of_the_cpu(folder, words):
    here, there = (folder.train(*words, f"trainer.devices={device}", text=STEADY) for device in ("cpu", "cuda"))
    assert len(here.log) == len(there.log)
    for mine, theirs in zip(here.log, there.log, strict=True):
        losses = {name: value for name, value in mine.items() if "loss" in name}
        assert {name: theirs[name] for name in losses} == pytest.approx(losses, rel=1e-4)
    for name, tensor in weights(here).items():
        if not name.startswith("flowconf"):
            torch.testing.assert_close(weights(there)[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.fixture
def no_waiting(monkeypatch):
    """A step raises when it waits for the device, after those at which optimizers and kernels are set up."""
    plain, seen = loop.one_step, []

    def step(job, rows, number):
        torch.cuda.set_sync_debug_mode("error" if len(seen) > 3 else "default")
        try:
            return plain(job, rows, number)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            seen.append(number)

    monkeypatch.setattr(loop, "one_step", step)
    yield seen
    assert len(seen) > 10


@pytest.mark.parametrize(
    "words",
    [
        [],
        FULL,
        ["trainer.precision=bf16"],
        ["trainer.precision=tf32"],
        ["trainer.precision=fp16"],
        ["trainer.compile=true"],
        ["optimizer.name=sgd", "optimizer.lr=0.1", "optimizer.momentum=0.9"],
        ["+loss.label.weight={linear: {from: 1, to: 0.5}}"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_step_never_waits_for_the_device(folder, no_waiting, words):
    assert folder.train(CUDA, *words).record["status"] == "finished"


@pytest.fixture
def streamed(monkeypatch):
    """A data set whose batches are made one by one, on the CPU."""
    monkeypatch.setitem(registry.datasets.registered, "noisy", lambda: Splits(Noisy(320), Noisy(32), Noisy(16)))
    start, end = STEADY.index("data:"), STEADY.index("loss:")
    return f"{STEADY[:start]}data: {{name: noisy, batch_size: 32}}\n{STEADY[end:]}"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_the_cpu_do_not_wait_either(folder, no_waiting, streamed, workers):
    run = folder.train(CUDA, f"data.workers={workers}", text=streamed)
    here = folder.train("trainer.devices=cpu", text=streamed)
    for name, tensor in weights(here, "last").items():
        if not name.startswith("@"):
            torch.testing.assert_close(weights(run, "last")[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_a_compiled_run_gives_the_numbers_of_the_plain_one(folder, mode):
    plain, compiled = (
        folder.train(CUDA, "data.drop_last=true", *words, text=STEADY) for words in ([], [f"trainer.compile={mode}"])
    )
    for name in ("train/loss", "val/loss"):
        losses = [[line[name] for line in run.log if name in line] for run in (plain, compiled)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_cuda_graphs_are_replayed(folder):
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    folder.train(CUDA, "data.drop_last=true", "trainer.compile=reduce-overhead", "optimizer.name=rmsprop")
    assert counters["inductor"]["cudagraph_skips"] == 0
    assert torch._inductor.cudagraph_trees.get_manager(0, create_if_none_exists=False) is not None


REPLAYED = [CUDA, "trainer.compile=reduce-overhead", "trainer.deterministic=true"]


@pytest.fixture
def recorded(monkeypatch):
    """The functions that were recorded."""
    found, record = [], CudaRecorder.record

    def noted(self, function):
        launch = record(self, function)
        found.append(function)
        return launch

    monkeypatch.setattr(CudaRecorder, "record", noted)
    return found


@pytest.mark.parametrize(
    ("words", "recordings"),
    [
        ([], 1),
        (["data.rows=352", "trainer.epochs=5"], 2),
        (["trainer.ema=0.9", "trainer.clip=0.1", "trainer.clip_value=0.05", "schedule.name=cosine"], 1),
        (["optimizer={name: sgd, lr: 0.1, momentum: 0.9}", "schedule.name=linear"], 1),
        (["optimizer.amsgrad=true", "trainer.precision=bf16"], 1),
        (["+loss.label.weight={linear: {from: 1, to: 0.5}}"], 1),
        (["trainer.epochs=4", "+turns={one: {loss: label, updates: logits}, two: {loss: label}}"], 2),
        (["+phases={first: {until: {step: 8}, freeze: stem}}"], 2),
    ],
    ids=lambda words: " ".join(words)[:40] if isinstance(words, list) else "",
)
def test_replayed_steps_have_the_bits_of_the_steps(folder, recorded, monkeypatch, words, recordings):
    replayed = folder.train(*REPLAYED, *words)
    assert len(recorded) == 2 * recordings, folder.said.getvalue()
    monkeypatch.setattr(replay, "WARM_UP", 10**9)
    assert_same(replayed, folder.train(*REPLAYED, *words))
    assert len(recorded) == 2 * recordings


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_the_cpu_are_replayed_too(folder, recorded, monkeypatch, streamed, workers):
    replayed = folder.train(*REPLAYED, f"data.workers={workers}", text=streamed)
    assert len(recorded) == 2
    monkeypatch.setattr(replay, "WARM_UP", 10**9)
    assert_same(replayed, folder.train(*REPLAYED, f"data.workers={workers}", text=streamed))


class Waits(nn.Module):
    def forward(self, x):
        return x / x.abs().max().item() if self.training else x


class Refuses(nn.Module):
    """Waits for the device only while it is recorded."""

    def forward(self, x):
        return x / x.abs().max().item() if torch.cuda.is_current_stream_capturing() else x


@pytest.mark.parametrize(
    ("module", "reason"),
    [(Waits, r"a step waits for the device \(.*test_cuda.py:\d+\)"), (Refuses, "a step cannot be recorded: .*CUDA.*")],
)
def test_a_run_goes_on_where_a_step_cannot_be_replayed(folder, monkeypatch, module, reason):
    """With its dropout, whose generator a recording that fails leaves as it was."""
    monkeypatch.setattr(registry.modules, "registered", {**registry.modules.registered, "Added": module})
    monkeypatch.setattr(job, "compiled", lambda view, mode, replayed, device: view)
    text = TINY.replace("    hidden: ReLU\n", "    hidden: ReLU\n    added: Added\n")
    found = folder.train(*REPLAYED, text=text)
    assert re.search(f"\nCUDA graphs of forward and backward alone: {reason}\n", folder.said.getvalue())
    monkeypatch.setattr(replay, "WARM_UP", 10**9)
    assert_same(found, folder.train(*REPLAYED, text=text))


def test_a_recording_that_fails_leaves_generator_and_allocator_as_they_were():
    """Memory that another stream has used, as that of uploads, is used again only while nothing is recorded."""
    recorder, side = CudaRecorder(torch.device("cuda", 0)), torch.cuda.Stream()
    with recorder.block():
        with pytest.raises(RuntimeError, match="captur"):
            recorder.record(lambda: torch.rand(4, device="cuda").sum().item())
        torch.rand(4, device="cuda")
        before = torch.cuda.memory_stats()["active_bytes.all.current"]
        for _ in range(4):
            torch.empty(1 << 20, device="cuda").record_stream(side)
        torch.cuda.synchronize()
        torch.empty(1, device="cuda")
        assert torch.cuda.memory_stats()["active_bytes.all.current"] <= before
        assert recorded_ones(recorder).tolist() == [1.0, 1.0]


def recorded_ones(recorder):
    """What a recording has made that is dropped at the end."""
    found = []
    recorder.record(lambda: found.append(torch.ones(2, device="cuda")))()
    return found[0]


def test_memory_that_is_left_of_dropped_recordings_does_not_hinder_new_ones():
    recorder = CudaRecorder(torch.device("cuda", 0))
    with recorder.block():
        left = [recorded_ones(recorder) for _ in range(3)]
        assert torch.stack(left).tolist() == [[1.0, 1.0]] * 3


class CountsOnTheHost(nn.Module):
    """Counts in a tensor that is not on the device: no kernel does that."""

    def __init__(self):
        super().__init__()
        self.calls = torch.zeros(())

    def forward(self, x):
        self.calls += self.training
        return x * 0.9**self.calls


def test_a_tensor_of_the_host_that_a_step_changes_is_found(folder, monkeypatch):
    monkeypatch.setattr(registry.modules, "registered", {**registry.modules.registered, "Added": CountsOnTheHost})
    monkeypatch.setattr(job, "compiled", lambda view, mode, replayed, device: view)
    folder.train(*REPLAYED, text=TINY.replace("    hidden: ReLU\n", "    hidden: ReLU\n    added: Added\n"))
    assert "forward and backward alone: a step changes `added.calls`" in folder.said.getvalue()


def test_replayed_steps_never_wait_for_the_device(folder, monkeypatch):
    launched = []

    def replayed(self, *given):
        torch.cuda.set_sync_debug_mode("error")
        try:
            launched.append(given)
            return plain(self, *given)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    plain = replay.Replay._replayed
    monkeypatch.setattr(replay.Replay, "_replayed", replayed)
    folder.train(*REPLAYED, "trainer.ema=0.9", "schedule.name=cosine")
    assert len(launched) == 16 - replay.WARM_UP


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("step", [1, 5, 8, 14])
def test_a_run_that_fell_goes_on_bit_by_bit(folder, step, precision):
    words = [CUDA, *FULL, f"trainer.precision={precision}"]
    whole = folder.train(*words)
    fall(folder, words, step)
    assert_same(go_on(folder), whole)


def test_a_deterministic_run_repeats_bit_by_bit(folder):
    first, second = (folder.train(CUDA, "trainer.deterministic=true", text=PICTURES) for _ in range(2))
    assert_same(first, second)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_run_that_fell_goes_on_bit_by_bit(folder, mode):
    """The dropout of a graph that is recorded again is that of the steps that are left."""
    words = [CUDA, "data.drop_last=true", f"trainer.compile={mode}", "trainer.checkpoint_every=3"]
    whole = folder.train(*words)
    fall(folder, words, 8)
    torch._dynamo.reset()
    assert_same(go_on(folder), whole)


def test_evaluations_change_no_number_of_training(folder):
    """They seed the generator of the device, from which dropout draws."""
    often, once = (folder.train(CUDA, f"trainer.evaluate_every={every}") for every in (1, 20))
    for name, tensor in weights(often, "last").items():
        if not name.startswith("@"):
            assert torch.equal(weights(once, "last")[name], tensor)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_run_goes_on_bit_by_bit_on_another_device(folder):
    """There, the generator of the device continues, and everything of the run is on this device."""
    whole = folder.train("trainer.devices=cuda:0", "trainer.checkpoint_every=3")
    fall(folder, ["trainer.devices=cuda:0", "trainer.checkpoint_every=3"], 8)
    before = torch.cuda.memory_allocated(0)
    again = go_on(folder, None, "trainer.devices=cuda:1")
    assert torch.cuda.memory_allocated(0) <= before
    for name, tensor in weights(whole, "last").items():
        assert torch.equal(weights(again, "last")[name], tensor), name


def test_the_peak_of_memory_is_that_of_the_run(folder):
    large = torch.zeros(1 << 28, device="cuda")
    del large
    found = folder.train(CUDA).record["resources"]["device_memory"]
    assert 0 < found < 1 << 28


def test_predictions_are_not_rounded(folder):
    """torch multiplies in convolutions with TF32 where it is not told otherwise."""
    run = folder.train("trainer.devices=cpu", text=PICTURES)
    graph = flowconf.load_run(str(run.folder))
    images = torch.randn(64, 3, 8, 8)
    with torch.no_grad():
        expected = graph.eval()(images)
    found = predict(graph, {"image": images})["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def little_memory():
    """A process that may take a hundredth of the device."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def test_a_step_that_finds_no_memory_is_named(folder, little_memory):
    text = STEADY.replace("Linear(8, 16)", "Linear(8, 100000)").replace("Linear(16, 4)", "Linear(100000, 4)")
    with pytest.raises(torch.OutOfMemoryError) as raised:
        folder.train(CUDA, "data.rows=40000", "data.batch_size=20000", text=text)
    reported = "\n".join(raised.value.__notes__)
    assert "in step `stem` (tiny.yaml:5:5), which got [" in reported
    assert "out of memory" in reported
    assert "`trainer.precision=bf16`" in reported


def test_weights_that_do_not_fit_the_device_say_so(folder, little_memory):
    text = STEADY.replace("Linear(8, 16)", "Linear(8, 40000000)").replace("Linear(16, 4)", "Linear(40000000, 4)")
    with pytest.raises((torch.OutOfMemoryError, FlowconfError)) as raised:
        folder.train(CUDA, text=text)
    reported = "\n".join([str(raised.value), *getattr(raised.value, "__notes__", ())])
    assert "out of memory" in reported


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_team_of_one_on_nccl_gives_the_numbers_of_one_process(folder, strategy):
    alone = folder.train(CUDA, text=STEADY)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "-m"]
    words = ["flowconf", "train", folder.write(STEADY), CUDA, f"trainer.strategy={strategy}", "trainer.runs=team"]
    done = subprocess.run([*torchrun, *words], cwd=folder.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (folder.path / "team" / "tiny").iterdir()
    for name, tensor in weights(alone).items():
        if not name.startswith("flowconf"):
            torch.testing.assert_close(weights(folder.run(run))[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_run_of_a_device_is_read_anywhere(folder):
    run = folder.train(CUDA)
    graph = flowconf.load_run(str(run.folder))
    assert {parameter.device.type for parameter in graph.parameters()} == {"cpu"}
    assert graph(torch.zeros(2, 8)).shape == (2, 4)
