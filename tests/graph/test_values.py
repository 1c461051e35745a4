"""Values on the way: of members of chains, copies, branches, experts, routers, skips, conditions and merges.

The same path names a module, its parameters and its output. Everything is held against a forward written by hand.
"""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.func import functional_call

import flowconf
from flowconf import ConfigError, PathError
from flowconf.graph.exchange.eject import ejected

INNER = {"flow": {"h": "Linear(6, 6) >> Tanh", "g": "Linear(6, 6)"}}
FLOW = {
    "seen": "Linear(6, 8) >> Tanh >> Linear(8, 6)",
    "res": {"also": "Linear(6, 6) >> Tanh", "skip": "Linear(6, 6) >> Tanh"},
    "block": {"also": "LayerNorm(6) >> Linear(6, 6)", "repeat": 2},
    "tower": {"through": INNER, "repeat": 2},
    "experts": {
        "gate": {"one": "Linear(6, 6)", "two": "Linear(6, 6) >> Tanh"},
        "router": "Linear(6, 6) >> SoftmaxRouter(6, 2)",
    },
    "read": {"loop": {"flow": {"seen": "Linear(6, 6) >> Tanh", "move": "Linear(6, 6)"}}, "times": 3},
    "halted": {"loop": "Linear(6, 6) >> Tanh", "until": "Identity >> ThresholdHalt(100)", "max": 2},
    "both": {"split": {"a": "Linear(6, 6)", "b": INNER}, "merge": "mean"},
    "rows": "Unflatten(1, [2, 3])",
    "each": {"map": "Linear(3, 3) >> Tanh"},
    "folded": {"map": "Linear(3, 3) >> Tanh", "batched": True},
    "cut": {"map": "Linear(1, 2) >> Tanh", "slices": 3},
    "flat": "Flatten >> Linear(12, 6)",
    "picked": {"switch": {"a": "Linear(6, 6)", "b": "Tanh"}, "router": "Tanh >> ArgmaxSelector(6, 2)"},
    "again": {"reuse": "seen"},
    "out": "Linear(6, 2)",
}
DOCUMENT = {"inputs": {"x": ["B", 6]}, "flow": FLOW}


def chain(graph, path, x, seen, name=None):
    """Run the members of a chain and note each."""
    number = 0
    for number, member in enumerate(graph.module_at(path).children()):
        x = member(x)
        seen.setdefault(f"{name or path}.{number}", []).append(x)
    return x


def by_hand(graph, x):
    """Every value of the document by its path, as the list of how often it is made."""
    at, seen = graph.module_at, {}
    x = chain(graph, "seen", x, seen)
    seen["res.skip"] = [chain(graph, "res.skip", x, seen)]
    seen["res.0"] = [at("res.0")(x)]
    seen["res.1"] = [torch.tanh(seen["res.0"][0])]
    x = seen["res.skip"][0] + seen["res.1"][0]
    for number in range(2):
        x = x + chain(graph, f"block.{number}", x, seen)
        seen[f"block.{number}"] = [x]
    for number in range(2):
        h = chain(graph, f"tower.{number}.h", x, seen)
        seen[f"tower.{number}.h"] = [h]
        x = at(f"tower.{number}.g")(h)
        seen.setdefault("tower.h.0", []).extend(seen[f"tower.{number}.h.0"])
        seen.setdefault("tower.h", []).append(h)
        seen[f"tower.{number}"] = [x]
    weights = chain(graph, "experts.router", x, seen)
    seen["experts.router"] = [weights]
    seen["experts.one"], seen["experts.two"] = [at("experts.one")(x)], [chain(graph, "experts.two", x, seen)]
    x = weights[..., 0, None] * seen["experts.one"][0] + weights[..., 1, None] * seen["experts.two"][0]
    for _ in range(3):
        x = at("read.move")(chain(graph, "read.seen", x, seen))
    for _ in range(2):
        seen.setdefault("halted.0", []).append(at("halted.0")(x))
        x = torch.tanh(seen["halted.0"][-1])
        seen.setdefault("halted.1", []).append(x)
        seen.setdefault("halted.condition", []).append(x.max() - 100)
    seen["both.a"] = [at("both.a")(x)]
    seen["both.b.h"] = [chain(graph, "both.b.h", x, seen)]
    x = (seen["both.a"][0] + at("both.b.g")(seen["both.b.h"][0])) / 2
    x = at("rows")(x)
    x = torch.stack([chain(graph, "each", row, seen) for row in x.unbind(1)], 1)
    x = torch.stack([chain(graph, "folded", row, seen) for row in x.unbind(1)], 1)
    x = torch.cat([chain(graph, "cut", piece, seen) for piece in x.chunk(3, -1)], -1)
    x = chain(graph, "flat", x, seen)
    index = chain(graph, "picked.router", x, seen)
    seen["picked.router"] = [index]
    chosen = torch.stack([at("picked.a")(x), torch.tanh(x)])
    x = chosen[index, torch.arange(len(x))]
    x = chain(graph, "seen", x, seen, "again")
    seen["out"] = [at("out")(x)]
    return seen


ITERATED = ("tower.h", "read.", "halted.", "each.", "folded.", "cut.")


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return flowconf.build(DOCUMENT).double()


def inputs(batch):
    torch.manual_seed(batch)
    return torch.randn(batch, 6, dtype=torch.float64)


def close(mine, theirs):
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


PATHS = list(by_hand(flowconf.build(DOCUMENT), torch.zeros(2, 6)))


def stacked(values):
    return torch.stack(values, min(1, values[0].dim()))


@pytest.mark.parametrize("batch", [1, 3])
def test_observed_all_at_once(graph, batch):
    x = inputs(batch)
    expected = by_hand(graph, x)
    with graph.observe(*PATHS) as seen:
        out = graph(x)
    close(out, expected["out"][0])
    assert list(seen) == PATHS
    for path, values in expected.items():
        if path.startswith(ITERATED):
            assert isinstance(seen[path], list), path
            assert len(seen[path]) == len(values), path
        for mine, theirs in zip(seen[path] if path.startswith(ITERATED) else [seen[path]], values, strict=True):
            close(mine, theirs)


@pytest.mark.parametrize("path", PATHS)
def test_viewed_alone(graph, path):
    x = inputs(3)
    values = by_hand(graph, x)[path]
    view = graph.view([path])
    close(view(x)[path], stacked(values) if path.startswith(ITERATED) else values[0])
    with graph.observe(path) as seen:
        graph(x)
    close(seen[path], values if path.startswith(ITERATED) else values[0])
    assert graph.tagged(path) is seen[path]


@pytest.mark.parametrize("path", ["read.seen.0", "halted.1", "each.0", "folded.1", "cut.0", "tower.h.0"])
@pytest.mark.parametrize("index", [0, 1, -1, -2])
def test_one_iteration_with_gradients(graph, path, index):
    x = inputs(2).requires_grad_()
    expected = by_hand(graph, x)[path][index]
    mine = graph.view([f"{path}[{index}]"])(x)[f"{path}[{index}]"]
    close(mine, expected)
    weights = torch.linspace(-1, 1, mine.numel(), dtype=torch.float64).reshape(mine.shape)
    gradient = torch.autograd.grad((mine * weights).sum(), x)[0]
    close(gradient, torch.autograd.grad((expected * weights).sum(), x)[0])


def test_the_same_path_names_module_parameters_and_output(graph):
    for path in PATHS:
        if not path.startswith(("again.", "tower.h")):
            assert graph.kind(path)
            graph.parameters_at(path)


@pytest.mark.parametrize(
    "path", ["seen.1", "res.skip.0", "experts.router.0", "experts.two.0", "picked.router.0", "both.b.h.0", "again.0"]
)
def test_only_what_is_asked_for_runs(graph, path):
    """The members behind the one that is asked for are not in the view's source."""
    later = f"self.{path.split('.')[0]}"
    source = graph.view([path]).source
    assert "self.out(" not in source
    assert later in source or path == "again.0"
    head, _, number = path.rpartition(".")
    assert (
        f"{int(number) + 1}](" not in source.split("def forward")[-1].split(head.split(".")[-1])[-1] or path == "seen.1"
    )


REFERRED = [
    "seen.1",
    "res.skip.1",
    "block.0",
    "block.1.1",
    "tower.0.h.0",
    "experts.router",
    "read.seen.1",
    "both.b.h.0",
]


@pytest.mark.parametrize("path", REFERRED)
def test_a_later_step_reads_it(path):
    """`from` and `outputs` take every path; within a graph the last iteration's value is meant."""
    torch.manual_seed(0)
    document = {**DOCUMENT, "flow": {**FLOW, "probe": {"from": path, "fork": "Linear(_, 3)"}}}
    document["outputs"] = {"out": "out", "probe": "probe", "value": path}
    graph = flowconf.build(document).double()
    x = inputs(3)
    expected = by_hand(graph, x)
    out = graph(x)
    close(out["value"], expected[path][-1])
    close(out["probe"], graph.probe(expected[path][-1]))
    close(out["out"], expected["out"][0])
    namespace = {"__name__": "ejected"}
    exec(ejected(graph), namespace)
    twin = namespace["Graph"]().double()
    twin.load_state_dict(graph.state_dict())
    for name, value in twin(x).items():
        assert torch.equal(value, out[name]), name


def test_a_condition_and_the_choice_of_a_switch_are_values(graph):
    x = inputs(3)
    view = graph.view(["halted.condition", "picked.router"])
    assert view(x)["halted.condition"].shape == (2,)
    assert view(x)["picked.router"].dtype == torch.int64


@pytest.mark.parametrize("path", ["picked.a", "picked.b.0", "picked.a[0]"])
def test_a_branch_of_a_switch_has_no_value(graph, path):
    with pytest.raises(
        PathError, match=r"`picked.\w` has no value: a switch runs a branch only for the rows .*\n.*`picked.router`"
    ):
        graph.view([path])


WRONG = [
    ("seen.3", "the chain `seen` has no module `3`"),
    ("seen.0.weight", "`seen.0` is a single module and has no member `weight`"),
    ("block.2", "copy `2` of `block` is out of range: it has 2 copies"),
    ("res.skop", "the chain `res` has no module `skop`"),
    ("experts.three", "`experts` has no branch `three`"),
    ("both.merge", "`both` has no branch `merge`"),
    ("read.seen.0[3]", "index `[3]` of `read.seen.0` is out of range: it has 3 iterations"),
    ("read.seen.0[-4]", "index `[-4]` of `read.seen.0` is out of range: it has 3 iterations"),
    ("each.0[2]", "is out of range: it has 2 slices"),
    ("cut.0[3]", "index `[3]` of `cut.0` is out of range: it has 3 iterations"),
    ("tower[2]", "index `[2]` of `tower` is out of range: it has 2 copies"),
    ("seen.0[0]", "`seen.0` has no iterations to select from"),
]


@pytest.mark.parametrize(("path", "words"), WRONG)
def test_what_is_not_there(graph, path, words):
    with pytest.raises(PathError) as raised:
        graph.view([path])
    assert words in str(raised.value)
    with pytest.raises(ConfigError) as refused:
        flowconf.build({**DOCUMENT, "outputs": {"y": path}}, origin="graph")
    assert [found.code for found in refused.value.diagnostics] == ["FC0141"]
    assert words in str(refused.value)


def test_a_loop_that_never_runs_says_so():
    flow = {"l": {"loop": "Linear(4, 4) >> Tanh", "while": "ThresholdHalt(-100)", "max": 3}}
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow})
    x = torch.randn(2, 4)
    with graph.observe("l.0", "l.condition") as seen:
        assert torch.equal(graph(x), x)
    assert seen["l.0"] == []
    assert len(seen["l.condition"]) == 1
    with pytest.raises(flowconf.StepError, match="the loop ran no iterations"):
        graph.view(["l.0"])(x)
    with pytest.raises(flowconf.StepError, match=r"`l.0\[1\]` has no iteration 1: 0 ran"):
        graph.view(["l.0[1]"])(x)
    after = {**flow, "t": {"from": "l.0", "through": "Tanh"}}
    with pytest.raises(flowconf.StepError, match=r"`l\.0` has no iteration -1: 0 ran"):
        flowconf.build({"inputs": {"x": ["B", 4]}, "flow": after})(x)


def test_copies_of_a_loop():
    """`l.1[2]` is the third iteration of the second copy; all of them come stacked, copies first."""
    flow = {"l": {"loop": {"flow": {"a": "Linear(4, 4) >> Tanh"}}, "times": 3, "repeat": 2}}
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow}).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    values, y = [], x
    for layer in graph.l:
        values.append([])
        for _ in range(3):
            y = layer(y)
            values[-1].append(y)
    out = graph.view(["l.a", "l.1.a", "l.1[2]", "l[0]", "l.0"])(x)
    close(out["l.a"], torch.stack([torch.stack(v, 1) for v in values], 1))
    close(out["l.1.a"], torch.stack(values[1], 1))
    close(out["l.1[2]"], values[1][2])
    close(out["l[0]"], values[1][0])
    close(out["l.0"], values[0][2])
    with graph.observe("l.a.0", "l.a[1]") as seen:
        graph(x)
    assert [len(copy_) for copy_ in seen["l.a.0"]] == [3, 3]
    assert len(seen["l.a[1]"]) == 2
    for number, value in enumerate(seen["l.a[1]"]):
        close(value, values[number][1])


def test_nested_iterations_come_as_lists_of_lists():
    inner = {"flow": {"again": {"loop": {"flow": {"a": "Linear(4, 4)"}}, "times": 3}}}
    for batched in (False, True):
        flow = {"m": {"map": inner, "batched": batched}}
        graph = flowconf.build({"inputs": {"x": ["B", 2, 4]}, "flow": flow}).double()
        x = torch.randn(5, 2, 4, dtype=torch.float64)
        with graph.observe("m.again.a") as seen:
            graph(x)
        stacked = graph.view(["m.again.a"])(x)["m.again.a"]
        assert stacked.shape == (5, 2, 3, 4)
        assert [len(row) for row in seen["m.again.a"]] == [3, 3]
        for i in range(2):
            for j in range(3):
                close(seen["m.again.a"][i][j], stacked[:, i, j])


def test_nothing_is_paid_for_when_nothing_is_asked(graph):
    source = graph.source
    assert "seen_" not in source
    assert "_each" not in source
    assert "_copies" not in source


def test_views_and_observed_graphs_are_ordinary_modules(graph):
    x = inputs(3)
    references = ["seen.1", "read.seen.0", "res.skip", "block.0", "experts.router", "folded.0[1]"]
    view = graph.view(references)
    expected = view(x)
    for twin in (copy.deepcopy(view), pickle.loads(pickle.dumps(view)), copy.deepcopy(graph).view(references)):
        for name, value in twin(x).items():
            assert torch.equal(value, expected[name]), name
    zeros = {name: torch.zeros_like(p) for name, p in view.named_parameters()}
    assert functional_call(view, zeros, (x,))["seen.1"].abs().sum() == 0
    half = copy.deepcopy(graph).float()
    assert half.view(references)(x.float())["read.seen.0"].dtype == torch.float32
    with graph.observe("seen.1"):
        twin = copy.deepcopy(graph)
    assert torch.equal(twin(x), graph(x))


def test_a_view_compiles_as_one_graph():
    """But for conditional loops and switches, whose way depends on the data."""
    flow = {name: step for name, step in FLOW.items() if name not in ("halted", "picked")}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow}).double()
    view = graph.view(["seen.1", "read.seen.0[1]", "read.seen.1", "res.skip", "block.0.1", "experts.two.0", "each.0"])
    compiled = torch.compile(view, fullgraph=True, backend="eager")
    for batch in (1, 3):
        mine, theirs = compiled(inputs(batch)), view(inputs(batch))
        for name, value in theirs.items():
            assert torch.equal(mine[name], value), name
