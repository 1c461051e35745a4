"""Schedules, optimizers, parameter groups, saved state and TensorBoard events."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import random
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from torch import nn

import flowconf
from flowconf.api import build
from flowconf.language.points import RunLength
from flowconf.language.training import GroupSection, ScheduleSection
from flowconf.report import ConfigError, Diagnostic, PathError, Place
from flowconf.train.optim import optimizers, schedules
from flowconf.train.optim.groups import parameter_groups
from flowconf.train.optim.rates import LearningRate, Schedule, Stretch
from flowconf.train.optim.state import restore_state, state_of
from flowconf.train.runs.media import Media
from flowconf.train.runs.tensorboard import EventFile, crc32c
from flowconf.train.seeds import random_state, restore_random_state, seed_torch, undisturbed

CPU = torch.device("cpu")

CONFIGS = Path(flowconf.__file__).parent / "configs"
ALL_OPTIMIZERS = sorted(optimizers.__all__)
PLAIN = [name for name in ALL_OPTIMIZERS if name not in ("lbfgs", "sparseadam")]
"""Those that take dense gradients, computed once."""


def factors(shape, total=10, warmup=0):
    return [Stretch("", shape, warmup, 0, total).factor(step) for step in range(total)]


def test_schedules_begin_at_one_and_end_near_final():
    for shape in (schedules.linear, schedules.cosine, schedules.exponential):
        found = factors(functools.partial(shape, final=0.1), 1000)
        assert found[0] == 1
        assert found[-1] == pytest.approx(0.1, abs=0.01)
        assert found == sorted(found, reverse=True)
    assert factors(schedules.constant) == [1.0] * 10


def test_the_cosine_is_torchs():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for mine in factors(schedules.cosine, 20):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(mine, abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("warmup", [{"step": 20}, {"epoch": 2}, {"fraction": 0.25}])
def test_a_warmup_in_steps_epochs_or_a_fraction(warmup):
    sections = [ScheduleSection.model_validate({"name": "linear", "warmup": given}) for given in (20, warmup)]
    first, second = (Schedule([section], RunLength(80, per_epoch=10)) for section in sections)
    assert [first.factor(step) for step in range(80)] == [second.factor(step) for step in range(80)]


def test_warmup_rises_and_the_shape_spans_the_rest():
    found = factors(schedules.linear, total=8, warmup=4)
    assert found == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_steps_fall_at_their_places():
    assert factors(functools.partial(schedules.steps, at=[0.5, 0.75], factor=0.5), 4) == [1, 1, 0.5, 0.25]


@pytest.mark.parametrize("name", ALL_OPTIMIZERS)
def test_optimizers_have_torchs_arguments_and_defaults(name):
    classes = {option.lower(): option for option in dir(torch.optim)}
    theirs = inspect.signature(getattr(torch.optim, classes[name])).parameters
    ours = inspect.signature(getattr(optimizers, name)).parameters
    for argument, parameter in ours.items():
        assert argument in theirs
        if argument not in ("params", "fused"):
            assert parameter.default == theirs[argument].default, argument


@pytest.mark.parametrize("name", PLAIN)
def test_optimizers_train_and_are_fused_where_torch_can(name):
    layer = nn.Linear(3, 1, bias=name != "muon")
    before = layer.weight.detach().clone()
    optimizer = getattr(optimizers, name)([{"params": list(layer.parameters())}], lr=0.1)
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, layer.weight)
    if "fused" in inspect.signature(getattr(optimizers, name)).parameters:
        assert optimizer.param_groups[0]["fused"]


def test_fused_can_be_refused():
    groups = [{"params": [nn.Parameter(torch.zeros(1))]}]
    assert not optimizers.adamw(groups, fused=False).param_groups[0]["fused"]


def test_the_learning_rate_scales_every_group():
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.SGD(groups)
    rate = LearningRate([optimizer], [Schedule([ScheduleSection(name="linear")], RunLength(4, 4))], [0, 0])
    rate.set(2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05]


class Tree(nn.Module):
    """A module tree that finds parameters by path, as a graph does."""

    def __init__(self):
        super().__init__()
        self.reader = nn.ModuleDict({"eye": nn.Linear(1, 1), "hand": nn.Linear(1, 1)})
        self.head = nn.Linear(1, 1)

    def at(self, path):
        try:
            return list(self.get_submodule(path).parameters())
        except AttributeError:
            raise PathError(Diagnostic("FC0701", f"no `{path}`", advice="write `reader`")) from None

    def groups(self, **groups):
        sections = {path.replace("_", "."): GroupSection(**args) for path, args in groups.items()}
        named = [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]
        found = parameter_groups(named, sections, self.at, lambda path: Place("x.yaml", 3, 1))
        return [group.as_torch for group in found]


def test_the_first_selector_that_fits_takes_a_parameter():
    tree = Tree()
    assert len(tree.groups(reader={"lr": 1}, reader_eye={"lr": 2})) == 2
    rest, eye, reader = tree.groups(reader_eye={"lr": 2}, reader={"lr": 1})
    assert (reader["lr"], eye["lr"]) == (1, 2)
    assert {id(p) for p in eye["params"]} == {id(p) for p in tree.reader["eye"].parameters()}
    assert {id(p) for p in reader["params"]} == {id(p) for p in tree.reader["hand"].parameters()}
    assert {id(p) for p in rest["params"]} == {id(p) for p in tree.head.parameters()}


def test_frozen_parameters_are_left_out():
    tree = Tree()
    tree.reader.requires_grad_(False)
    assert len(tree.groups(reader={"lr": 1})) == 1
    tree.head.requires_grad_(False)
    with pytest.raises(ConfigError) as caught:
        tree.groups()
    assert caught.value.diagnostics[0].code == "FC0403"


def test_groups_are_split_where_factors_differ():
    tree = Tree()
    scales = [{"reader.eye": 2.0, "reader": 0.5}, {"": 3.0}, {}]
    groups = parameter_groups(tree.named_parameters(), {"head": GroupSection(lr=1)}, tree.at, Place, scales)
    found = {parameter: group.factors for group in groups for parameter in group.named.values()}
    assert found[tree.reader["eye"].weight] == (2.0, 3.0, 1.0)
    assert found[tree.reader["hand"].weight] == (0.5, 3.0, 1.0)
    assert found[tree.head.weight] == (1.0, 3.0, 1.0)
    assert len(groups) == 3


def test_a_group_that_names_nothing_is_refused_with_its_place():
    with pytest.raises(ConfigError) as caught:
        Tree().groups(raeder={"lr": 1}, other={"lr": 1})
    assert [(d.code, d.place.line, d.help) for d in caught.value.diagnostics] == [("FC0405", 3, "write `reader`")] * 2


@pytest.mark.parametrize(
    ("name", "args"),
    [
        (name, args)
        for name in PLAIN
        for args in ({}, {"momentum": 0.9}, {"weight_decay": 0.1})
        if args.keys() <= inspect.signature(getattr(optimizers, name)).parameters.keys()
    ],
)
def test_the_state_of_an_optimizer_goes_on_bit_by_bit(name, args):
    def make(groups):
        return getattr(optimizers, name)(groups, lr=0.01, **args)

    layer = "Linear(4, 6, bias=false) >> Linear(6, 4, bias=false)" if name == "muon" else "Linear(4, 4)"

    def prepared(order):
        torch.manual_seed(3)
        graph = build({"inputs": {"x": ["B", 4]}, "flow": {"hidden": layer, "y": layer}})
        names = {parameter: name for name, parameter in graph.named_parameters()}
        return graph, make([{"params": sorted(names, key=names.__getitem__, reverse=order)}]), names

    def train(graph, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            graph(torch.randn(5, 4)).square().mean().backward()
            optimizer.step()

    graph, optimizer, names = prepared(False)
    train(graph, optimizer, 3)
    saved = {name: {key: copy.deepcopy(value) for key, value in kept.items()}
             for name, kept in state_of(optimizer, names).items()}  # fmt: skip
    assert list(saved) == sorted(names.values())
    again, its_optimizer, its_names = prepared(True)
    again.load_state_dict(graph.state_dict())
    assert restore_state(its_optimizer, its_names, saved, make) == []
    torch.manual_seed(5)
    train(graph, optimizer, 3)
    torch.manual_seed(5)
    train(again, its_optimizer, 3)
    for mine, theirs in zip(graph.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("args", [{}, {"dampening": 0.3}, {"nesterov": True}, {"weight_decay": 0.1}], ids=str)
def test_a_parameter_may_get_its_first_gradient_later_than_others(args):
    """Of a part that a phase thaws, torch's fused kernel would have no buffer, where it wants all or none."""

    def trained(fused):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
        optimizer = optimizers.sgd([{"params": list(model.parameters())}], lr=0.1, momentum=0.9, fused=fused, **args)
        assert bool(optimizer.param_groups[0]["fused"]) == bool(fused)
        for step in range(8):
            for number, part in enumerate(model):
                part.requires_grad_(step >= 2 - number)
            optimizer.zero_grad()
            model(torch.randn(5, 4)).square().mean().backward()
            optimizer.step()
        return [parameter.detach() for parameter in model.parameters()]

    for mine, theirs in zip(trained(True), trained(False), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


def test_undisturbed_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with undisturbed(CPU):
        torch.rand(100)
    assert torch.equal(torch.rand(2), expected)


def test_a_random_state_is_restored_whole():
    """After a normal number, Python and NumPy keep the second one of a pair."""
    numpy.random.standard_normal()
    random.gauss(0, 1)
    state = {name: tensor.clone() for name, tensor in random_state(CPU).items()}

    def drawn():
        return [torch.rand(2).tolist(), random.gauss(0, 1), random.random(), numpy.random.standard_normal(3).tolist()]

    before = drawn()
    assert drawn() != before
    restore_random_state(state, CPU)
    assert drawn() == before


def test_a_device_has_a_random_state_of_its_own_kind(monkeypatch):
    """The number of the device may differ after resuming, and a CUDA device does not have the numbers of a CPU."""
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    first, second = (torch.device("cuda", number) for number in range(2))
    state = random_state(second)
    restore_random_state(state, first)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    seed_torch(3, first)
    assert [generator.initial_seed() for generator in generators] == [3, 2]
    with undisturbed(second):
        before = torch.rand(2, generator=generators[1])
    assert torch.equal(torch.rand(2, generator=generators[1]), before)
    restore_random_state(random_state(CPU), first)
    assert generators[0].initial_seed() == 3


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283


def test_tensorboard_reads_the_events(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    file = EventFile(tmp_path)
    for step in (0, 1, 300):
        file.log(step, {"train/loss": step / 2, "val/accuracy": 1.0}, Media())
    file.log(2**40, {"train/loss": math.nan}, Media())
    file.close()
    found = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert set(found.Tags()["scalars"]) == {"train/loss", "val/accuracy"}
    assert [(event.step, event.value) for event in found.Scalars("train/loss")][:3] == [(0, 0), (1, 0.5), (300, 150)]
    assert found.Scalars("train/loss")[-1].step == 2**40


def test_built_in_groups_overrule_nothing_but_the_name():
    for group in ("optimizer", "schedule"):
        files = sorted((CONFIGS / group).glob("*.yaml"))
        assert files
        for file in files:
            assert yaml.safe_load(file.read_text()) == {"name": file.stem}
