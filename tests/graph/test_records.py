"""Streams of several tensors: tuples, tuples of tuples, dicts and NamedTuples, through every verb."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import flowconf
from flowconf import ConfigError, StepError
from flowconf.graph.exchange.eject import ejected


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class Named(nn.Module):
    def forward(self, x) -> Pair:
        return Pair(x - 1, x * 2)


class Silent(nn.Module):
    def forward(self, x):
        return Pair(x - 1, x * 2)


class Keyed(nn.Module):
    def forward(self, x):
        return {"left": x - 1, "right": x * 2}


class Nested(nn.Module):
    def forward(self, x):
        return x, (x + 1, x * 2)


class Turn(nn.Module):
    def forward(self, pair):
        return pair[1][0], (pair[1][1], pair[0])


@pytest.fixture(autouse=True)
def modules(table):
    for cls in (Named, Silent, Keyed, Nested, Turn):
        table.register(cls)


def build(flow, shapes=True, shape=("B", 6), **more):
    return flowconf.build({**({"inputs": {"x": list(shape)}} if shapes else {}), "flow": flow, **more})


def same(mine, theirs):
    if isinstance(theirs, dict):
        return list(mine) == list(theirs) and all(same(mine[name], theirs[name]) for name in theirs)
    if isinstance(theirs, tuple | list):
        return type(mine) is type(theirs) and len(mine) == len(theirs) and all(map(same, mine, theirs))
    return torch.equal(mine, theirs)


RECORDS = ["Named", "Silent", "Keyed"]
BOTH = {
    "inputs": {"left": ["B", 6], "right": ["B", 6]},
    "flow": {
        "a": {"from": "right", "through": "Linear(6, 6)"},
        "s": {"through": "StateAdd", "using": {"state": "left"}},
    },
}


@pytest.mark.parametrize("shapes", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", RECORDS)
def test_take_by_name(name, shapes, batch):
    x = torch.randn(batch, 6)
    graph = build({"n": {"through": name, "take": "right"}, "o": "Linear(6, 2)"}, shapes)
    assert torch.equal(graph(x), graph.o(x * 2))
    graph = build({"res": {"also": name, "take": "right"}}, shapes)
    assert torch.equal(graph(x), x + x * 2)
    graph = build({"n": {"loop": name, "take": "right", "times": 3}}, shapes)
    assert torch.equal(graph(x), x * 8)
    rows = torch.randn(batch, 4, 6)
    for more in ({}, {"batched": True}, {"slices": 2}, {"dim": -1}):
        graph = build({"n": {"map": name, "take": "right", **more}}, shapes, ("B", 4, 6))
        assert torch.equal(graph(rows), rows * 2), more


@pytest.mark.parametrize("shapes", [True, False])
@pytest.mark.parametrize("name", RECORDS)
def test_names_bind_to_the_inputs_of_a_graph(name, shapes):
    both = BOTH
    graph = build({"n": name, "g": {"graph": both}}, shapes)
    x = torch.randn(3, 6)
    a = graph.g.a(x * 2)
    assert torch.equal(graph(x), a + (x - 1))
    assert torch.equal(graph.view(["g.a"])(x)["g.a"], a)
    outputs = {"left": "left", "right": "s"}
    graph = build({"n": name, "l": {"loop": {**both, "outputs": outputs}, "times": 2}}, shapes)
    left, right = x - 1, x * 2
    for _ in range(2):
        right = graph.l.a(right) + left
    assert same(graph(x), {"left": left, "right": right})
    assert graph.view(["l.right", "l.a"])(x)["l.right"].shape == (3, 2, 6)


def test_what_a_stream_lacks_comes_from_using():
    flow = {
        "n": "Silent",
        "g": {"graph": {**BOTH, "inputs": {**BOTH["inputs"], "more": ["B", 6]}}, "using": {"more": "x"}},
    }
    assert build(flow)(torch.randn(2, 6)).shape == (2, 6)


@pytest.mark.parametrize("name", RECORDS)
def test_records_go_through_maps(name):
    x = torch.randn(3, 4, 6)
    for more in ({}, {"batched": True}, {"slices": 2}, {"dim": 2}, {"dim": 2, "batched": True}):
        for shapes in (True, False):
            out = build({"m": {"map": name, **more}}, shapes, ("B", 4, 6))(x)
            parts = out._asdict() if hasattr(out, "_asdict") else out
            assert same(parts, {"left": x - 1, "right": x * 2}), more
    graph = build({"m": {"map": name}}, True, ("B", 4, 6))
    one = graph.view(["m[1]"])(x)["m[1]"]
    assert torch.equal(one["left"] if name == "Keyed" else one.left, x[:, 1] - 1)


def test_references_into_a_record_that_a_module_declares():
    graph = build(
        {"n": "Named", "r": {"from": "n.right", "through": "Linear(6, 2)"}}, outputs={"r": "r", "l": "n.left"}
    )
    x = torch.randn(2, 6)
    assert same(graph(x), {"r": graph.r(x * 2), "l": x - 1})
    with pytest.raises(ConfigError, match="has no part `middle` inside") as caught:
        build({"n": "Named", "r": {"from": "n.middle", "through": "Tanh"}})
    assert str(caught.value.diagnostics[0].advice) == "available parts: `left`, `right`"


def test_tuples_of_tuples():
    flow = {"n": "Nested", "l": {"loop": "Turn", "times": 2}, "t": "Turn", "p": {"through": "Turn", "take": 0}}
    graph = build(flow)
    x = torch.randn(3, 6)
    value = graph.n(x)
    steps = [value]
    for _ in range(3):
        steps.append(Turn()(steps[-1]))
    assert torch.equal(graph(x), Turn()(steps[-1])[0])
    view = graph.view(["n", "l", "l[0]", "t"])(x)
    assert same(view, {"n": steps[0], "l": steps[2], "l[0]": steps[1], "t": steps[3]})
    assert same(copy.deepcopy(graph).view(["t"])(x)["t"], steps[3])
    flow = {"n": "Nested", "b": {"through": "Turn", "repeat": 3}, "f": {"fork": "Turn"}}
    graph = build(flow, outputs={"b": "b", "f": "f"})
    assert same(graph(x), {"b": steps[3], "f": Turn()(steps[3])})
    mapped = build({"m": {"map": "Nested", "batched": True}}, True, ("B", 4, 6))(torch.ones(2, 4, 6))
    assert [mapped[0].shape, mapped[1][1].shape] == [(2, 4, 6), (2, 4, 6)]


def test_a_loop_over_a_recurrent_cell_carries_its_tuple():
    flow = {
        "start": "Nested",
        "s": {"through": "Turn", "take": 1},
        "pick": {"through": "Turn", "from": "start", "take": 0},
    }
    graph = build(flow, outputs={"s": "s", "pick": "pick"})
    x = torch.randn(2, 6)
    assert same(graph(x), {"s": (x * 2, x), "pick": x + 1})


def test_rows_of_a_record_go_to_their_branches():
    flow = {"n": "Keyed", "sw": {"switch": {"a": "Identity", "b": "Identity"}, "router": {"flow": {
        "r": {"through": "Identity", "take": "left"}, "i": "ArgmaxSelector(6, 2)"}}}}  # fmt: skip
    graph = build(flow)
    x = torch.randn(8, 6)
    assert same(graph(x), {"left": x - 1, "right": x * 2})


def test_branches_of_a_switch_read_names_around_them():
    inline = {"flow": {"h": "Linear(6, 6)", "back": {"through": "StateAdd", "using": {"state": "stem"}}}}
    flow = {
        "stem": "Linear(6, 6)",
        "act": "Tanh",
        "sw": {"switch": {"a": inline, "b": "Tanh"}, "router": "ArgmaxSelector(6, 2)"},
    }
    graph = build(flow).double()
    x = torch.randn(16, 6, dtype=torch.float64)
    stem = graph.stem(x)
    y = torch.tanh(stem)
    index = graph.sw["router"](y)
    assert 0 < index.sum() < 16
    expected = torch.where(index[:, None] == 0, graph.sw["a"].h(y) + stem, torch.tanh(y))
    torch.testing.assert_close(graph(x), expected)
    namespace = {"__name__": "ejected"}
    exec(ejected(graph), namespace)
    twin = namespace["Graph"]().double()
    twin.load_state_dict(graph.state_dict())
    assert torch.equal(twin(x), graph(x))


LACKING = {"inputs": {"left": ["B", 6], "up": ["B", 6]}, "flow": {"a": "Tanh"}}
REFUSED = [
    ({"n": "Nested", "r": {"also": "Turn"}}, "FC0203", "only tensors can be added: select one of several"),
    ({"n": {"through": "Tanh", "take": 0}}, "FC0201", "invalid `take: 0`: [B, 6] is a single tensor"),
    ({"n": {"through": "Silent", "take": "middle"}}, "FC0201", "has `left`, `right`"),
    ({"n": {"through": "Nested", "take": 2}}, "FC0201", "invalid `take: 2`"),
    ({"n": "Silent", "g": {"graph": LACKING}}, "FC0147", "the input `up` of `g` has no value"),
    ({"n": "Nested", "g": {"graph": LACKING}}, "FC0147", "has no value"),
    ({"l": {"loop": "Nested", "times": 2}}, "FC0205", "changes"),
    ({"mix": {"through": "StateAdd", "using": {"state": "later"}}, "later": "Nested"}, "FC0205", "like its stream"),
]  # fmt: skip


@pytest.mark.parametrize(("flow", "code", "words"), REFUSED)
def test_what_does_not_fit(flow, code, words):
    with pytest.raises(ConfigError) as raised:
        build(flow)
    assert [found.code for found in raised.value.diagnostics if found.severity == "error"] == [code]
    assert words in str(raised.value)


def test_what_only_the_call_can_know():
    flow = {"n": "Silent", "g": {"graph": LACKING}}
    with pytest.raises(StepError, match="missing `up` in the input, got `left`, `right`"):
        build(flow, shapes=False)(torch.randn(2, 6))
    with pytest.raises(StepError, match="has no named parts"):
        build({"n": {"through": "Nested", "take": "left"}}, shapes=False)(torch.randn(2, 6))


def test_compiled_whole():
    flow = {"n": "Silent", "g": {"graph": BOTH}, "k": {"through": "Keyed", "take": "left"}}
    graph = build(flow)
    x = torch.randn(3, 6)
    assert torch.equal(torch.compile(graph, fullgraph=True, backend="eager")(x), graph(x))
