"""Verbs against a module written by hand with the design's paths: bit for bit, gradients too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from tests.graph.conftest import document, rows

# through and chains


def test_through(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(6, 8)
            self.act = nn.GELU()
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            return self.norm(self.act(self.stem(x)))

    same(document({"stem": "Linear(6, 8)", "act": {"through": "GELU"}, "norm": "LayerNorm(8)"}), Twin, rows(6))


def test_a_chain_names_its_members_by_number(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))

        def forward(self, x):
            return self.head(x)

    same(document({"head": "Linear(6, 8) >> Tanh >> Linear(8, 2)"}), Twin, rows(6))


def test_from_reroutes_and_tag_gives_one_more_name(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)
            self.b = nn.Linear(6, 4)
            self.c = nn.Linear(6, 5)

        def forward(self, x):
            a = self.a(x)
            return {"b": self.b(a), "c": self.c(a)}

    flow = {
        "a": {"through": "Linear(6, 6)", "tag": "hidden"},
        "b": "Linear(6, 4)",
        "c": {"from": "hidden", "through": "Linear(6, 5)"},
    }
    same(document(flow, outputs={"b": "b", "c": "c"}), Twin, rows(6))


def test_dropout_draws_as_by_hand(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)
            self.drop = nn.Dropout(0.5)
            self.b = nn.Linear(6, 6)

        def forward(self, x):
            return self.b(self.drop(self.a(x)))

    same(document({"a": "Linear(6, 6)", "drop": "Dropout(0.5)", "b": "Linear(6, 6)"}), Twin, rows(6))


def test_batch_statistics_move_as_by_hand(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(self.conv(x))

    same(document({"conv": "Conv2d(1, 3, 3)", "norm": "BatchNorm2d(3)"}, {"x": ["B", 1, 5, 5]}), Twin, rows(1, 5, 5))


# also, skip, fork


def test_also_adds_the_stream(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(6, 6)
            self.residual = nn.Sequential(nn.Linear(6, 6), nn.ReLU())

        def forward(self, x):
            stem = self.stem(x)
            return stem + self.residual(stem)

    same(document({"stem": "Linear(6, 6)", "residual": {"also": "Linear(6, 6) >> ReLU"}}), Twin, rows(6))


def test_skip_of_one_module_is_below_the_step(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.residual = nn.Linear(6, 4)
            self.residual.skip = nn.Linear(6, 4, bias=False)

        def forward(self, x):
            return self.residual.skip(x) + self.residual(x)

    same(document({"residual": {"also": "Linear(6, 4)", "skip": "Linear(6, 4, bias=false)"}}), Twin, rows(6))


def test_skip_beside_a_chain_adds_no_level():
    graph = flowconf.build(document({"res": {"also": "Linear(6, 4) >> Tanh", "skip": "Linear(6, 4)"}}))
    names = ["res.0.weight", "res.0.bias", "res.skip.weight", "res.skip.bias"]
    assert sorted(graph.state_dict()) == sorted(names)


def test_skip_beside_a_chain_computes_as_by_hand():
    torch.manual_seed(0)
    graph = flowconf.build(document({"res": {"also": "Linear(6, 4) >> Tanh", "skip": "Linear(6, 4)"}}))
    x = torch.randn(3, 6)
    linears = [m for m in graph.modules() if isinstance(m, nn.Linear)]
    body = graph.module_at("res.0")
    skip = graph.module_at("res.skip")
    assert {id(m) for m in linears} == {id(body), id(skip)}
    assert torch.equal(graph(x), skip(x) + torch.tanh(body(x)))


def test_also_and_skip_of_inline_graphs(same):
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 4)

        def forward(self, x):
            return self.a(x)

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.res = Part()
            self.res.skip = Part()

        def forward(self, x):
            return self.res.skip(x) + self.res(x)

    part = {"flow": {"a": "Linear(6, 4)"}}
    same(document({"res": {"also": part, "skip": part}}), Twin, rows(6))


def test_also_passes_using_to_the_body_only(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 5)
            self.mix = nn.Bilinear(6, 5, 6)

        def forward(self, x):
            a = self.a(x)
            return x + self.mix(x, input2=a)

    flow = {
        "a": {"fork": "Linear(6, 5)"},
        "mix": {"also": "Bilinear(6, 5, 6)", "using": {"input2": "a"}},
    }
    same(document(flow), Twin, rows(6))


def test_fork_leaves_the_stream(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.probe = nn.Linear(6, 2)
            self.out = nn.Linear(6, 3)

        def forward(self, x):
            probe = self.probe(x)
            return {"out": self.out(x), "probe": probe}

    flow = {"probe": {"fork": "Linear(6, 2)"}, "out": "Linear(6, 3)"}
    same(document(flow, outputs={"out": "out", "probe": "probe"}), Twin, rows(6))


def test_a_fork_at_the_end_gives_the_stream(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 3)
            self.probe = nn.Linear(3, 2)

        def forward(self, x):
            return self.a(x)

    same(document({"a": "Linear(6, 3)", "probe": {"fork": "Linear(3, 2)"}}), Twin, rows(6))


# split


MERGES = {
    "add": lambda parts: parts[0] + parts[1] + parts[2],
    "mean": lambda parts: (parts[0] + parts[1] + parts[2]) / 3,
    "mul": lambda parts: parts[0] * parts[1] * parts[2],
    "max": lambda parts: torch.maximum(torch.maximum(parts[0], parts[1]), parts[2]),
    "cat": lambda parts: torch.cat(parts, 1),
    "stack": lambda parts: torch.stack(parts, 1),
}


class Branches(nn.Module):
    def __init__(self, merge):
        super().__init__()
        self.wide = nn.ModuleDict(
            {"a": nn.Linear(6, 4), "b": nn.Sequential(nn.Linear(6, 4), nn.Tanh()), "c": nn.Linear(6, 4, bias=False)}
        )
        self.merge = merge

    def forward(self, x):
        return self.merge([self.wide["a"](x), self.wide["b"](x), self.wide["c"](x)])


BRANCHES = {"a": "Linear(6, 4)", "b": "Linear(6, 4) >> Tanh", "c": "Linear(6, 4, bias=false)"}


@pytest.mark.parametrize("merge", [m for m in MERGES if m not in ("mean", "max")])
def test_split_and_merge(same, merge):
    same(document({"wide": {"split": BRANCHES, "merge": merge}}), lambda: Branches(MERGES[merge]), rows(6))


def _close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("merge", ["mean", "max"])
def test_mean_and_max_merge(merge):
    """There is more than one way to write these by hand, so values agree to rounding."""
    torch.manual_seed(0)
    graph = flowconf.build(document({"wide": {"split": BRANCHES, "merge": merge}}))
    twin = Branches(MERGES[merge])
    twin.load_state_dict(graph.state_dict())
    for batch in (1, 3):
        x = torch.randn(batch, 6)
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        one, other = graph(mine), twin(theirs)
        _close(one, other)
        one.square().sum().backward()
        other.square().sum().backward()
        _close(mine.grad, theirs.grad)


@pytest.mark.parametrize(("merge", "dim"), [("cat", 2), ("stack", 2), ("cat", -1), ("stack", -1), ("stack", 0)])
def test_merge_along_another_dimension(same, merge, dim):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = nn.ModuleDict({"a": nn.Linear(6, 4), "b": nn.Linear(6, 4)})

        def forward(self, x):
            return getattr(torch, merge)([self.two["a"](x), self.two["b"](x)], dim)

    flow = {"two": {"split": {"a": "Linear(6, 4)", "b": "Linear(6, 4)"}, "merge": merge, "dim": dim}}
    same(document(flow, {"x": ["B", 2, 6]}), Twin, rows(2, 6))


def test_merge_by_a_module_that_takes_the_list(same, table):
    class Weighted(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(0.1, 1, size))

        def forward(self, parts):
            return parts[0] * self.weight[0] + parts[1] * self.weight[1]

    table.register(Weighted)

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = nn.ModuleDict({"a": nn.Linear(6, 4), "b": nn.Linear(6, 4), "merge": Weighted(2)})

        def forward(self, x):
            return self.two["merge"]([self.two["a"](x), self.two["b"](x)])

    flow = {"two": {"split": {"a": "Linear(6, 4)", "b": "Linear(6, 4)"}, "merge": "Weighted(2)"}}
    same(document(flow), Twin, rows(6))


def test_using_reaches_every_branch(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.k = nn.Linear(6, 5)
            self.two = nn.ModuleDict({"a": nn.Bilinear(6, 5, 3), "b": nn.Bilinear(6, 5, 3)})

        def forward(self, x):
            k = self.k(x)
            return self.two["a"](x, input2=k) + self.two["b"](x, input2=k)

    flow = {
        "k": {"fork": "Linear(6, 5)"},
        "two": {
            "split": {"a": "Bilinear(6, 5, 3)", "b": "Bilinear(6, 5, 3)"},
            "merge": "add",
            "using": {"input2": "k"},
        },
    }
    same(document(flow), Twin, rows(6))


def test_a_branch_can_be_referred_to(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = nn.ModuleDict({"a": nn.Linear(6, 4), "b": nn.Linear(6, 4)})
            self.out = nn.Linear(4, 2)

        def forward(self, x):
            a, b = self.two["a"](x), self.two["b"](x)
            return {"merged": a + b, "out": self.out(a)}

    flow = {
        "two": {"split": {"a": "Linear(6, 4)", "b": "Linear(6, 4)"}, "merge": "add"},
        "out": {"from": "two.a", "through": "Linear(4, 2)"},
    }
    same(document(flow, outputs={"merged": "two", "out": "out"}), Twin, rows(6))


def test_a_gate_refuses_weights_that_are_not_one_for_each_expert():
    flow = {"mix": {"gate": {"a": "Linear(4, 4)", "b": "Linear(4, 4)"}, "router": "Linear(4, 3)"}}
    with pytest.raises(flowconf.ConfigError, match="one weight for each of 2 experts, got"):
        flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow})
    graph = flowconf.build({"flow": flow})
    for sizes in ((2, 4), (2, 5, 4)):
        with pytest.raises(Exception, match="one weight for each of 2 experts, got 3"):
            graph(torch.zeros(sizes))
    flow["mix"]["router"] = "Linear(4, 1)"
    with pytest.raises(Exception, match="one weight for each of 2 experts, got 1"):
        flowconf.build({"flow": flow})(torch.zeros(2, 4))
