"""Streams of several values, inputs and first values against modules written by hand: bit for bit, gradients too."""

from __future__ import annotations

import torch
from torch import nn

import flowconf
from tests.graph.conftest import document, rows

# take and modules with several inputs and outputs


def test_take_an_element_of_a_tuple(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(6, 4, batch_first=True)
            self.out = nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    flow = {"rnn": {"through": "GRU(6, 4, batch_first=true)", "take": 0}, "out": "Linear(4, 2)"}
    same(document(flow, {"x": ["B", 5, 6]}), Twin, rows(5, 6))


def test_take_a_key_of_a_dict_and_a_field_of_a_named_tuple(same, table):
    from typing import NamedTuple

    class Pair(NamedTuple):
        mean: torch.Tensor
        spread: torch.Tensor

    class Named(nn.Module):
        def forward(self, x):
            return Pair(x.mean(1, keepdim=True), x - x.mean(1, keepdim=True))

    class Keyed(nn.Module):
        def forward(self, x):
            return {"small": x[:, :2], "large": x * 2}

    table.register(Named)
    table.register(Keyed)

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.n = Named()
            self.k = Keyed()
            self.a = nn.Linear(6, 3)

        def forward(self, x):
            return self.a(self.k(self.n(x)[1])["large"])

    flow = {
        "n": {"through": "Named", "take": 1},
        "k": {"through": "Keyed", "take": "large"},
        "a": "Linear(6, 3)",
    }
    same(document(flow), Twin, rows(6))


def test_take_of_a_fork(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(6, 4, batch_first=True)
            self.out = nn.Linear(6, 2)

        def forward(self, x):
            h = self.rnn(x)[0]
            return {"h": h, "out": self.out(x)}

    flow = {"rnn": {"fork": "GRU(6, 4, batch_first=true)", "take": 0}, "out": "Linear(6, 2)"}
    same(document(flow, {"x": ["B", 5, 6]}, outputs={"h": "rnn", "out": "out"}), Twin, rows(5, 6))


def test_using_passes_under_the_last_name(same, table):
    class Shifted(nn.Module):
        def forward(self, x, offset, factor):
            return x * factor + offset

    table.register(Shifted)

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.offset = nn.Linear(6, 6)
            self.f = nn.Linear(6, 6)
            self.out = Shifted()

        def forward(self, x):
            return self.out(x, offset=self.offset(x), factor=self.f(x))

    flow = {
        "offset": {"fork": "Linear(6, 6)"},
        "f": {"fork": "Linear(6, 6)", "tag": "factor"},
        "out": {"through": "Shifted", "using": ["offset", "factor"]},
    }
    same(document(flow), Twin, rows(6))


def test_several_inputs_by_position_or_name():
    flow = {"out": {"through": "Bilinear(6, 5, 3)", "using": {"input2": "other"}}}
    graph = flowconf.build(document(flow, {"x": ["B", 6], "other": ["B", 5]}))
    assert graph.inputs == ("x", "other")
    x, other = torch.randn(2, 6), torch.randn(2, 5)
    by_hand = graph.module_at("out")(x, other)
    for output in (graph(x, other), graph(x=x, other=other), graph(other=other, x=x), graph(x, other=other)):
        assert torch.equal(output, by_hand)


def test_an_input_can_be_an_output_and_a_stream(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 3)
            self.b = nn.Linear(5, 3)

        def forward(self, x, y):
            return {"a": self.a(x), "b": self.b(y), "same": y}

    flow = {"a": "Linear(6, 3)", "b": {"from": "y", "through": "Linear(5, 3)"}}
    same(
        document(flow, {"x": ["B", 6], "y": ["B", 5]}, outputs={"a": "a", "b": "b", "same": "y"}),
        Twin,
        lambda b: (torch.randn(b, 6), torch.randn(b, 5)),
    )


def test_one_named_output_is_that_value(same):
    """A graph with several outputs yields a dict; with one, it yields the value."""

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 3)
            self.b = nn.Linear(3, 3)

        def forward(self, x):
            return self.a(x)

    same(document({"a": "Linear(6, 3)", "b": "Linear(3, 3)"}, outputs={"kept": "a"}), Twin, rows(6))


def test_inputs_absent_means_one_called_x():
    graph = flowconf.build({"flow": {"a": "Linear(3, 2)"}})
    assert graph.inputs == ("x",)
    x = torch.randn(4, 3)
    assert torch.equal(graph(x=x), graph.a(x))


def test_nested_calls_build_modules(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True)
            self.e = nn.TransformerEncoder(layer, 1, norm=nn.LayerNorm(6), enable_nested_tensor=False)

        def forward(self, x):
            return self.e(x)

    call = (
        "TransformerEncoder(TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=true), 1, "
        "norm=LayerNorm(6), enable_nested_tensor=false)"
    )
    same(document({"e": call}, {"x": ["B", 3, 6]}), Twin, rows(3, 6))


def test_a_module_instance_stands_where_a_call_may():
    layer = nn.Linear(6, 3)
    graph = flowconf.build(document({"a": layer, "b": {"also": nn.Linear(3, 3)}, "c": {"fork": nn.Tanh()}}))
    assert graph.a is layer
    x = torch.randn(2, 6)
    assert torch.equal(graph(x), layer(x) + graph.b(layer(x)))


def test_integer_inputs(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.out = nn.Linear(4, 2)

        def forward(self, tokens):
            return self.out(self.embed(tokens))

    same(
        document(
            {"embed": "Embedding(10, 4)", "out": "Linear(4, 2)"}, {"tokens": {"shape": ["B", "T"], "dtype": "int64"}}
        ),
        Twin,
        lambda b: (torch.randint(0, 10, (b, 5)),),
    )


# init


def test_init_sets_how_parameters_start():
    flow = {
        "a": {"through": "Linear(6, 3)", "init": {"weight": "normal(std=0.02)", "bias": 1.5}},
        "b": {"through": "Linear(3, 2)", "init": {"weight": [[1, 2, 3], [4, 5, 6]], "bias": "zeros"}},
        "c": {"through": "Linear(2, 2) >> Linear(2, 1)", "init": {"1.weight": {"scale": 0.1}}},
    }
    torch.manual_seed(0)
    graph = flowconf.build(document(flow))
    assert torch.equal(graph.a.bias, torch.full((3,), 1.5))
    assert 0 < graph.a.weight.abs().max() < 0.1
    assert graph.b.weight.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert graph.b.bias.tolist() == [0, 0]
    torch.manual_seed(0)
    flow["c"].pop("init")
    plain = flowconf.build(document(flow))
    assert torch.equal(graph.c[1].weight, plain.c[1].weight * 0.1)
    assert all(p.requires_grad for p in graph.parameters())


def test_init_inside_bodies_branches_and_repeats():
    zero = {"through": "Linear(6, 6)", "init": {"weight": "zeros", "bias": 1}}
    body = {"flow": {"z": zero}}
    flow = {
        "l": {"loop": body, "times": 2},
        "s": {"split": {"a": body, "b": "Identity"}, "merge": "add"},
        "r": {"through": body, "repeat": 2},
        "direct": {**zero, "repeat": 2},
    }
    graph = flowconf.build(document(flow))
    for path in ("l.z", "s.a.z", "direct.0", "direct.1", "r.0.z", "r.1.z"):
        assert graph.module_at(path).weight.abs().sum() == 0, path
        assert graph.module_at(path).bias.tolist() == [1] * 6, path
