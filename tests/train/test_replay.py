"""Whole steps that are replayed: the bits of the steps themselves, and the reason where they are not."""

from __future__ import annotations

import random
import weakref
from collections import deque
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from flowconf.api import load
from flowconf.language import registry
from flowconf.train import job, replay
from flowconf.train.data.splits import Splits
from flowconf.train.fingerprint import fingerprint
from flowconf.train.insight import compile_report
from flowconf.train.prepare import prepare
from tests.train.conftest import TEXT, assert_same, fall, go_on
from tests.train.recorder import FakeRecorder

REPLAYED = "trainer.compile=reduce-overhead"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
"""The compiler's own imports warn."""


@pytest.fixture
def recorder(monkeypatch):
    """Steps on the CPU are recorded, and nothing is compiled."""
    monkeypatch.setitem(replay.RECORDERS, "cpu", FakeRecorder)
    monkeypatch.setattr(job, "compiled", lambda view, mode, replayed, device: FakeRecorder.modes.append(mode) or view)
    monkeypatch.setattr(compile_report, "_explained", lambda job: (1, []))
    monkeypatch.setattr(FakeRecorder, "modes", [])
    monkeypatch.setattr(FakeRecorder, "recorded", 0)
    monkeypatch.setattr(FakeRecorder, "replayed", 0)
    return FakeRecorder


@pytest.fixture
def alike(folder, recorder, monkeypatch):
    """Train with steps that are recorded, and with the same steps that are not, and compare all bits."""

    def run(*words, text=TEXT, recordings, replays):
        replayed = folder.train(REPLAYED, *words, text=text)
        assert (recorder.recorded, recorder.replayed) == (2 * recordings, 2 * replays), folder.said.getvalue()
        with monkeypatch.context() as patch:
            patch.setattr(replay, "WARM_UP", 10**9)
            usual = folder.train(REPLAYED, *words, text=text)
        assert (recorder.recorded, recorder.replayed) == (2 * recordings, 2 * replays), folder.said.getvalue()
        assert_same(replayed, usual)
        return replayed

    return run


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["trainer.clip=0.1", "trainer.ema=0.9", "schedule.name=cosine"],
        ["optimizer={name: sgd, lr: 0.1, momentum: 0.9}", "schedule.name=linear", "trainer.clip_value=0.01"],
        ["+loss.label.weight={linear: {from: 1, to: 0.5}}"],
        ["optimizer.groups={stem: {lr: 0.001}}", "trainer.precision=bf16"],
        ["+trainer.statistics={every: 2, of: [gradient, update, weight, activation]}"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_replayed_steps_have_the_bits_of_the_steps(alike, words):
    alike(*words, recordings=1, replays=13)


UPDATES = TEXT.replace(
    "  label: {fn: cross_entropy, input: logits, target: label}\n",
    "  label: {fn: cross_entropy, input: logits, target: label}\n"
    "  small: {fn: mse, input: stem, target: hidden, updates: stem}\n",
    1,
)


TURNS = "+turns={one: {loss: label, updates: logits}, other: {loss: label, updates: stem, steps: 2}}"


@pytest.mark.parametrize(
    ("words", "recordings", "replays"),
    [
        (["data.batch_size=30"], 1, 18 - 2 - 3),  # the short batch of an epoch comes twice
        (["data.batch_size=30", "trainer.epochs=5"], 2, 45 - 2 * 3),
        (["+phases={first: {until: {step: 8}, freeze: stem}}"], 2, 16 - 2 * 3),
        ([TURNS], 2, 10),
        (["trainer.epochs=4", "+turns={one: {loss: label, updates: logits}, two: {loss: label}}"], 2, 32 - 6),
    ],
    ids=["a short batch", "two sizes", "phases", "turns", "turns that share"],
)
def test_each_kind_of_step_is_recorded_once(alike, words, recordings, replays):
    alike(*words, recordings=recordings, replays=replays)


def test_terms_that_update_some_parameters_are_replayed(alike):
    alike(text=UPDATES, recordings=1, replays=13)


TEACHER = TEXT.replace(
    "    stem: Linear(8, 16)\n    hidden: ReLU\n",
    "    stem: {from: image, graph: encoder}\n"
    "    teacher: {from: image, graph: encoder, follows: {path: stem, decay: {linear: {from: 0.9, to: 1}}}}\n"
    "    hidden: {from: stem, through: ReLU}\n",
).replace("metrics:", "  near: {fn: mse, input: stem, target: teacher}\nmetrics:")
ENCODER = "inputs: {x: [B, 8]}\nflow: {one: 'Linear(8, 16)', norm: BatchNorm1d(16)}\n"


def test_followers_and_the_statistics_of_batches_are_replayed(folder, alike):
    folder.write(ENCODER, "graph/encoder.yaml")
    alike(text=TEACHER, recordings=1, replays=13)


@pytest.mark.parametrize("step", [2, 5, 12])
def test_a_run_that_fell_goes_on_bit_by_bit(folder, recorder, step):
    words = [REPLAYED, "trainer.ema=0.9", "schedule.name=cosine"]
    whole = folder.train(*words, text=TEXT)
    fall(folder, words, step, TEXT)
    assert_same(go_on(folder), whole)


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        return x * 0.9**self.calls


class Replaces(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()
        return x - self.mean


class ReplacesTwice(Replaces):
    """The second tensor may get the address of the first one."""

    def forward(self, x):
        return super().forward(super().forward(x))


class Keeps(nn.Module):
    """A tensor that is no buffer."""

    def __init__(self):
        super().__init__()
        self.last = (torch.zeros(()), None)

    def forward(self, x):
        found = x - self.last[0]
        if self.training:
            self.last = (x.detach().mean(), None)
        return found


class Queues(nn.Module):
    def __init__(self):
        super().__init__()
        self.means = deque(maxlen=1)

    def forward(self, x):
        found = x - sum(self.means)
        if self.training:
            self.means.append(x.detach().mean())
        return found


class Helped(nn.Module):
    def __init__(self):
        super().__init__()
        self.helper = SimpleNamespace(calls=[0])

    def forward(self, x):
        self.helper.calls[0] += self.training
        return x * 0.9 ** self.helper.calls[0]


class Closes(nn.Module):
    def __init__(self):
        super().__init__()
        calls = []

        def factor():
            calls.append(1)
            return 0.9 ** len(calls)

        self.factor = factor

    def forward(self, x):
        return x * self.factor() if self.training else x


class Draws(nn.Module):
    def forward(self, x):
        return x * random.random() if self.training else x


class DrawsItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.random = random.Random(0)

    def forward(self, x):
        return x * self.random.random() if self.training else x


class Waits(nn.Module):
    def forward(self, x):
        return x / x.abs().max().item() if self.training else x


class Selects(nn.Module):
    def forward(self, x):
        return x * x[x > 0].mean().detach() if self.training else x


class Refuses(nn.Module):
    """Fails only while it is recorded."""

    def forward(self, x):
        if FakeRecorder.records:
            random.random()
            raise RuntimeError("no recording of this") from ValueError("its cause")
        return x


class DrawsRecorded(nn.Module):
    """Draws only while it is recorded, as what is set up again after an evaluation."""

    def forward(self, x):
        return x * random.random() if FakeRecorder.records else x


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Counts, "a step changes `added.calls`"),
        (Replaces, "a step replaces `added.mean`"),
        (ReplacesTwice, "a step replaces `added.mean`"),
        (Keeps, "a step changes `added.last`"),
        (Queues, "a step changes `added.means`"),
        (Helped, "a step changes `added.helper`"),
        (Closes, "a step changes `added.factor`"),
        (Draws, "a step draws random numbers of `python`"),
        (DrawsItself, "a step changes `added.random`"),
        (Waits, "a step waits for the device"),
        (Selects, "a step waits for the device"),
        (Refuses, "a step cannot be recorded: no recording of this"),
        (DrawsRecorded, "a step draws random numbers of `python`"),
    ],
)
def test_what_only_python_knows_is_not_replayed(folder, alike, monkeypatch, module, reason):
    monkeypatch.setattr(registry.modules, "registered", {**registry.modules.registered, "Added": module})
    alike(text=TEXT.replace("drop: Dropout(0.1)", "added: Added"), recordings=int(module is DrawsRecorded), replays=0)
    assert folder.said.getvalue().count(f"\nCUDA graphs of forward and backward alone: {reason}\n") == 1


def test_what_a_fingerprint_is_of_stays_as_long_as_it():
    """Another tensor would get its memory, and have the same fingerprint."""
    one = torch.zeros(4)
    there = weakref.ref(one)
    found = fingerprint([one], one.device)
    del one
    assert there() is not None
    del found
    assert there() is None


@pytest.mark.parametrize("module", [Refuses, Waits])
def test_a_run_whose_steps_are_not_replayed_goes_on_in_its_turn(alike, recorder, monkeypatch, module):
    monkeypatch.setattr(registry.modules, "registered", {**registry.modules.registered, "Added": module})
    alike(TURNS, text=TEXT.replace("drop: Dropout(0.1)", "added: Added"), recordings=0, replays=0)
    assert recorder.modes[:4] == ["default", "default", "reduce-overhead", "reduce-overhead"]


def annealed():
    """A loss whose weight falls with the number of its calls."""
    calls = [0]

    def loss(x, target):
        calls[0] += x.requires_grad
        return functional.cross_entropy(x, target, reduction="none") * 0.9 ** calls[0]

    return loss


class Annealed:
    def __init__(self):
        self.loss = annealed()

    def __call__(self, x, target):
        return self.loss(x, target)


@pytest.mark.parametrize("made", [annealed, Annealed])
def test_a_loss_that_counts_its_calls_is_not_replayed(folder, recorder, monkeypatch, made):
    monkeypatch.setitem(registry.losses.registered, "annealed", made())
    folder.train(REPLAYED, text=TEXT.replace("fn: cross_entropy", "fn: annealed"))
    assert recorder.recorded == 0
    assert "CUDA graphs of forward and backward alone: a step changes `loss.label`" in folder.said.getvalue()


class Fades(torch.optim.SGD):
    """Counts its steps in one of three places."""

    def __init__(self, params, lr, place):
        super().__init__(params, lr, fused=True)
        self.calls, self.place = 0, place

    def step(self, closure=None):
        first = self.param_groups[0]
        place = {"calls": vars(self), "param_groups": first, "state": self.state[first["params"][0]]}[self.place]
        place["calls"] = place.get("calls", 0) + 1
        super().step()


@pytest.mark.parametrize("place", ["calls", "param_groups", "state"])
def test_an_optimizer_that_counts_its_steps_is_not_replayed(folder, recorder, monkeypatch, place):
    monkeypatch.setitem(registry.optimizers.registered, "fades", Fades)
    folder.train(REPLAYED, text=TEXT.replace("name: adamw, lr: 0.01", f"name: fades, lr: 0.01, place: {place}"))
    assert recorder.recorded == 0
    assert f"CUDA graphs of forward and backward alone: a step changes `Fades.{place}`" in folder.said.getvalue()


class Strided:
    """A field with gaps in memory, and one whose rows share theirs."""

    fields = {"image": ((8,), torch.float32), "label": ((), torch.int64)}

    def __len__(self):
        return 96

    def batch(self, rows, generator):
        image = (rows[:, None] * torch.arange(1.0, 17.0)).sin()
        return {"image": image[:, ::2], "label": (rows[:1] % 4).expand(len(rows))}


def data_of(name):
    """The config with batches of a registered data set."""
    start, end = TEXT.index("data:"), TEXT.index("loss:")
    return f"{TEXT[:start]}data: {{name: {name}, batch_size: 32}}\n{TEXT[end:]}"


layouts = set()


class Notes(nn.Module):
    def forward(self, x):
        if self.training:
            layouts.add(x.stride())
        return x


def test_batches_of_any_layout_are_replayed_in_the_layout_of_the_other_steps(alike, monkeypatch):
    """Compiled code would be compiled once more for another one, while it is recorded."""
    monkeypatch.setattr(registry.modules, "registered", {**registry.modules.registered, "Notes": Notes})
    monkeypatch.setitem(registry.datasets.registered, "strided", lambda: Splits(Strided(), Strided()))
    text = data_of("strided").replace("    stem: Linear(8, 16)\n", "    noted: Notes\n    stem: Linear(8, 16)\n")
    alike("trainer.epochs=4", text=text, recordings=1, replays=9)
    assert layouts == {(8, 1)}


class Anneals:
    """A callback that changes what a module reads."""

    def step(self, run):
        run.graph.added.factor *= 0.9


class Scales(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = 1.0

    def forward(self, x):
        return x * self.factor


class Grows(nn.Module):
    """What it keeps for evaluations is kept for training too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.ones(1))

    def forward(self, x):
        if not self.training:
            self.cache = 0.9 * self.cache
        return x * self.cache


@pytest.mark.parametrize(
    ("module", "words", "recordings", "replays"),
    [
        (Scales, ["+callbacks={anneals: {name: anneals, every: {step: 6}}}", "trainer.evaluate_every=100"], 3, 7),
        (Grows, [], 3, 6),
    ],
)
def test_what_is_changed_between_steps_is_recorded_again(alike, monkeypatch, module, words, recordings, replays):
    monkeypatch.setattr(registry.modules, "registered", {**registry.modules.registered, "Added": module})
    monkeypatch.setitem(registry.callbacks.registered, "anneals", Anneals)
    alike(*words, text=TEXT.replace("drop: Dropout(0.1)", "added: Added"), recordings=recordings, replays=replays)


class Sparse(Strided):
    def batch(self, rows, generator):
        found = super().batch(rows, generator)
        return {**found, "sparse": found["image"].to_sparse()}


class Turned(Strided):
    """A field that lies in memory in one of two ways."""

    def batch(self, rows, generator):
        found = super().batch(rows, generator)
        image = found["image"]
        return {**found, "image": image.t().contiguous().t() if rows[0] % 2 else image.contiguous()}


def test_each_layout_of_batches_is_recorded_once(alike, monkeypatch):
    monkeypatch.setitem(registry.datasets.registered, "turned", lambda: Splits(Turned(), Strided()))
    alike("trainer.epochs=4", text=data_of("turned"), recordings=2, replays=12 - 2 * 3)


def test_a_sparse_field_is_not_replayed(folder, recorder, monkeypatch):
    monkeypatch.setitem(registry.datasets.registered, "sparse", lambda: Splits(Sparse(), Sparse()))
    folder.train(REPLAYED, "trainer.report=false", text=data_of("sparse"))
    assert recorder.recorded == 0
    assert "forward and backward alone: a step reads `sparse`, which is not dense" in folder.said.getvalue()


def test_statistics_have_the_gradients_of_the_turn(alike):
    alike(TURNS, "trainer.epochs=4", "+trainer.statistics={every: 1, of: [gradient]}", recordings=2, replays=26)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trainer.accumulate=2"], "gradients are accumulated"),
        (["optimizer.name=rmsprop"], "`RMSprop` runs without a fused kernel"),
        (["optimizer={name: lbfgs}"], "the optimizer computes the loss several times"),
        (["+trainer.profile={wait: 1}"], "`trainer.profile` measures the parts of steps"),
        (["trainer.find_nan=true"], "`trainer.find_nan` checks each operation"),
        (["trainer.precision=fp16"], "`fp16` skips steps whose gradients overflow"),
    ],
)
def test_what_is_never_replayed_is_known_before(folder, recorder, words, reason):
    job = prepare(load(folder.write(), [REPLAYED, *words]), folder.path)
    assert not job.replays
    assert replay.obstacle(job) == reason
    assert reason in compile_report.report(job)[-1]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.GRU(16, 16, num_layers=2, dropout=0.1)

    def forward(self, x):
        return self.inner(x)[0]


def test_dropout_of_which_cudnn_keeps_the_state_is_not_replayed(folder, recorder, monkeypatch):
    """It is made again after an evaluation, somewhere else."""
    monkeypatch.setattr(registry.modules, "registered", {**registry.modules.registered, "Added": Recurrent})
    text = TEXT.replace("drop: Dropout(0.1)", "added: Added")
    job = prepare(load(folder.write(text), [REPLAYED]), folder.path)
    assert replay.obstacle(job) == "cuDNN keeps the random state for the dropout of `added.inner`"


def test_without_a_device_that_records_nothing_is_replayed(folder):
    job = prepare(load(folder.write(), [REPLAYED]), folder.path)
    assert replay.obstacle(job) == "the run is on `cpu`"


def test_batches_of_many_sizes_are_not_all_recorded(alike, monkeypatch):
    monkeypatch.setattr(replay, "MOST", 1)
    alike("data.batch_size=30", "trainer.epochs=5", recordings=1, replays=40 - 3)


def test_a_step_that_moves_the_state_of_the_optimizer_ends_the_recordings_of_it(alike, monkeypatch):
    plain, seen = replay.one_step, []

    def one_step(job, rows, step):
        losses = plain(job, rows, step)
        seen.append(step)
        if len(rows) < 30:
            for state in job.optimizers[0].state.values():
                state["exp_avg"] = state["exp_avg"].clone()
        return losses

    monkeypatch.setattr(replay, "one_step", one_step)
    alike("data.batch_size=30", "optimizer.amsgrad=true", "trainer.epochs=3", recordings=3, replays=3 * 5)
