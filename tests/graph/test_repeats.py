"""`repeat` and `reuse` against a module written by hand with the design's paths: bit for bit, gradients too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf import ConfigError
from flowconf.graph.weights.structural_hash import structural_hash
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


# repeat with an index


class Dilated(nn.Module):
    def __init__(self):
        super().__init__()
        self.wave = nn.ModuleList(
            [nn.Sequential(nn.Conv1d(4, 4, 3, padding=2**i, dilation=2**i), nn.ReLU()) for i in range(3)]
        )

    def forward(self, x):
        for wave in self.wave:
            x = x + wave(x)
        return x


def indexed(times, index="i"):
    return {"times": times, "index": index}


def test_an_index_is_a_parameter_of_each_copy(same):
    flow = {"wave": {"also": "Conv1d(4, 4, 3, padding=2**i, dilation=2**i) >> ReLU", "repeat": indexed("depth")}}
    same(document(flow, {"x": ["B", 4, 9]}, params={"depth": 3}), Dilated, rows(4, 9))


class Grown(nn.Module):
    """Copies of another width each, a loop that runs more often in each, and a skip that differs."""

    class Block(nn.Module):
        def __init__(self, i):
            super().__init__()
            self.turns = i + 1
            self.up = nn.Linear(6, 6 * (i + 1))
            self.down = nn.Linear(6 * (i + 1), 6)
            self.settle = nn.Linear(6, 6)

        def forward(self, x):
            x = self.down(self.up(x).tanh())
            for _ in range(self.turns):
                x = self.settle(x)
            return x

    class Pair(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.a = nn.Linear(6, width)
            self.b = nn.Linear(width, 6)

        def forward(self, x):
            return self.b(self.a(x))

    class Level(nn.Module):
        def __init__(self, level):
            super().__init__()
            self.wide = nn.Linear(6, 3 * level)
            self.back = nn.Linear(3 * level, 6)

        def forward(self, x):
            return self.back(self.wide(x))

    def __init__(self):
        super().__init__()
        self.block = nn.ModuleList([Grown.Block(i) for i in range(2)])
        self.level = nn.ModuleList([Grown.Level(k + 1) for k in range(2)])
        self.res = nn.ModuleList([Grown.Pair(n + 1) for n in range(2)])
        for n, copy in enumerate(self.res):
            copy.skip = Grown.Pair(n + 2)
        self.turn = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])

    def forward(self, x):
        for block in self.block:
            x = block(x)
        for level in self.level:
            x = level(x)
        for res in self.res:
            x = res.skip(x) + res(x)
        for number, turn in enumerate(self.turn):
            for _ in range(2 * number + 1):
                x = turn(x)
        return x


GROWN = {
    "block": {
        "through": {
            "flow": {
                "up": "Linear(6, 6 * (i + 1))",
                "act": "Tanh",
                "down": "Linear(6 * (i + 1), 6)",
                "settle": {"loop": "Linear(6, 6)", "times": "i + 1"},
            }
        },
        "repeat": indexed(2),
    },
    "level": {
        "graph": {
            "params": {"level": 1},
            "inputs": {"x": ["B", 6]},
            "flow": {"wide": "Linear(6, 3 * level)", "back": "Linear(3 * level, 6)"},
        },
        "with": {"level": "k + 1"},
        "repeat": indexed(2, "k"),
    },
    "res": {
        "also": {"flow": {"a": "Linear(6, n + 1)", "b": "Linear(n + 1, 6)"}},
        "skip": {"flow": {"a": "Linear(6, n + 2)", "b": "Linear(n + 2, 6)"}},
        "repeat": indexed(2, "n"),
    },
    "turn": {"loop": "Linear(6, 6)", "times": "2 * i + 1", "repeat": indexed(2)},
}


def test_an_index_reaches_nested_flows_mounted_graphs_skips_and_counts(same):
    same(document(GROWN), Grown, rows(6))


def test_a_copy_with_an_index_is_read_reused_frozen_and_initialized_by_its_number():
    flow = {
        "block": {**GROWN["block"], "init": {"up.weight": "constant(0.1 * (i + 1))"}, "frozen": "params"},
        "again": {"reuse": "block.1.up"},
        "out": "Linear(12, 6)",
    }
    graph = flowconf.build(document(flow, outputs={"out": "out", "first": "block.0.up", "second": "block.1.up"}))
    found = graph(torch.randn(3, 6))
    assert (found["first"].shape, found["second"].shape) == ((3, 6), (3, 12))
    assert [float(block.up.weight[0, 0]) for block in graph.block] == [float(torch.tensor(x)) for x in (0.1, 0.2)]
    assert graph.module_at("again") is graph.module_at("block.1.up")
    assert graph.shapes["block.1.up"] == "[B, 12]"
    assert graph.is_frozen("block")
    assert not graph.is_frozen("out")
    alone = {}
    exec(compile(graph.source, "<alone>", "exec"), alone)
    assert list(alone["Graph"]().state_dict()) == list(graph.state_dict())


def test_initial_values_reach_copies_and_reused_modules_inside_of_a_graph():
    inner = {"inputs": {"x": ["B", 6]}, "flow": {"block": {"also": "Linear(6, 6)", "repeat": 2}, "one": "Linear(6, 6)"}}
    inner["flow"]["two"] = {"reuse": "one"}
    graph = flowconf.build(document({"whole": {"graph": inner, "init": {"block.weight": 0, "two.weight": 1}}}))
    assert [copy.weight.any().item() for copy in graph.whole.block] == [False, False]
    assert graph.whole.one.weight.eq(1).all()


@pytest.mark.parametrize(
    ("value", "why"),
    [([[1, 2], [3]], "its lists have different lengths, 2 and 1"), (10**400, "is too large for a number")],
)
def test_an_initial_value_that_no_tensor_can_hold_is_refused(value, why):
    with pytest.raises(ConfigError, match=why):
        flowconf.build(document({"one": {"through": "Linear(6, 6)", "init": {"weight": value}}}))


def test_the_values_of_copies_are_part_of_the_hash():
    def hashed(call, index="i"):
        flow = {"block": {"through": call, "repeat": indexed(2, index)}}
        return structural_hash(flowconf.plan(document(flow, {"x": ["B", 6, 9]})))

    assert hashed("Conv1d(6, 6, 2 * i + 1, padding=i)") == hashed("Conv1d(6, 6, 1 + 2 * n, padding=n)", "n")
    assert hashed("Conv1d(6, 6, 2 * i + 1, padding=i)") != hashed("Conv1d(6, 6, 4 * i + 1, padding=2 * i)")


def test_an_error_in_one_copy_names_its_number():
    flow = {"block": {"through": "Linear(6, 6 - i)", "repeat": indexed(3)}}
    (found,) = flowconf.check(document(flow))
    assert (found.code, found.path) == ("FC0201", "block.2")
    assert found.advice == "`i` is 2 in `block.2`"


def test_an_index_that_nothing_uses_is_a_plain_repeat():
    flow = {"block": {"through": "Linear(6, 6)", "repeat": indexed(3)}}
    (found,) = flowconf.check(document(flow))
    assert (found.code, found.severity) == ("FC0149", "warning")
    assert flowconf.plan(document(flow)).step("block").copies == ()


def test_the_builder_gives_an_index():
    built = flowconf.flow("x", ["B", 6]).through("Linear(6 * (i + 1), 6)", name="block").repeat(1, index="i").build()
    (block,) = built.plan.steps
    assert (block.index, [copy.path for copy in block.copies]) == ("i", ["block.0"])


def test_a_value_of_another_shape_in_each_copy_is_not_stacked():
    graph = flowconf.build(document(GROWN))
    assert graph.view(["block.down"])(torch.zeros(2, 6))["block.down"].shape == (2, 2, 6)
    assert graph.view(["block.1.up"])(torch.zeros(2, 6))["block.1.up"].shape == (2, 12)
    with pytest.raises(flowconf.PathError, match=r"`block\.up` has another shape in each copy of `block`"):
        graph.view(["block.up"])


def test_init_of_a_call_in_a_chain_is_not_a_copy_of_the_repeat():
    """In `init: {1.weight: ...}`, 1 is the second call of each copy, not the second copy."""
    step = {"also": "LayerNorm(4) >> Linear(4, 4)", "repeat": 3, "init": {"1.weight": 0.5, "0.bias": 2}}
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"block": step}})
    for copy in range(3):
        assert (graph.module_at(f"block.{copy}.1").weight == 0.5).all()
        assert (graph.module_at(f"block.{copy}.0").bias == 2).all()
