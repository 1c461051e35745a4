"""`view`, `observe` and `tagged`: the values that a hand-written forward would see, and nothing more is run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf import PathError

BODY = {"flow": {"a": "Linear(4, 4)", "b": "Tanh"}}
DOCUMENT = {
    "inputs": {"x": ["B", 4]},
    "flow": {
        "stem": {"through": "Linear(4, 4)", "tag": "hidden"},
        "looped": {"loop": BODY, "times": 3},
        "rows": "Linear(4, 8) >> Unflatten(1, [2, 4])",
        "mapped": {"map": BODY},
        "flat": "Flatten >> Linear(8, 4)",
        "tower": {"through": BODY, "repeat": 3},
        "two": {"split": {"left": "Linear(4, 4)", "right": BODY}, "merge": "add"},
        "head": {"fork": "Linear(4, 3)"},
        "probe": {"fork": "Linear(4, 1)"},
        "out": {"from": "two", "through": "Linear(4, 2)"},
    },
}


def by_hand(graph, x):
    """Every value of the document, with the lists of those that iterate."""
    at, seen = graph.module_at, {"x": x}
    x = seen["stem"] = seen["hidden"] = at("stem")(x)
    seen["looped.a"], seen["looped.b"] = [], []
    for _ in range(3):
        a = at("looped.a")(x)
        x = torch.tanh(a)
        seen["looped.a"].append(a)
        seen["looped.b"].append(x)
    seen["looped"] = x
    x = seen["rows"] = at("rows")(x)
    seen["mapped.a"] = [at("mapped.a")(row) for row in x.unbind(1)]
    seen["mapped.b"] = [torch.tanh(a) for a in seen["mapped.a"]]
    x = seen["mapped"] = torch.stack(seen["mapped.b"], 1)
    x = seen["flat"] = at("flat")(x)
    seen["tower.a"], seen["tower.b"] = [], []
    for i in range(3):
        a = at(f"tower.{i}.a")(x)
        x = torch.tanh(a)
        seen["tower.a"].append(a)
        seen["tower.b"].append(x)
    seen["tower"] = x
    seen["two.left"], seen["two.right.a"] = at("two.left")(x), at("two.right.a")(x)
    seen["two.right"] = seen["two.right.b"] = torch.tanh(seen["two.right.a"])
    x = seen["two"] = seen["two.left"] + seen["two.right"]
    seen["head"], seen["probe"] = at("head")(x), at("probe")(x)
    seen["out"] = at("out")(x)
    return seen


def equal(mine, theirs):
    if isinstance(theirs, list):
        return isinstance(mine, list) and len(mine) == len(theirs) and all(map(equal, mine, theirs))
    return torch.equal(mine, theirs)


@pytest.fixture
def graph():
    torch.manual_seed(0)
    return flowconf.build(DOCUMENT)


REFERENCES = [
    "x", "stem", "hidden", "looped", "looped.a", "looped.b", "rows", "mapped", "mapped.a", "mapped.b", "flat",
    "tower", "tower.a", "tower.b", "two", "two.left", "two.right", "two.right.a", "two.right.b", "head", "probe", "out",
]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
def test_observe_gives_what_a_hand_written_forward_sees(graph, batch):
    x = torch.randn(batch, 4)
    expected = by_hand(graph, x)
    with graph.observe(*REFERENCES) as seen:
        output = graph(x)
    assert torch.equal(output, expected["out"])
    assert set(seen) == set(REFERENCES)
    for reference in REFERENCES:
        assert equal(seen[reference], expected[reference]), reference


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("batch", [1, 3])
def test_each_value_alone(graph, reference, batch):
    x = torch.randn(batch, 4)
    expected = by_hand(graph, x)[reference]
    with graph.observe(reference) as seen:
        graph(x)
    assert equal(seen[reference], expected)
    value = graph.view([reference])(x)[reference]
    assert torch.equal(value, torch.stack(expected, 1) if isinstance(expected, list) else expected)
    assert equal(graph.tagged(reference), expected)


def test_view_stacks_iterations_behind_the_batch(graph):
    x = torch.randn(3, 4)
    expected = by_hand(graph, x)
    out = graph.view(REFERENCES)(x)
    assert list(out) == REFERENCES
    for reference, value in expected.items():
        stacked = torch.stack(value, 1) if isinstance(value, list) else value
        assert torch.equal(out[reference], stacked), reference
    assert out["looped.a"].shape == (3, 3, 4)
    assert out["mapped.a"].shape == (3, 2, 4)


@pytest.mark.parametrize("name", ["looped.a", "mapped.a", "tower.a", "tower.b"])
@pytest.mark.parametrize("index", [0, 1, -1, -2])
def test_one_iteration_is_addressed_by_its_index(graph, name, index):
    x = torch.randn(3, 4)
    reference = f"{name}[{index}]"
    expected = by_hand(graph, x)[name][index]
    assert torch.equal(graph.view([reference])(x)[reference], expected)
    with graph.observe(reference) as seen:
        graph(x)
    assert torch.equal(seen[reference], expected)


def test_the_copies_of_a_repeat_are_addressed_by_path(graph):
    """`block.0` is a path, so its parameters and its values have that name."""
    x = torch.randn(3, 4)
    expected = by_hand(graph, x)
    assert graph.module_at("tower.1.a") is graph.tower[1].a
    assert torch.equal(graph.view(["tower[1]"])(x)["tower[1]"], expected["tower.b"][1])


def test_observed_values_carry_gradients(graph):
    with graph.observe("looped.a", "two.left") as seen:
        graph(torch.randn(2, 4))
    (seen["looped.a"][0].sum() + seen["two.left"].sum()).backward()
    assert graph.stem.weight.grad is not None
    assert graph.out.weight.grad is None


def test_view_shares_the_very_modules(graph):
    view = graph.view(["head"])
    own = {id(p) for p in graph.parameters()}
    assert {id(p) for p in view.parameters()} <= own
    with torch.no_grad():
        graph.head.weight.zero_()
        graph.head.bias.fill_(2.0)
    assert torch.equal(view(torch.randn(2, 4))["head"], torch.full((2, 3), 2.0))
    view(torch.randn(2, 4))["head"].sum().backward()
    assert graph.stem.weight.grad is not None


def test_a_view_follows_the_mode_of_its_graph():
    flow = {"d": "Dropout(0.5)", "g": {"graph": {"flow": {"n": "BatchNorm1d(4)"}}}}
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow})
    graph.eval()
    view = graph.view(["d", "g.n"])
    x = torch.randn(3, 4)
    assert torch.equal(view(x)["d"], x)


def test_a_view_with_names_of_inputs():
    flow = {"a": {"through": "StateAdd", "using": {"state": "y"}}, "b": {"from": "y", "through": "Tanh"}}
    graph = flowconf.build({"inputs": {"x": ["B", 4], "y": ["B", 4]}, "flow": flow})
    x, y = torch.randn(2, 4), torch.randn(2, 4)
    assert torch.equal(graph.view(["a"])(x, y)["a"], x + y)
    assert torch.equal(graph.view(["a"])(x=x, y=y)["a"], x + y)
    assert torch.equal(graph.view(["b"])(x=x, y=y)["b"], torch.tanh(y))
    assert torch.equal(graph.view(["b"])(x, y)["b"], torch.tanh(y))


# only what is asked for runs


@pytest.fixture
def calls(table):
    """How often each `Counted` ran, by its name."""
    counts = {}

    class Counted(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            if not torch.compiler.is_compiling() and not isinstance(x, torch._subclasses.FakeTensor):
                counts[self.name] = counts.get(self.name, 0) + 1
            return x * self.weight

    table.register(Counted)
    return counts


def test_a_member_that_nothing_needs_does_not_run(calls):
    inner = {"flow": {"used": "Counted('inner.used')", "unused": {"fork": "Counted('inner.unused')"}}}
    flow = {
        "a": "Counted('a')",
        "decoder": {"fork": "Counted('decoder')"},
        "g": {"graph": inner},
        "two": {"split": {"p": "Counted('p')", "q": "Counted('q')"}, "merge": "add"},
        "late": "Counted('late')",
    }
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow})
    calls.clear()
    graph.view(["g"])(torch.randn(2, 4))
    assert calls == {"a": 1, "inner.used": 1}
    calls.clear()
    graph.view(["two.p"])(torch.randn(2, 4))
    assert calls == {"a": 1, "inner.used": 1, "p": 1}
    calls.clear()
    graph.view(["g.unused", "decoder"])(torch.randn(2, 4))
    assert calls == {"a": 1, "inner.used": 1, "inner.unused": 1, "decoder": 1}
    calls.clear()
    graph.view(["x"])(torch.randn(2, 4))
    assert calls == {}


def test_nothing_runs_twice_when_observed(calls):
    flow = {
        "a": "Counted('a')",
        "l": {"loop": {"flow": {"b": "Counted('b')"}}, "times": 3},
        "again": {"reuse": "a"},
    }
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow})
    calls.clear()
    with graph.observe("a", "l.b", "again", "l") as seen:
        graph(torch.randn(2, 4))
    assert calls == {"a": 2, "b": 3}
    assert len(seen["l.b"]) == 3


# what observing costs


def test_observing_leaves_the_class_alone(graph):
    forward = type(graph).forward
    x = torch.randn(2, 4)
    with graph.observe("stem"):
        assert type(graph).forward is forward
        graph(x)
    assert type(graph).forward is forward
    assert "forward" not in vars(graph)
    assert graph._forward_hooks == {}
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in graph.modules())


def test_tagged_is_the_last_observed_value_or_none(graph):
    assert graph.tagged("stem") is None
    with pytest.raises(PathError, match="stem"):
        graph.tagged("stam")
    x, y = torch.randn(2, 4), torch.randn(2, 4)
    with graph.observe("stem"):
        graph(x)
        graph(y)
    assert torch.equal(graph.tagged("stem"), graph.stem(y))
    graph(x)
    assert torch.equal(graph.tagged("stem"), graph.stem(y))


def test_observed_blocks_nest(graph):
    x = torch.randn(2, 4)
    with graph.observe("stem") as outer:
        with graph.observe("head") as inner:
            graph(x)
        graph(x)
    assert set(inner) == {"head"}
    assert set(outer) == {"stem"}
    assert "forward" not in vars(graph)


def test_observing_survives_an_exception(graph):
    with pytest.raises(RuntimeError), graph.observe("stem"):
        graph(torch.randn(2, 5))
    assert "forward" not in vars(graph)
    assert graph(torch.randn(2, 4)).shape == (2, 2)


def test_observe_works_on_a_subgraph():
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"g": {"graph": BODY}, "h": "Linear(4, 4)"}})
    x = torch.randn(2, 4)
    with graph.subgraph("g").observe("a") as seen:
        graph(x)
    assert torch.equal(seen["a"], graph.g.a(x))


def test_hooks_of_the_user_fire_while_observed(graph):
    fired = []
    graph.register_forward_hook(lambda *_: fired.append("root"))
    graph.stem.register_forward_hook(lambda *_: fired.append("stem"))
    with graph.observe("looped.a"):
        graph(torch.randn(2, 4))
    assert sorted(fired) == ["root", "stem"]


def test_hooks_on_a_nested_graph_fire_while_observed():
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"g": {"graph": BODY}, "h": "Linear(4, 4)"}})
    fired = []
    graph.g.register_forward_hook(lambda *_: fired.append("g"))
    with graph.observe("g.a"):
        graph(torch.randn(2, 4))
    assert fired == ["g"]


def test_values_of_nested_iterations():
    """A loop in a map: the innermost iterations are the last to be stacked, or come as lists of lists."""
    inner = {"flow": {"again": {"loop": BODY, "times": 3}}}
    graph = flowconf.build({"inputs": {"x": ["B", 2, 4]}, "flow": {"m": {"map": inner}}})
    x = torch.randn(5, 2, 4)
    value = graph.view(["m.again.a"])(x)["m.again.a"]
    assert value.shape == (5, 2, 3, 4)
    first = graph.module_at("m.again.a")(x[:, 1])
    torch.testing.assert_close(value[:, 1, 0], first, rtol=1e-6, atol=1e-6)


WRONG = ["", "zzz", "stem.a", "looped.c", "two.middle", "looped.a[7]", "stem[0]", "stem.", "a b"]


@pytest.mark.parametrize("reference", WRONG)
def test_wrong_references_are_refused_before_anything_runs(graph, reference):
    with pytest.raises(PathError):
        graph.view([reference])
    with pytest.raises(PathError), graph.observe(reference):
        pass
    with pytest.raises(PathError):
        graph.tagged(reference)


def test_a_wrong_reference_lists_what_exists_there(graph):
    with pytest.raises(PathError) as raised:
        graph.view(["looped.zz"])
    assert "`a`" in str(raised.value)
    assert "`b`" in str(raised.value)
