"""`repeat` and `reuse` against a module written by hand with the design's paths: bit for bit, gradients too."""

from __future__ import annotations

import torch
from torch import nn

import flowconf
from tests.graph.conftest import document, rows

# repeat


def test_repeat_makes_independent_copies(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])

        def forward(self, x):
            for block in self.block:
                x = block(x)
            return x

    same(document({"block": {"through": "Linear(6, 6)", "repeat": 3}}), Twin, rows(6))


def test_repeat_of_a_residual_chain_by_a_parameter(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.ModuleList(
                [nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6)) for _ in range(2)]
            )

        def forward(self, x):
            for block in self.block:
                x = x + block(x)
            return x

    flow = {"block": {"also": "LayerNorm(6) >> Linear(6, 12) >> GELU >> Linear(12, 6)", "repeat": "depth"}}
    same(document(flow, params={"depth": 2}), Twin, rows(6))


def test_repeat_once_keeps_its_number(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.ModuleList([nn.Linear(6, 6)])

        def forward(self, x):
            return self.block[0](x)

    same(document({"block": {"through": "Linear(6, 6)", "repeat": 1}}), Twin, rows(6))


def test_using_reaches_each_copy(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.k = nn.Linear(6, 5)
            self.block = nn.ModuleList([nn.Bilinear(6, 5, 6) for _ in range(2)])

        def forward(self, x):
            k = self.k(x)
            for block in self.block:
                x = block(x, input2=k)
            return x

    flow = {
        "k": {"fork": "Linear(6, 5)"},
        "block": {"through": "Bilinear(6, 5, 6)", "repeat": 2, "using": {"input2": "k"}},
    }
    same(document(flow), Twin, rows(6))


def test_repeat_of_a_split(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.s = nn.ModuleList([nn.ModuleDict({"a": nn.Linear(6, 6), "b": nn.Linear(6, 6)}) for _ in range(2)])

        def forward(self, x):
            for s in self.s:
                x = s["a"](x) * s["b"](x)
            return x

    flow = {"s": {"split": {"a": "Linear(6, 6)", "b": "Linear(6, 6)"}, "merge": "mul", "repeat": 2}}
    same(document(flow), Twin, rows(6))


def test_repeat_of_a_loop(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])

        def forward(self, x):
            for layer in self.l:
                for _ in range(3):
                    x = layer(x)
            return x

    same(document({"l": {"loop": "Linear(6, 6)", "times": 3, "repeat": 2}}), Twin, rows(6))


def test_repeat_of_also_with_a_skip():
    flow = {"res": {"also": "Linear(6, 6)", "skip": "Linear(6, 6, bias=false)", "repeat": 2}}
    graph = flowconf.build(document(flow))
    names = [f"res.{i}.{name}" for i in (0, 1) for name in ("weight", "bias", "skip.weight")]
    assert sorted(graph.state_dict()) == sorted(names)
    x = start = torch.randn(3, 6)
    for i in (0, 1):
        x = graph.module_at(f"res.{i}.skip")(x) + graph.module_at(f"res.{i}")(x)
    assert torch.equal(graph(start), x)


def test_a_fork_repeated_leaves_the_stream(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.probe = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
            self.out = nn.Linear(6, 3)

        def forward(self, x):
            probe = self.probe[1](self.probe[0](x))
            return {"out": self.out(x), "probe": probe}

    flow = {"probe": {"fork": "Linear(6, 6)", "repeat": 2}, "out": "Linear(6, 3)"}
    same(document(flow, outputs={"out": "out", "probe": "probe"}), Twin, rows(6))


# reuse


def test_reuse_shares_weights(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)
            self.act = nn.Tanh()

        def forward(self, x):
            return self.a(self.act(self.a(x)))

    graph = same(document({"a": "Linear(6, 6)", "act": "Tanh", "again": {"reuse": "a"}}), Twin, rows(6))
    assert graph.module_at("again") is graph.module_at("a")


def test_reuse_of_a_chain_member_and_of_a_branch(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
            self.two = nn.ModuleDict({"a": nn.Linear(6, 6), "b": nn.Linear(6, 6)})

        def forward(self, x):
            x = self.c(x)
            x = self.two["a"](x) + self.two["b"](x)
            return self.two["b"](self.c[0](x))

    flow = {
        "c": "Linear(6, 6) >> Tanh",
        "two": {"split": {"a": "Linear(6, 6)", "b": "Linear(6, 6)"}, "merge": "add"},
        "again": {"reuse": "c.0"},
        "b_again": {"reuse": "two.b"},
    }
    same(document(flow), Twin, rows(6))


def test_reuse_with_repeat_runs_the_module_again_and_again(same):
    """`repeat` copies a step; copies of a reuse all use the one module."""

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x):
            for _ in range(4):
                x = self.a(x)
            return x

    same(document({"a": "Linear(6, 6)", "more": {"reuse": "a", "repeat": 3}}), Twin, rows(6))
