"""Optimizers by part, and those that compute the loss several times: equal to hand-written PyTorch, to the bit."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flowconf
from flowconf.api import load
from flowconf.cli.main import main
from flowconf.language import registry
from flowconf.report import ConfigError, RunError
from flowconf.train.header import header, optimizer_lines
from flowconf.train.optim import optimizers, schedules
from flowconf.train.optim.groups import layer_decay
from flowconf.train.prepare import prepare
from tests.train.conftest import TINY, assert_same, go_on, killed
from tests.train.teams import TOLERANCE, team

BODY = (
    TINY.replace("    drop: Dropout(0.1)\n", "")
    .replace(
        "    hidden: ReLU\n", "    norm: LayerNorm(16)\n    hidden: ReLU\n    body: Linear(16, 16)\n    after: ReLU\n"
    )
    .replace("epochs: 2", "steps: 100, evaluate_every: 25, checkpoint_every: 10")
    .replace("rows: 320", "rows: 800")
)
PARTS = BODY.replace(
    "optimizer: {name: adamw, lr: 0.01}",
    """optimizer:
  name: adamw
  lr: 0.01
  weight_decay: 0.1
  groups:
    body:matrix: {name: muon, lr: 0.02, schedule: {name: linear, final: 0.1}}
    "**:norm": {weight_decay: 0}
    "**:bias": {weight_decay: 0, lr: 0.005}
schedule: {name: cosine, warmup: 10}""",
)
QUASI = BODY.replace(
    "optimizer: {name: adamw, lr: 0.01}", "optimizer: {name: lbfgs, lr: 0.5, max_iter: 4, history_size: 5}"
).replace("steps: 100", "steps: 40")


def by_hand(folder, text, train):
    """The weights of a model in plain PyTorch, trained on the batches of a run."""
    job = prepare(load(folder.write(text)), folder.path)
    model = nn.ModuleDict({
        "stem": nn.Linear(8, 16), "norm": nn.LayerNorm(16), "body": nn.Linear(16, 16), "logits": nn.Linear(16, 4),
    })  # fmt: skip
    model.load_state_dict(job.graph.state_dict())

    def loss_of(batch):
        hidden = F.relu(model["norm"](model["stem"](batch["image"])))
        return F.cross_entropy(model["logits"](F.relu(model["body"](hidden))), batch["label"])

    def batches():
        while True:
            yield from (job.train.batch(rows, 0) for rows in job.sampler.rest_of_epoch())

    train(model, loss_of, itertools.islice(batches(), job.total_steps))
    return dict(model.named_parameters())


def by_parts(model, loss_of, batches):
    biases = [model["stem"].bias, model["body"].bias, model["logits"].bias]
    rest = [model["stem"].weight, model["logits"].weight]
    adamw = torch.optim.AdamW(
        [
            {"params": rest},
            {"params": list(model["norm"].parameters()), "weight_decay": 0.0},
            {"params": biases, "weight_decay": 0.0, "lr": 0.005},
        ],
        lr=0.01,
        weight_decay=0.1,
        fused=True,
    )
    muon = torch.optim.Muon([model["body"].weight], lr=0.02)
    base = [group["lr"] for group in adamw.param_groups]
    for step, batch in enumerate(batches):
        cosine = (step + 1) / 10 if step < 10 else 0.5 * (1 + math.cos(math.pi * ((step - 10) / 90)))
        for group, lr in zip(adamw.param_groups, base, strict=True):
            group["lr"] = lr * cosine
        muon.param_groups[0]["lr"] = 0.02 * (1.0 + (0.1 - 1.0) * (step / 100))
        loss = loss_of(batch)
        model.zero_grad()
        loss.backward()
        adamw.step()
        muon.step()


def by_lbfgs(model, loss_of, batches):
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, history_size=5)
    for batch in batches:

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = loss_of(batch)
            loss.backward()
            return loss

        optimizer.step(closure)


TWINS = {"parts": (PARTS, by_parts), "lbfgs": (QUASI, by_lbfgs)}
muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon is in torch 2.9 and newer")
BOTH = [pytest.param("parts", marks=muon), "lbfgs"]


@pytest.mark.parametrize("kind", BOTH)
def test_a_run_equals_hand_written_pytorch(folder, kind):
    text, train = TWINS[kind]
    expected = by_hand(folder, text, train)
    run = folder.train(text=text)
    found = dict(flowconf.load_run(run.folder, last=True).named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in expected.items():
        assert torch.equal(found[name], parameter), name


@pytest.mark.parametrize("kind", BOTH)
def test_it_goes_on_after_a_kill_with_the_same_bits(folder, kind):
    text, _ = TWINS[kind]
    whole = folder.train(text=text)
    killed(lambda: folder.train(text=text, name="again.yaml"), 27)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


@muon
def test_what_each_selector_got_is_said_and_recorded(folder):
    run = folder.train("trainer.steps=1", text=PARTS)
    said = folder.said.getvalue()
    assert "adamw, fused, lr 0.01, cosine schedule: 2 parameters (192)\n" in said
    assert "muon, not fused, lr 0.02, linear schedule: 1 parameter (256) by `body:matrix`\n" in said
    assert "adamw, fused, lr 0.005, cosine schedule: 3 parameters (36) by `**:bias`\n" in said
    assert run.record["groups"] == [
        {"selector": None, "optimizer": "adamw", "parameters": ["stem.weight", "logits.weight"]},
        {"selector": "body:matrix", "optimizer": "muon", "parameters": ["body.weight"]},
        {"selector": "**:norm", "optimizer": "adamw", "parameters": ["norm.weight", "norm.bias"]},
        {"selector": "**:bias", "optimizer": "adamw", "parameters": ["stem.bias", "body.bias", "logits.bias"]},
    ]
    (line,) = [line for line in run.log if "train/loss" in line]
    assert {key for key in line if key.startswith("lr")} == {"lr", "lr/body:matrix", "lr/**:norm", "lr/**:bias"}


def test_a_part_that_changes_its_optimizer_starts_fresh(folder):
    text = PARTS.replace(
        "body:matrix: {name: muon, lr: 0.02, schedule: {name: linear, final: 0.1}}", "body: {lr: 0.02}"
    )
    killed(lambda: folder.train(text=text), 27)
    go_on(folder, folder.runs()[0], "+optimizer.groups.body.name=rmsprop", "trainer.steps=30")
    said = folder.said.getvalue()
    assert "fresh for `body.weight`, `body.bias`: the config has `rmsprop`, and the checkpoint `adamw`\n" in said


def test_the_rates_of_layers_decay():
    parameters = {name: nn.Parameter(torch.zeros(1)) for name in ("stem", "a", "b", "between", "c", "head")}
    layers = [[parameters["a"]], [parameters["b"]], [parameters["c"]]]
    found = layer_decay(parameters, layers, 0.5)
    assert [found[parameter] for parameter in parameters.values()] == [1 / 16, 1 / 8, 1 / 4, 1 / 4, 1 / 2, 1]


def test_layer_decay_in_a_run(folder):
    text = TINY.replace("    hidden: ReLU\n", '    block: {repeat: 3, through: "Linear(16, 16)"}\n').replace(
        "lr: 0.01}", 'lr: 0.01, layer_decay: {factor: 0.5, layers: "block.*"}, groups: {"**:bias": {lr: 0.02}}}'
    )
    job = prepare(load(folder.write(text)), folder.path)
    job.learning_rate.set(0)
    rates = {}
    for group, own in zip(job.groups, job.learning_rate.groups, strict=True):
        rates |= dict.fromkeys(group.named, own["lr"])
    expected = {"stem": 1 / 16, "block.0": 1 / 8, "block.1": 1 / 4, "block.2": 1 / 2, "logits": 1.0}
    assert rates == {
        f"{path}.{name}": base * factor
        for path, factor in expected.items()
        for name, base in (("weight", 0.01), ("bias", 0.02))
    }
    weights, biases = optimizer_lines(job)
    assert "lr 0.000625 to 0.01 in 5 rates by layer_decay," in weights
    assert "lr 0.00125 to 0.02 in 5 rates by layer_decay," in biases
    alone = prepare(load(folder.write(text), ["~optimizer.groups"]), folder.path)
    assert optimizer_lines(alone)[0] in header(alone, verbose=False)


# schedules


def rates_of(scheduler_of, steps):
    """The learning rates that a scheduler of torch sets."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = scheduler_of(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warm_restarts_are_torchs():
    theirs = rates_of(lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 10, 2, 0.1), 70)
    mine = [schedules.warm_restarts(step / 70, cycles=3, longer=2.0, final=0.1) for step in range(70)]
    assert mine == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_cycles_are_torchs(decay):
    def scheduler(optimizer):
        mode = "triangular2" if decay != 1 else "triangular"
        return torch.optim.lr_scheduler.CyclicLR(optimizer, 0.1, 1.0, 5, mode=mode, cycle_momentum=False)

    mine = [schedules.cyclic(step / 40, cycles=4, low=0.1, decay=decay) for step in range(40)]
    assert mine == pytest.approx(rates_of(scheduler, 40), abs=1e-9)


def test_polynomials_are_torchs():
    theirs = rates_of(lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 20, 3.0), 20)
    assert [schedules.polynomial(step / 20, power=3.0) for step in range(20)] == pytest.approx(theirs, abs=1e-9)


def test_one_cycle_rises_and_falls():
    found = [schedules.one_cycle(step / 10, rise=0.3) for step in range(11)]
    assert found[0] == pytest.approx(0.04)
    assert found[3] == 1.0
    assert found[10] == pytest.approx(4e-6)
    assert found[:4] == sorted(found[:4])
    assert found[3:] == sorted(found[3:], reverse=True)


@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (2, 0), (1, 2)])
def test_plateaus_are_torchs(patience, cooldown):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, threshold=0.01, threshold_mode="abs", cooldown=cooldown
    )
    mine = schedules.plateau(factor=0.5, patience=patience, by=0.01, cooldown=cooldown)
    values = [1.0, 0.9, 0.895, 0.8, 0.85, 0.81, 0.82, 0.83, 0.84, 0.7, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77]
    for number, value in enumerate(values):
        theirs.step(value)
        mine.observe({"val/loss": value, "val/other": 0.0})
        assert mine(0.5) == pytest.approx(optimizer.param_groups[0]["lr"])
        again = schedules.plateau(factor=0.5, patience=patience, by=0.01, cooldown=cooldown)
        again.restore(mine.state())
        if number % 3 == 0:
            mine = again
    assert mine(0.5) < 0.5


WATCHING = TINY.replace("epochs: 2", "epochs: 4, evaluate_every: 3, log_every: 2, checkpoint_every: 1") + (
    "schedule: {name: plateau, value: %s, factor: 0.5, patience: 0, by: 0.2}\n"
)


@pytest.mark.parametrize("value", ["val/loss", "train/loss", "train/loss/label"])
def test_a_plateau_goes_on_after_a_kill(folder, value):
    whole = folder.train(text=WATCHING % value)
    assert len({line["lr"] for line in whole.log if "lr" in line}) > 2
    killed(lambda: folder.train(text=WATCHING % value, name="again.yaml"), 17)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


def test_schedules_one_after_the_other(folder):
    text = (
        TINY
        + """schedule:
  - {name: linear, start: 0.1, final: 1.0, until: {step: 4}}
  - {name: constant, until: {epoch: 1}}
  - {name: cosine, warmup: 1, until: {fraction: 0.75}}
  - {name: constant, value: 0.25}
"""
    )
    job = prepare(load(folder.write(text)), folder.path)
    (schedule,) = job.learning_rate.schedules
    found = [schedule.factor(step) for step in range(job.total_steps)]
    rise = [0.1 + 0.9 * step / 4 for step in range(4)]
    assert job.total_steps == 16
    fall = [1.0, 1.0, 0.75, 0.25]
    assert found == pytest.approx([*rise, *[1.0] * 4, *fall, *[0.25] * 4])


def test_a_schedule_that_never_begins_is_refused(folder):
    text = TINY + "schedule: [{name: linear, until: {step: %d}}, {name: cosine%s}]\n"
    for step, until, said in (
        (9, ", until: {fraction: 0.5}", "ends at step 9, and it at step 8"),
        (40, "", "ends at step 40 of 16"),
    ):
        with pytest.raises(flowconf.ConfigError, match=said) as caught:
            prepare(load(folder.write(text % (step, until))), folder.path)
        assert caught.value.diagnostics[0].place.line == text.count("\n")


def test_a_plateau_goes_on_before_its_value_is_known(folder):
    whole = folder.train(text=WATCHING % "val/loss")
    killed(lambda: folder.train(text=WATCHING % "val/loss", name="again.yaml"), 2)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


def test_arguments_that_no_parameter_is_left_for_are_reported(folder, capsys):
    given = "optimizer:\n  lr: 0.01\n  groups: {'**': {name: sgd, lr: 0.1}}"
    assert main(["check", folder.write(TINY.replace("optimizer: {name: adamw, lr: 0.01}", given))]) == 0
    assert "warning[FC0410]: `optimizer.lr` has no effect: groups with other optimizers" in capsys.readouterr().out


def test_a_hundred_names_are_the_most(folder, capsys):
    updates = ".".join(["**"] * 20_000)
    assert (
        main(["check", folder.write(TINY.replace("target: label}", f"target: label, updates: '{updates}'}}", 1))]) == 2
    )
    assert "has 20,000 names, the maximum is 100" in capsys.readouterr().out


# optimizers of a project


class Halving(torch.optim.Optimizer):
    """An optimizer that needs a closure, and keeps a number and a list for all parameters."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def step(self, closure):
        loss = float(closure())
        first = self.param_groups[0]["params"][0]
        state = self.state[first]
        state.setdefault("losses", []).append(loss)
        state.setdefault("means", []).append(first.grad.mean())
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad, alpha=-group["lr"] / len(state["losses"]))
        return loss


@pytest.fixture
def register(monkeypatch):
    """Registers an optimizer for one test."""
    monkeypatch.setattr(registry.optimizers, "registered", dict(registry.optimizers.registered))
    return flowconf.register_optimizer


def test_an_optimizer_of_a_project_may_need_a_closure(folder, register):
    @register
    def halving(params, *, lr: float = 0.1):
        return Halving(params, lr)

    text = TINY.replace("{name: adamw, lr: 0.01}", "{name: halving, lr: 0.5}").replace("epochs: 2", "epochs: 2, "
                        "checkpoint_every: 1")  # fmt: skip
    whole = folder.train(text=text)
    killed(lambda: folder.train(text=text, name="again.yaml"), 11)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


def test_what_is_no_optimizer_is_refused(folder, register):
    @register
    def halving(params, *, lr: float = 0.1):
        return None

    with pytest.raises(ConfigError, match="`halving` must return an optimizer of torch, got `NoneType`"):
        folder.train(text=TINY.replace("adamw", "halving"))


def test_state_that_cannot_be_saved_is_named(folder, register):
    @register
    class Keeping(torch.optim.SGD):
        def step(self, closure=None):
            self.state[self.param_groups[0]["params"][0]]["seen"] = object()

    with pytest.raises(RunError, match="the state of `Keeping` cannot be saved: `seen` is `object`"):
        folder.train(text=TINY.replace("adamw", "Keeping"))


def test_a_run_with_sparse_gradients(folder):
    text = """
model:
  inputs: {tokens: {shape: [B, T], dtype: int64}}
  flow:
    table: Embedding(32, 8, sparse=true)
    logits: Linear(8, 32)
data: {name: text, file: text.txt, length: 8, batch_size: 4}
loss:
  next: {fn: cross_entropy, input: logits, target: target, args: {dim: -1}}
optimizer: {name: adamw, lr: 0.01, groups: {table: {name: sparseadam, lr: 0.1}}}
trainer: {steps: 8, checkpoint_every: 1, devices: cpu}
"""
    (folder.path / "text.txt").write_text("the quick brown fox jumps over the lazy dog " * 20)
    whole = folder.train(text=text)
    killed(lambda: folder.train(text=text, name="again.yaml"), 5)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "nadam", "radam", "sparseadam"])
def test_whole_numbers_are_floats(name):
    made = getattr(optimizers, name)([{"params": [nn.Parameter(torch.zeros(2, 2))]}], lr=1, betas=[0, 0.9])
    assert repr(made.defaults["betas"]) == "(0.0, 0.9)"


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_fused_kernels_get_what_torch_gives_them(name):
    """The bits of torch's, while parts are frozen and thawed, rates change, a state is loaded, and a scaler skips."""

    def model():
        torch.manual_seed(0)
        layers = [nn.Linear(4, 4), nn.Linear(4, 4).double(), nn.Linear(4, 4)]
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        return parameters, [{"params": parameters[:3], "weight_decay": 0.1}, {"params": parameters[3:], "lr": 0.2}]

    torchs = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    (mine, groups), (theirs, others) = model(), model()
    made = [getattr(optimizers, name)(groups, lr=0.1), torchs(others, lr=0.1, fused=True)]
    frozen = {5: {0, 3}, 6: {0, 3}, 7: {0, 3}, 8: {0, 3}, 9: {1}, 10: {1, 2}}
    for step in range(16):
        for parameters, optimizer in zip((mine, theirs), made, strict=True):
            optimizer.zero_grad()
            assert all(parameter.grad is None for parameter in parameters)
            for number, parameter in enumerate(parameters):
                if number not in frozen.get(step, ()):
                    parameter.grad = torch.full_like(parameter, math.sin(step + number))
            optimizer.param_groups[1]["lr"] = 0.1 + step / 100
            if step == 12:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            optimizer.found_inf = torch.tensor(float(step == 14)) if step > 13 else None
            optimizer.step()
        for parameter, other in zip(mine, theirs, strict=True):
            assert torch.equal(parameter, other), step
            own, state = made[0].state[parameter], made[1].state[other]
            assert own.keys() == state.keys()
            assert all(torch.equal(own[key], state[key]) for key in state)
    assert made[0].state[mine[1]]["step"] == 13.0


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_torch_does_not_wrap_a_step(name):
    """Its wrapper takes a tenth of the step of a small model."""
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = getattr(optimizers, name)([{"params": [parameter]}])
    parameter.grad = torch.ones(2)
    optimizer.step()  # torch's own, until the state is there
    optimizer.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    assert sum(event.name.startswith("Optimizer.step") for event in profile.events()) == 0


def test_sparse_gradients():
    table = nn.Embedding(10, 4, sparse=True)
    mine = optimizers.sparseadam([{"params": list(table.parameters())}], lr=0.1)
    before = table.weight.detach().clone()
    table(torch.tensor([3, 5])).sum().backward()
    mine.step()
    assert (table.weight != before).any(1).tolist() == [row in (3, 5) for row in range(10)]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_parts_in_half_precision_with_frozen_ones(folder, precision):
    text = PARTS.replace("muon, lr: 0.02", "sgd, lr: 0.02") + (
        "phases: {first: {until: {step: 5}, freeze: body}, second: {until: {step: 8}, freeze: ['**:norm', stem]}}\n"
    )
    run = folder.train(f"trainer.precision={precision}", "trainer.steps=12", "trainer.clip=1.0", text=text)
    assert run.record["status"] == "finished"


@pytest.mark.parametrize("kind", BOTH)
def test_two_processes_equal_one(folder, kind):

    text = TWINS[kind][0].replace("steps: 100", "steps: 12").replace("steps: 40", "steps: 2")
    one = dict(flowconf.load_run(folder.train(text=text).folder, last=True).named_parameters())
    two = dict(flowconf.load_run(team(folder, text, "trainer.shares=[3, 1]").folder, last=True).named_parameters())
    torch.testing.assert_close(two, one, **TOLERANCE)
