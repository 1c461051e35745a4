"""Modules that stand in two places, inside each other's graphs: values from inside of them, captured names, state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf import ConfigError, StepError
from flowconf.graph.exchange.eject import ejected

CELL = {"graph": {"inputs": {"h": ["B", 6]}, "flow": {"a": "Linear(6, 6)", "b": "Tanh"}}}


def document(flow, **more):
    return {"inputs": {"x": ["B", 6]}, "flow": flow, **more}


def by_file(graph):
    """The graph's ejected twin, with the same weights."""
    namespace = {"__name__": "ejected"}
    exec(ejected(graph), namespace)
    twin = namespace["Graph"]()
    twin.load_state_dict(graph.state_dict())
    return twin


@pytest.mark.parametrize("batch", [1, 3])
def test_a_lent_graph_gives_values_from_inside_to_each_that_runs_it(batch):
    flow = {
        "cell": CELL,
        "read": {
            "loop": {
                "flow": {
                    "again": {"reuse": "cell"},
                    "mix": {"from": "again.a", "through": "Linear(6, 6)"},
                    "deep": {"loop": {"flow": {"c": {"reuse": "cell"}}}, "times": 2},
                }
            },
            "times": 2,
        },
        "probe": {"from": "cell.a", "fork": "Linear(6, 2)"},
    }
    graph = flowconf.build(document(flow, outputs={"out": "read", "probe": "probe"}))
    a, mix = graph.module_at("cell.a"), graph.module_at("read.mix")
    x = torch.randn(batch, 6)
    first = a(x)
    y, inner, deep = torch.tanh(first), [], []
    for _ in range(2):
        inner.append(a(y))
        y = mix(inner[-1])
        for _ in range(2):
            deep.append(a(y))
            y = torch.tanh(deep[-1])
    out = graph(x)
    assert torch.equal(out["out"], y)
    assert torch.equal(out["probe"], graph.probe(first))
    view = graph.view(["cell.a", "read.again.a", "read.deep.c.a"])(x)
    assert torch.equal(view["cell.a"], first)
    assert torch.equal(view["read.again.a"], torch.stack(inner, 1))
    assert torch.equal(view["read.deep.c.a"].flatten(1, 2), torch.stack(deep, 1))
    with graph.observe("read.deep.c.a", "read") as seen:
        assert torch.equal(graph(x)["out"], y)
    assert [len(turn) for turn in seen["read.deep.c.a"]] == [2, 2]
    for name, value in by_file(graph)(x).items():
        assert torch.equal(value, out[name])


def test_a_view_runs_a_lent_graph_whose_home_it_does_not_run():
    """The built graph gives values from inside the cell; a view that only needs its output does not."""
    flow = {
        "cell": CELL,
        "l": {"from": "x", "loop": {"flow": {"c": {"reuse": "cell"}}}, "times": 2},
        "p": {"from": "cell.a", "through": "Linear(6, 2)"},
    }
    graph = flowconf.build(document(flow))
    x = torch.randn(3, 6)
    cell = nn.Sequential(graph.cell.a, nn.Tanh())
    view = graph.view(["l"])
    assert torch.equal(view(x)["l"], cell(cell(x)))
    assert "self.cell(" not in view.source


def test_reuse_of_a_body_that_reads_names_around_it():
    """The same names are read where it stands again, also inside of another body, and outside of its graph."""
    mix = {"flow": {"h": "Linear(6, 6)", "back": {"through": "StateAdd", "using": {"state": "stem"}}}}
    inner = {"flow": {"stem": "Linear(6, 6)", "mix": {"through": mix}}}
    flow = {
        "part": {"graph": inner},
        "again": {"reuse": "part.mix"},
        "l": {"loop": {"flow": {"q": {"reuse": "part.mix"}}}, "times": 2},
    }
    graph = flowconf.build(document(flow))
    at = graph.module_at
    x = torch.randn(3, 6)
    stem = at("part.stem")(x)
    h = [at("part.mix.h")(stem)]
    for _ in range(3):
        h.append(at("part.mix.h")(h[-1] + stem))
    assert torch.equal(graph(x), h[-1] + stem)
    view = graph.view(["again.h", "l.q.h", "part.mix.h"])(x)
    assert torch.equal(view["part.mix.h"], h[0])
    assert torch.equal(view["again.h"], h[1])
    assert torch.equal(view["l.q.h"], torch.stack(h[2:], 1))
    assert torch.equal(by_file(graph)(x), graph(x))


def test_reuse_of_one_copy_and_of_what_stands_beside_a_body():
    flow = {
        "block": {"also": {"flow": {"a": "Linear(6, 6)", "b": "Tanh"}}, "skip": "Linear(6, 6)", "repeat": 2},
        "again": {"reuse": "block.1"},
        "l": {"loop": {"flow": {"q": {"reuse": "block.0"}, "s": {"reuse": "block.1.skip"}}}, "times": 2},
    }
    graph = flowconf.build(document(flow))
    x = y = torch.randn(3, 6)
    for block in graph.block:
        y = block.skip(y) + torch.tanh(block.a(y))
    y = torch.tanh(graph.block[1].a(y))
    for _ in range(2):
        y = graph.block[1].skip(torch.tanh(graph.block[0].a(y)))
    assert torch.equal(graph(x), y)
    assert torch.equal(by_file(graph)(x), y)
    assert graph.view(["l.q.a"])(x)["l.q.a"].shape == (3, 2, 6)


def test_graphs_beside_a_body_are_graphs_of_their_own():
    flow = {"res": {"also": {"flow": {"a": "Linear(6, 6)"}}, "skip": {"flow": {"k": "Linear(6, 6)"}}}}
    graph = flowconf.build(document(flow))
    assert graph.subgraph("res").plan.steps[0].name == "a"
    assert graph.subgraph("res.skip").plan.steps[0].name == "k"
    x = torch.randn(3, 6)
    view = graph.view(["res.skip.k", "res.a"])(x)
    assert torch.equal(view["res.skip.k"], graph.res.skip.k(x))
    assert torch.equal(view["res.a"], graph.res.a(x))


# state: a part of a later step's value


LATER = [
    ("reader.out", {"graph": {"inputs": {"h": ["B", 6]}, "flow": {"out": "Linear(6, 6)", "last": "ReLU"}}}),
    ("reader.0", {"through": "Linear(6, 6) >> Tanh"}),
    ("reader.a", {"split": {"a": "Linear(6, 6)", "b": "Tanh"}, "merge": "add"}),
    ("reader.two", {"gate": {"one": "Tanh", "two": "Linear(6, 6)"}, "router": "SoftmaxRouter(6, 2)"}),
    ("reader.mid[1]", {"loop": {"flow": {"mid": "Linear(6, 6)", "end": "Tanh"}}, "times": 3}),
    ("reader.high", {"graph": {**CELL["graph"], "outputs": {"h": "h", "high": "a"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "step"), LATER, ids=[name for name, _ in LATER])
@pytest.mark.parametrize("inside", [False, True])
def test_a_part_of_a_later_value_is_kept(reference, step, inside):
    reads = {"through": "StateAdd", "using": {"state": reference}}
    first = {"through": {"flow": {"s": reads}}} if inside else reads
    flow = {"mix": first, "reader": step}
    graph = flowconf.build(document(flow, outputs={"mix": "mix", "y": "mix"}))
    graph.reset_state()
    before = torch.zeros(2, 6)
    for _ in range(3):
        x = torch.randn(2, 6)
        with graph.observe(reference) as seen:
            out = graph(x)
        assert torch.equal(out["mix"], x + before)
        before = seen[reference]
    assert graph.has_state
    with pytest.raises(StepError, match="has 2 rows, but this batch has 3"):
        graph(torch.randn(3, 6))
    graph.reset_state()
    graph.double()(torch.randn(3, 6, dtype=torch.float64))
    graph.float()(torch.randn(3, 6))


def test_what_a_later_step_does_not_hold():
    flow = {"mix": {"through": "StateAdd", "using": {"state": "reader.nothing"}}, "reader": CELL}
    with pytest.raises(ConfigError, match="unknown name `nothing` in `reader`"):
        flowconf.build(document(flow))
    flow = {"mix": {"through": "StateAdd", "using": {"state": "reader.a"}}, "reader": "Linear(6, 6)"}
    with pytest.raises(ConfigError, match="`reader` is a single module and has no member `a`"):
        flowconf.build(document(flow))
