"""Checkpoints are written in the background: what is written, when a run waits for it, and what an error does."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest
import torch
from safetensors.torch import load_file

from flowconf.cli.main import main
from flowconf.graph.weights import files
from flowconf.graph.weights.files import NAMES, save_tensors, snapshot
from flowconf.graph.weights.reading import check_whole
from flowconf.graph.weights.seal import data_of, digest_of
from flowconf.graph.weights.sources import BEST
from flowconf.report import Place, RunError
from flowconf.train import loop
from flowconf.train.loop import all_finite
from flowconf.train.runs import best, lock
from flowconf.train.runs.state import Snapshot, saved_step
from flowconf.train.runs.writer import Writer
from flowconf.train.screen import Screen
from tests.train.conftest import TEXT, assert_same, go_on

LAST = "last.safetensors"
SECONDS = 60
"""The limit of a wait that ends at once, or never."""


@pytest.fixture
def held(monkeypatch):
    """Holds the first save of a run until `held.set()`."""
    write, gate = files.write_atomically, threading.Event()

    def waits(file, *parts):
        if file.name == LAST:
            assert gate.wait(SECONDS)
        write(file, *parts)

    monkeypatch.setattr(files, "write_atomically", waits)
    return gate


def at(monkeypatch, step, call):
    """Call once a step is done."""
    monkeypatch.setattr(Screen, "step", lambda self, done: call() if done == step else None)


def test_training_goes_on_while_a_checkpoint_is_written(folder, whole, held, monkeypatch):
    seen = []

    def look():
        seen.append(saved_step(folder.runs()[0] / "checkpoints" / LAST))
        held.set()

    at(monkeypatch, 4, look)
    assert_same(folder.train(text=TEXT), whole)
    assert seen == [None]


def test_what_is_written_is_the_state_of_its_step(folder, held, monkeypatch):
    """Weights, moments and averages of step 3, although the optimizer has made another step before they are written."""
    text = TEXT.replace("trainer: {", "trainer: {ema: 0.9, ")
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", files.write_atomically)
        held.set()
        expected = load_file(
            folder.train("trainer.epochs=null", "+trainer.steps=3", text=text).folder / "checkpoints" / LAST
        )
        held.clear()

    def write():
        held.set()
        raise KeyboardInterrupt

    at(monkeypatch, 4, write)
    with pytest.raises(KeyboardInterrupt):
        folder.train(text=text)
    found = load_file(folder.runs()[-1] / "checkpoints" / LAST)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_the_next_save_waits_for_the_one_before():
    order, gate, writer = [], threading.Event(), Writer()

    def first():
        assert gate.wait(SECONDS)
        order.append("first")

    writer.begin(first)
    other = threading.Thread(target=lambda: writer.begin(lambda: order.append("second")))
    other.start()
    gate.set()
    other.join()
    writer.wait()
    assert order == ["first", "second"]


def test_an_error_is_raised_once():
    writer = Writer()
    writer.begin(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer.wait()
    writer.check()
    writer.begin(lambda: 1 / 0)
    assert isinstance(writer.end(), ZeroDivisionError)
    assert writer.end() is None


def test_an_error_ends_the_run_before_the_next_save(folder, monkeypatch, capsys):
    def full(file, *parts):
        raise OSError(28, "No space left on device")

    steps = []
    monkeypatch.setattr(files, "write_atomically", full)
    monkeypatch.setattr(Screen, "step", lambda self, step: steps.append(step))
    assert main(["train", folder.write(TEXT)]) == 1
    assert "cannot save the checkpoint of step 3: no space left on device" in capsys.readouterr().err
    assert steps[-1] <= 5
    (run,) = folder.runs()
    assert folder.run(run).record["status"] == "failed"
    assert "saved" not in folder.run(run).record


@pytest.mark.parametrize("ending", [KeyboardInterrupt, RunError, ValueError])
def test_whatever_ends_a_run_waits_for_its_save(folder, whole, held, monkeypatch, ending):
    """The lock is held until the checkpoint is written."""
    wait, locked = Writer.end, []

    def ends():
        raise ending

    def waits(self):
        held.set()
        found = wait(self)
        locked.append(lock.is_held(folder.runs()[0]))
        return found

    def step(self, done):
        if done == 4:
            monkeypatch.setattr(Writer, "end", waits)
            ends()

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "step", step)
        with pytest.raises(ending):
            folder.train(text=TEXT)
    monkeypatch.setattr(Writer, "end", wait)
    assert locked[0]
    (run,) = folder.runs()
    assert saved_step(run / "checkpoints" / LAST) == 3
    assert_same(go_on(folder, run), whole)


def test_a_save_that_fails_while_a_run_ends_for_another_reason_is_reported(folder, monkeypatch):
    gate = threading.Event()

    def full(file, *parts):
        assert gate.wait(SECONDS)
        raise OSError(28, "No space left on device")

    def ends():
        gate.set()
        raise ValueError("another reason")

    monkeypatch.setattr(files, "write_atomically", full)
    at(monkeypatch, 4, ends)
    with pytest.raises(ValueError, match="another reason"):
        folder.train(text=TEXT)
    assert "cannot save the checkpoint of step 3: no space left on device" in folder.said.getvalue()


def test_a_copy_is_gone_once_it_is_written(folder, monkeypatch):
    taken, alive = loop.whole_state, []

    def watched(*args):
        late = time.monotonic() + 60  # the thread may hold its copy for a moment after it says that it is done
        while any(reference() is not None for reference in references) and time.monotonic() < late:
            gc.collect()
        alive.append(sum(reference() is not None for reference in references))
        found = taken(*args)
        references.append(weakref.ref(found))
        return found

    references = []
    monkeypatch.setattr(loop, "whole_state", watched)
    folder.train(text=TEXT)
    assert len(alive) > 3
    assert set(alive) == {0}


def test_the_digest_of_a_tensor_is_computed_once_for_all_files_that_have_it(folder, monkeypatch):
    computed = []

    def watched(tensor, data):
        computed.append(tensor)
        return digest_of(tensor, data)

    monkeypatch.setattr(files, "digest_of", watched)
    run = folder.train(text=TEXT).folder
    assert len({id(tensor) for tensor in computed}) == len(computed)
    for name in (BEST, LAST):
        check_whole(run / "checkpoints" / name, Place(name))


AVERAGED = """
model:
  inputs: {image: [B, 8]}
  flow:
    stem: Linear(8, 16)
    norm: BatchNorm1d(16)
    again: {also: "Linear(16, 16)"}
    twice: {reuse: again}
    logits: Linear(16, 4)
data: {name: synthetic, shape: [8], classes: 4, rows: 320, batch_size: 32}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
optimizer: {name: adamw, lr: 0.01}
trainer: {epochs: 2, devices: cpu, ema: 0.9}
"""


def test_the_best_weights_are_those_that_were_evaluated(folder, monkeypatch):
    """With averages, shared modules and statistics of batches."""
    keep, seen = best.Best.offer, []

    def offered(self, step, found):
        better = keep(self, step, found)
        if better:
            with self.job.averages.applied():
                seen[:] = [snapshot(self.job.graph.state_dict())]
        return better

    monkeypatch.setattr(best.Best, "offer", offered)
    saved = load_file(folder.train(text=AVERAGED).folder / "checkpoints" / "best.safetensors")
    assert {"norm.running_mean", "again.weight"} <= saved.keys()
    assert all(torch.equal(seen[0][name], tensor) for name, tensor in saved.items())


def test_without_a_validation_split_the_last_weights_are_the_best(folder):
    run = folder.train("+data.validation=0", text=AVERAGED).folder
    saved = load_file(run / "checkpoints" / "best.safetensors")
    state = load_file(run / "checkpoints" / LAST)
    texts = {}
    assert all(
        torch.equal(Snapshot(20, state, texts).weights().tensors[name], tensor) for name, tensor in saved.items()
    )
    assert torch.equal(saved["stem.weight"], state["@own/average/stem.weight"])


NUMBERS = {name: torch.arange(6).reshape(2, 3).to(dtype) for dtype, name in NAMES.items()}


def test_files_are_read_by_the_library(tmp_path):
    tensors = {
        **NUMBERS,
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "bits": torch.tensor([True, False]),
        "turned": torch.arange(6.0).reshape(2, 3).t(),
        "part": torch.arange(6.0)[2:4],
    }
    file = tmp_path / "weights.safetensors"
    save_tensors(file, tensors, {"ключ": "значение"})
    found = load_file(file)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert bytes(data_of(found[name])) == bytes(data_of(tensor))


def test_a_type_that_the_format_does_not_have(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_tensors(file, {"a": torch.zeros(1)}, {})
    before = file.read_bytes()
    with pytest.raises(RunError, match="cannot save `a`: safetensors does not support complex128"):
        save_tensors(file, {"a": torch.zeros(1, dtype=torch.complex128)}, {})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_found(dtype, value):
    numbers = [torch.zeros(3), torch.ones(2, 2, dtype=dtype), torch.zeros(0), torch.ones(2, dtype=torch.int64)]
    assert all_finite(numbers)
    numbers[1][1, 0] = value
    assert not all_finite(numbers)
    assert all_finite([torch.tensor(1e300, dtype=torch.float64)])
