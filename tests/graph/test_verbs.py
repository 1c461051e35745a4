"""Every verb and modifier against a module written by hand with the design's paths: bit for bit, gradients too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf


def rows(*size):
    return lambda batch: (torch.randn(batch, *size),)


def document(flow, inputs=None, **more):
    return {"inputs": inputs or {"x": ["B", 6]}, "flow": flow, **more}


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
