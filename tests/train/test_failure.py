"""Runs that fail: the step, the batch, and where the first value comes from that is not finite."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from flowconf.api import load
from flowconf.cli.main import main
from flowconf.graph.graph import Graph
from flowconf.graph.weights.sources import LAST
from flowconf.language import registry
from flowconf.report import ConfigError, Diagnostic, MachineError, RunError, StepError
from flowconf.train.commands.train import resume
from flowconf.train.data import builtin
from flowconf.train.data.splits import Resident
from flowconf.train.insight import failure
from flowconf.train.screen import Screen
from tests.train.conftest import TINY, same, weights

FIND = "trainer.find_nan=true"


def trains(module, x):
    """Whether a call is a step of training: neither an evaluation nor a look at the graph before the first step."""
    return module.training and torch.is_grad_enabled() and type(x) is torch.Tensor and len(x) == 32


class Fails(nn.Module):
    """Raises what it is reported to after some calls in training."""

    raises: BaseException = RuntimeError("no")
    after = 0
    backward = False

    def forward(self, x):
        if trains(self, x):
            Fails.after -= 1
            if Fails.after == 0 and not Fails.backward:
                raise Fails.raises
        return Through.apply(x) if Fails.backward else x


class Through(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        if Fails.after <= 0:
            raise Fails.raises
        return gradient


class Logs(nn.Module):
    """Is not a number where its input is below -1."""

    def forward(self, x):
        return (x + 1).log()


class Root(nn.Module):
    """Its gradient is infinite at zero, and not a number once that is multiplied by zero."""

    def forward(self, x):
        return torch.sqrt(x * 0) + x


class Masks(nn.Module):
    """Attention's way: what is masked is minus infinity, and then nothing."""

    def forward(self, x):
        return x.masked_fill(x < 0, -torch.inf).softmax(-1)


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.setattr(registry.modules, "registered", dict(registry.modules.registered))
    for module in (Fails, Logs, Root, Masks):
        registry.modules.register(module)
    monkeypatch.setattr(Fails, "after", 5)
    monkeypatch.setattr(Fails, "backward", False)


def with_step(call):
    return TINY.replace("    hidden: ReLU\n", f"    hidden: {call}\n")


def fails(folder, call, *overrides, text=None):
    with pytest.raises(RunError) as raised:
        folder.train(*overrides, text=text or with_step(call))
    (reported,) = raised.value.diagnostics
    return reported


def test_an_exception_names_the_path_the_step_and_the_batch(folder, monkeypatch):
    monkeypatch.setattr(Fails, "raises", ValueError("mine"))
    with pytest.raises(ValueError, match="mine") as raised:
        folder.train(text=with_step("Fails"))
    inside, around = raised.value.__notes__
    assert inside.startswith("in step `hidden` (tiny.yaml:6:5), which got [32, 16] float32 on cpu")
    assert around == (
        "in training step 5 of 16, in the forward pass, "
        "on a batch of `image` [32, 8] float32 on cpu, `label` [32] int64 on cpu"
    )
    assert folder.run(folder.runs()[0]).record["status"] == "failed"


def test_the_backward_pass_is_named(folder, monkeypatch):
    monkeypatch.setattr(Fails, "raises", ValueError("mine"))
    monkeypatch.setattr(Fails, "backward", True)
    with pytest.raises(ValueError, match="mine") as raised:
        folder.train(text=with_step("Fails"))
    inside, around = raised.value.__notes__
    assert inside == "in the backward pass of `hidden` (tiny.yaml:6:5)"
    assert "in the backward pass, on a batch" in around


class Overwrites(nn.Module):
    """Changes what its own backward pass needs, which torch finds only there."""

    def forward(self, x):
        return x.exp().add_(1) if trains(self, x) else x


class Picks(nn.Module):
    """Reads a feature that is not there, from whole batches."""

    def forward(self, x):
        return x.index_select(1, torch.full((16,), 99 if len(x) == 32 else 0))


@pytest.mark.parametrize(
    ("call", "path"),
    [
        ("Overwrites", "hidden"),
        ("Tanh >> Overwrites >> Tanh", "hidden.1"),
        ("{also: Overwrites, repeat: 2}", "hidden.1"),
        ("{map: {flow: {inner: Overwrites}}, slices: 2}", "hidden.inner"),
    ],
)
def test_the_member_is_named_that_torch_cannot_take_back(folder, call, path):
    registry.modules.register(Overwrites)
    with pytest.raises(RuntimeError, match="inplace operation") as raised:
        folder.train(text=with_step(call))
    inside, around = raised.value.__notes__
    assert inside.startswith(f"in the backward pass of `{path}` (tiny.yaml:6:")
    assert around.startswith("in training step 1 of 16, in the backward pass")


def test_a_loss_is_named_that_torch_cannot_take_back(folder, monkeypatch):
    def spoils(input, target):
        return input.exp().add_(1).sum(1) if input.requires_grad else input.sum(1)

    monkeypatch.setitem(registry.losses.registered, "spoils", spoils)
    with pytest.raises(RuntimeError, match="inplace operation") as raised:
        folder.train(text=TINY.replace("cross_entropy", "spoils"))
    assert raised.value.__notes__[0] == "in the backward pass of `loss.label`"


def test_what_fails_only_once_is_reported_without_a_place(folder, monkeypatch):
    monkeypatch.setattr(Fails, "backward", True)
    monkeypatch.setattr(Through, "backward", staticmethod(once(Through.backward)))
    with pytest.raises(RuntimeError, match="no") as raised:
        folder.train(text=with_step("Fails"))
    (around,) = raised.value.__notes__
    assert "in the backward pass, on a batch" in around


def once(call):
    """`call`, which gives back what it is given once it has failed."""
    failed = []

    def called(context, gradient):
        try:
            return gradient if failed else call(context, gradient)
        except BaseException:
            failed.append(True)
            raise

    return called


@pytest.mark.filterwarnings("ignore")  # what the compiler says of itself and of some versions of Python
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_the_member_is_named_inside_of_what_is_compiled(folder, monkeypatch, backend):
    registry.modules.register(Picks)
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda view, **others: real(view, backend=backend))
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|DATA bounds)") as raised:
        folder.train("trainer.compile=true", text=with_step("Tanh >> Picks"))
    inside, around = raised.value.__notes__
    assert inside.startswith("in step `hidden.1` (tiny.yaml:6:")
    assert around.startswith("in training step 1 of 16, in the forward pass")


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes"),
        RuntimeError("Invalid buffer size: 16.00 GB"),
    ],
    ids=["cuda", "linux", "windows", "mps"],
)
def test_memory_that_is_missing_is_reported_with_what_takes_less(folder, monkeypatch, problem):
    monkeypatch.setattr(Fails, "raises", problem)
    with pytest.raises(type(problem)) as raised:
        folder.train(text=with_step("Fails"))
    step, training, advice = raised.value.__notes__[-3:]
    assert "`hidden`" in step
    assert "training step 5" in training
    assert "848 B weights" in advice
    assert advice.endswith("set `data.batch_size` below 32 or `trainer.accumulate=2`")
    problem.__notes__.clear()
    del problem._flowconf_step


def huge(self, x):
    return x.new_empty(10**15) if trains(self, x) else x


def test_memory_that_is_really_missing(folder, monkeypatch):
    monkeypatch.setattr(Fails, "forward", huge)
    with pytest.raises(RuntimeError) as raised:
        folder.train(text=with_step("Fails"))
    assert failure.is_out_of_memory(raised.value)
    assert "out of memory" in raised.value.__notes__[-1]


def full(*given, **named):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


@pytest.mark.parametrize(
    ("owner", "name", "reported"),
    [
        (Graph, "to", "for the weights, 848 B, on `cpu`"),
        (Resident, "to", "for the split `train` of the data, 10.2 kB, on `cpu`"),
        (builtin, "_split", "for the data set `synthetic`, on `cpu`"),
    ],
)
def test_memory_that_is_missing_before_the_first_step(folder, monkeypatch, owner, name, reported):
    monkeypatch.setattr(owner, name, full)
    with pytest.raises(MachineError) as raised:
        folder.train()
    (found,) = raised.value.diagnostics
    assert (found.code, found.message) == ("FC0601", f"out of memory {reported}")


def test_other_exceptions_get_no_advice_on_memory(folder):
    with pytest.raises(RuntimeError, match="no") as raised:
        folder.train(text=with_step("Fails"))
    assert "memory" not in "".join(raised.value.__notes__)


def test_a_forward_step_that_gives_the_first_undefined_value(folder):
    reported = fails(folder, "Logs", FIND)
    assert (reported.path, reported.place.line) == ("hidden", 6)
    assert reported.message.startswith(
        "`train/loss/label` is not finite in step 1: the first NaN comes from `hidden`, "
        "in `log` of [32, 16] float32 from -"
    )


def test_a_backward_step_that_gives_the_first_undefined_value(folder):
    reported = fails(folder, "Root", FIND)
    assert reported.message.startswith("the gradient of `stem.weight` is not finite in step 1: ")
    assert "comes from `hidden` in the backward pass, in `" in reported.message
    assert reported.path == "hidden"


def test_what_is_masked_is_no_mistake(folder):
    plain, searched = (folder.train(*words, text=with_step("Masks")) for words in ([], [FIND]))
    assert same(weights(plain), weights(searched))


def test_data_that_is_not_finite_is_blamed(folder, monkeypatch):
    from flowconf.train.data import builtin as datasets

    made = datasets.synthetic

    def spoilt(**settings):
        splits = made(**settings)
        splits.train.tensors["image"][7, 2] = torch.nan
        return splits

    monkeypatch.setattr(registry.datasets, "load", lambda name: spoilt)
    with pytest.raises(ConfigError, match=r"`image\[2\]` is NaN in row 7 of the training data"):
        folder.train(FIND)


def test_a_search_changes_no_number(folder):
    words = ["trainer.ema=0.9", "trainer.clip=1"]
    plain, searched = folder.train(*words), folder.train(*words, FIND)
    assert same(weights(plain), weights(searched))
    assert plain.log == searched.log


def test_weights_that_an_optimizer_breaks(folder):
    reported = fails(folder, "ReLU", FIND, "optimizer.lr=1e39", "+optimizer.eps=1e-30", "+optimizer.weight_decay=0")
    assert reported.message.endswith("is not finite after step 1")
    assert "optimizer.lr" in reported.help


def test_nothing_is_saved_that_is_not_finite_and_going_on_finds_it(folder):
    text = TINY.replace("epochs: 2", "epochs: 2, checkpoint_every: 2, log_every: 16")
    reported = fails(folder, "", "optimizer.lr=3e15", text=text)
    assert "trainer.find_nan=true` tells where they come from" in reported.help
    run = folder.runs()[0]
    saved = run / "checkpoints" / LAST
    if saved.exists():
        assert all(tensor.isfinite().all() for name, tensor in load_file(saved).items() if name[0] != "@")
    with pytest.raises(RunError) as raised:
        resume(run, [FIND], Screen(folder.said))
    assert "comes from" in raised.value.diagnostics[0].message


def test_with_a_scaler_infinite_gradients_are_a_matter_of_course(folder):
    plain, searched = (folder.train("trainer.precision=fp16", *words) for words in ([], [FIND]))
    assert same(weights(plain), weights(searched))


def test_the_command_tells_all_of_it(folder, capsys):
    file = folder.write(with_step("Fails"))
    assert main(["train", file]) == 1
    said = capsys.readouterr().err
    assert "in step `hidden` (tiny.yaml:6:5)" in said
    assert "in training step 5 of 16" in said
    assert load(file).training.trainer.find_nan is False


def test_a_refusal_inside_of_a_step_gains_its_place_and_the_notes(folder, capsys, monkeypatch):
    monkeypatch.setattr(Fails, "raises", StepError(Diagnostic("FC0148", "mine")))
    assert main(["train", folder.write(with_step("Fails"))]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error[FC0148]: mine\n --> tiny.yaml:6:5\n")
    assert "  = note: in step `hidden` (tiny.yaml:6:5), which got [32, 16] float32 on cpu\n" in said
    assert "  = note: in training step 5 of 16" in said
