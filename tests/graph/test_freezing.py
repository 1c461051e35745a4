"""Frozen parts: no gradients and no drift, whatever `train` calls come from outside; the nearest setting wins."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import flowconf
from flowconf import PathError
from flowconf.language import registry

PART = {
    "inputs": {"x": ["B", 6]},
    "flow": {"lin": "Linear(6, 6)", "norm": "BatchNorm1d(6)", "drop": "Dropout(0.5)", "end": "Linear(6, 6)"},
}


def document(**child):
    flow = {"first": "Linear(6, 6)", "child": {"graph": PART, **child}, "last": "Linear(6, 2)"}
    return {"inputs": {"x": ["B", 6]}, "flow": flow}


def learning(graph, path=""):
    return {name for name, p in graph.named_parameters_at(path) if p.requires_grad}


def statistics(graph, path="child.norm"):
    norm = graph.module_at(path)
    return norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.clone()


def drifted(graph, path="child.norm"):
    before = statistics(graph, path)
    for _ in range(3):
        graph(torch.randn(5, 6) * 4 + 2)
    return any(not torch.equal(a, b) for a, b in zip(before, statistics(graph, path), strict=True))


class Wrapper(nn.Module):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph


TRAIN_CALLS = {
    "none": lambda g: None,
    "root": lambda g: g.train(),
    "root, eval and train": lambda g: g.eval().train(),
    "parent": lambda g: Wrapper(g).train(),
    "child": lambda g: g.subgraph("child").train(),
    "child, eval and train": lambda g: g.subgraph("child").eval().train(),
    "train_at the child": lambda g: g.train_at("child", True),
    "train_at the leaf": lambda g: g.train_at("child.norm", True),
    "sequential around": lambda g: nn.Sequential(g).train(True),
}


@pytest.mark.parametrize("how", TRAIN_CALLS)
@pytest.mark.parametrize("by", ["document", "call"])
def test_frozen_means_no_gradient_and_no_drift(how, by):
    graph = flowconf.build(document(frozen=True) if by == "document" else document())
    if by == "call":
        graph.freeze("child")
    TRAIN_CALLS[how](graph)
    assert graph.is_frozen("child")
    assert learning(graph) == {"first.weight", "first.bias", "last.weight", "last.bias"}
    assert not drifted(graph)
    x = torch.randn(4, 6)
    assert torch.equal(graph(x), graph(x))  # dropout is off
    for name in ("norm", "drop"):
        assert not graph.module_at(f"child.{name}").training


def test_a_frozen_leaf_keeps_its_statistics_when_train_is_called_on_its_graph():
    flow = {"norm": {"through": "BatchNorm1d(6)", "frozen": True}, "out": "Linear(6, 2)"}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    graph.train()
    assert not drifted(graph, "norm")
    assert learning(graph) == {"out.weight", "out.bias"}


def test_unfrozen_it_drifts():
    graph = flowconf.build(document())
    assert drifted(graph)


def test_eval_and_train_of_the_rest_still_work():
    graph = flowconf.build(document(frozen=True))
    graph.eval()
    assert not graph.first.training
    graph.train()
    assert graph.first.training
    assert graph.training


def test_params_only_freezes_gradients_but_not_the_mode():
    for graph in (flowconf.build(document(frozen="params")), flowconf.build(document())):
        graph.freeze("child", params_only=True)
        graph.train()
        assert learning(graph, "child") == set()
        assert graph.module_at("child.norm").training
        assert drifted(graph)
        graph.eval()
        assert not graph.module_at("child.norm").training


def test_thaw_gives_back_gradients_and_mode():
    graph = flowconf.build(document(frozen=True))
    graph.train()
    graph.thaw("child")
    assert not graph.is_frozen("child")
    assert len(learning(graph, "child")) == 6
    assert graph.module_at("child.norm").training
    assert drifted(graph)
    graph.freeze("child")
    assert not drifted(graph)


class Steady(nn.Sequential):
    """A module whose first part never trains."""

    def __init__(self):
        super().__init__(nn.BatchNorm1d(4), nn.BatchNorm1d(4))

    def train(self, mode=True):
        super().train(mode)
        self[0].eval()
        return self


def test_a_module_may_have_a_train_of_its_own(monkeypatch):
    monkeypatch.setitem(registry.modules.registered, "Steady", Steady)
    flow = {"steady": "Steady", "last": "BatchNorm1d(4)"}
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow})
    for mode in (True, False, True):
        graph.train(mode)
        steady, last = graph.module_at("steady"), graph.module_at("last")
        assert [steady[0].training, steady[1].training, last.training] == [False, mode, mode]


def test_thaw_while_evaluating_stays_evaluating():
    graph = flowconf.build(document(frozen=True))
    graph.eval()
    graph.thaw("child")
    assert not graph.module_at("child.norm").training
    graph.train()
    assert graph.module_at("child.norm").training


def nested(**settings):
    """`outer.inner.leaf` and `outer.side`, with settings by path."""

    def of(path):
        return {"frozen": settings[path]} if path in settings else {}

    inner = {"flow": {"leaf": {"through": "BatchNorm1d(6)", **of("leaf")}, "other": "BatchNorm1d(6)"}}
    outer = {"flow": {"inner": {"graph": inner, **of("inner")}, "side": {"through": "BatchNorm1d(6)", **of("side")}}}
    return {"inputs": {"x": ["B", 6]}, "flow": {"outer": {"graph": outer, **of("outer")}, "end": "Linear(6, 6)"}}


NEAREST = [
    ({"outer": True}, {"end"}),
    ({"outer": True, "inner": False}, {"outer.inner.leaf", "outer.inner.other", "end"}),
    ({"outer": True, "leaf": False}, {"outer.inner.leaf", "end"}),
    ({"outer": False, "inner": True, "leaf": False}, {"outer.inner.leaf", "outer.side", "end"}),
    ({"inner": True, "side": True}, {"end"}),
    ({"leaf": True}, {"outer.inner.other", "outer.side", "end"}),
]


@pytest.mark.parametrize(("settings", "awake"), NEAREST)
def test_the_nearest_setting_wins(settings, awake):
    graph = flowconf.build(nested(**settings))
    graph.train()
    assert {n.rpartition(".")[0] for n in learning(graph)} == awake
    for path in ("outer.inner.leaf", "outer.inner.other", "outer.side"):
        assert graph.module_at(path).training == (path in awake), path
        assert drifted(graph, path) == (path in awake), path


@pytest.mark.parametrize(("settings", "awake"), NEAREST)
def test_calls_give_what_the_document_gives_in_any_order(settings, awake):
    where = {"outer": "outer", "inner": "outer.inner", "leaf": "outer.inner.leaf", "side": "outer.side"}
    for order in (list(settings.items()), list(settings.items())[::-1]):
        graph = flowconf.build(nested())
        for name, frozen in order:
            (graph.freeze if frozen else graph.thaw)(where[name])
        graph.train()
        assert {n.rpartition(".")[0] for n in learning(graph)} == awake
        for path in ("outer.inner.leaf", "outer.inner.other", "outer.side"):
            assert graph.module_at(path).training == (path in awake), path


def test_calls_on_a_subgraph_mean_the_same():
    graph = flowconf.build(nested())
    graph.subgraph("outer").freeze("inner")
    graph.train()
    assert graph.is_frozen("outer.inner")
    assert not graph.is_frozen("outer.side")
    graph.subgraph("outer.inner").thaw("leaf")
    graph.train()
    assert graph.module_at("outer.inner.leaf").training
    assert not graph.module_at("outer.inner.other").training


def test_freezing_a_frozen_graph_again_leaves_what_was_thawed_by_name():
    graph = flowconf.build(nested(outer=True, leaf=False))
    graph.freeze("outer")
    assert {n.rpartition(".")[0] for n in learning(graph)} == {"outer.inner.leaf", "end"}


def test_freezing_everything():
    graph = flowconf.build(document())
    graph.freeze()
    graph.train()
    assert graph.is_frozen()
    assert learning(graph) == set()
    assert not drifted(graph)


def test_gradients_pass_through_to_what_comes_before():
    graph = flowconf.build(document(frozen=True))
    graph.train()
    graph(torch.randn(5, 6)).square().sum().backward()
    assert graph.first.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in graph.parameters_at("child"))
    assert graph.last.weight.grad.abs().sum() > 0


def test_a_training_step_moves_no_bit_of_a_frozen_part():
    graph = flowconf.build(document(frozen=True))
    graph.train()
    before = {n: t.clone() for n, t in graph.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in graph.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        graph(torch.randn(5, 6)).square().sum().backward()
        optimizer.step()
    for name, tensor in graph.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("child."), name


def test_inside_a_loop_a_map_and_a_repeat():
    body = {"flow": {"norm": {"through": "BatchNorm1d(6)", "frozen": True}, "lin": "Linear(6, 6)"}}
    for step in ({"loop": body, "times": 2}, {"through": body, "repeat": 2}):
        graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"s": step}})
        graph.train()
        norms = [m for m in graph.modules() if isinstance(m, nn.BatchNorm1d)]
        assert norms
        assert not any(m.training for m in norms)
        assert not any(p.requires_grad for m in norms for p in m.parameters())
        assert all(p.requires_grad for m in graph.modules() if isinstance(m, nn.Linear) for p in m.parameters())


def test_frozen_on_a_body_is_frozen_on_the_step():
    for verb, more in (("map", {"dim": 1}), ("loop", {"times": 2}), ("also", {}), ("through", {})):
        flow = {"s": {verb: {"flow": {"lin": "Linear(6, 6)"}, "frozen": True}, **more}}
        graph = flowconf.build({"inputs": {"x": ["B", 3, 6]}, "flow": flow})
        assert graph.is_frozen("s"), verb


def test_a_branch_can_be_frozen():
    branch = {"flow": {"lin": "Linear(6, 6)"}, "frozen": True}
    flow = {"s": {"split": {"a": branch, "b": "Linear(6, 6)"}, "merge": "add"}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    assert graph.is_frozen("s.a")
    assert not graph.is_frozen("s.b")


def test_a_repeat_can_be_thawed_one_copy_at_a_time():
    flow = {"block": {"through": "Linear(6, 6)", "repeat": 3, "frozen": True}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    graph.thaw("block.1")
    assert learning(graph) == {"block.1.weight", "block.1.bias"}


def test_a_module_in_two_places_is_frozen_where_it_stands():
    """The owner decides; that a frozen loop also uses the module does not freeze it, nor the other way round."""
    body = {"inputs": {"h": ["B", 6]}, "flow": {"own": "Linear(6, 6)", "cell": {"reuse": "think"}}}
    flow = {"think": "Linear(6, 6)", "l": {"loop": body, "times": 2, "frozen": True}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    assert learning(graph) == {"think.weight", "think.bias"}
    flow = {"think": {"through": "Linear(6, 6)", "frozen": True}, "l": {"loop": body, "times": 2}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    assert learning(graph) == {"l.own.weight", "l.own.bias"}


def test_freeze_and_thaw_by_the_path_of_a_reuse():
    flow = {"a": "BatchNorm1d(6)", "act": "Tanh", "again": {"reuse": "a"}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    graph.freeze("again")
    graph.train()
    assert graph.is_frozen("a")
    assert not drifted(graph, "a")


def test_frozen_survives_copy_and_pickle():
    graph = flowconf.build(nested(outer=True, leaf=False))
    for twin in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        twin.train()
        assert {n.rpartition(".")[0] for n in learning(twin)} == {"outer.inner.leaf", "end"}
        assert not drifted(twin, "outer.side")
        assert drifted(twin, "outer.inner.leaf")


def test_requires_grad_calls_of_the_user_are_not_the_graphs_business():
    """`train` sets modes only: a parameter that the user froze by hand stays so."""
    graph = flowconf.build(document())
    graph.last.bias.requires_grad_(False)
    graph.eval()
    graph.train()
    assert not graph.last.bias.requires_grad


def test_a_wrong_path_lists_the_names_there():
    graph = flowconf.build(document())
    for call in (graph.freeze, graph.thaw, graph.is_frozen, graph.parameters_at, graph.subgraph, graph.kind):
        with pytest.raises(PathError, match="norm"):
            call("child.nrm")
    with pytest.raises(PathError) as raised:
        graph.freeze("zzz")
    assert str(raised.value) == (
        "error[FC0701]: unknown name `zzz` in the graph\n  = help: available names: `first`, `child`, `last`"
    )
