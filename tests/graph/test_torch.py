"""A built graph is an ordinary module: what PyTorch offers for modules works on it."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call

import flowconf

DOCUMENT = {
    "params": {"width": 8},
    "inputs": {"x": ["B", 6], "k": ["B", 3]},
    "flow": {
        "stem": "Linear(6, width)",
        "block": {"also": {"flow": {"n": "LayerNorm(width)", "l": "Linear(width, width) >> GELU"}}, "repeat": 2},
        "two": {"split": {"a": "Linear(width, width)", "b": "Tanh"}, "merge": "cat"},
        "pair": {"through": "Bilinear(width * 2, 3, width)", "using": {"input2": "k"}},
        "again": {"loop": {"flow": {"c": "Linear(width, width)", "t": "Tanh"}}, "times": 3},
        "rows": "Unflatten(1, [2, 4])",
        "each": {"map": "Linear(4, 4)", "batched": True},
        "flat": "Flatten",
        "stem_again": {"from": "x", "reuse": "stem"},
        "sum": {"through": "StateAdd", "using": {"state": "flat"}},
    },
    "outputs": {"out": "sum", "c": "again.c"},
}


def inputs(batch=3):
    torch.manual_seed(batch)
    return torch.randn(batch, 6), torch.randn(batch, 3)


@pytest.fixture
def graph():
    torch.manual_seed(0)
    return flowconf.build(DOCUMENT)


def agree(one, other):
    assert list(one) == list(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_deepcopy_is_equal_and_independent(graph):
    twin = copy.deepcopy(graph)
    agree(twin(*inputs()), graph(*inputs()))
    assert twin.plan == graph.plan
    assert twin.source == graph.source
    assert list(twin.state_dict()) == list(graph.state_dict())
    assert twin.module_at("stem_again") is twin.stem
    with torch.no_grad():
        twin.stem.weight.zero_()
    assert graph.stem.weight.abs().sum() > 0


def test_pickle(graph):
    twin = pickle.loads(pickle.dumps(graph))
    agree(twin(*inputs()), graph(*inputs()))
    assert twin.plan == graph.plan
    assert isinstance(twin, flowconf.Graph)
    assert list(twin.state_dict()) == list(graph.state_dict())
    assert twin.subgraph("again").inputs == graph.subgraph("again").inputs


def test_copies_of_copies_can_still_be_viewed_and_saved(graph, tmp_path):
    twin = pickle.loads(pickle.dumps(copy.deepcopy(graph)))
    assert torch.equal(twin.view(["again.c"])(*inputs())["again.c"], graph.view(["again.c"])(*inputs())["again.c"])
    twin.save(tmp_path / "w.safetensors")
    graph.load(tmp_path / "w.safetensors")


def test_copies_of_an_observed_graph(graph):
    with graph.observe("stem"):
        graph(*inputs())
        twin = copy.deepcopy(graph)
    agree(twin(*inputs()), graph(*inputs()))
    assert twin.tagged("stem") is None or torch.equal(twin.tagged("stem"), graph.tagged("stem"))


def test_functional_call(graph):
    zeros = {name: torch.zeros_like(p) for name, p in graph.named_parameters()}
    out = functional_call(graph, zeros, inputs())
    assert out["c"].abs().sum() == 0
    assert graph(*inputs())["c"].abs().sum() > 0
    assert functional_call(graph, zeros, (inputs()[0],), {"k": inputs()[1]})["c"].abs().sum() == 0


def test_double(graph):
    graph.double()
    out = graph(*(t.double() for t in inputs()))
    assert all(t.dtype == torch.float64 for t in out.values())


def test_to_and_apply(graph):
    graph.to(torch.bfloat16)
    assert {p.dtype for p in graph.parameters()} == {torch.bfloat16}
    graph.apply(lambda m: nn.init.zeros_(m.weight) if isinstance(m, nn.Linear) else None)
    assert graph.stem.weight.abs().sum() == 0


def test_state_dict_names_are_the_paths(graph):
    for name, _ in graph.named_parameters():
        path, _, leaf = name.rpartition(".")
        assert getattr(graph.module_at(path), leaf) is graph.get_parameter(name)
    graph.load_state_dict(copy.deepcopy(graph.state_dict()), strict=True)


def test_the_signature_is_the_inputs(graph):
    assert list(inspect.signature(graph.forward).parameters) == ["x", "k"]


def test_two_seeds_alike_give_equal_weights():
    torch.manual_seed(5)
    one = flowconf.build(DOCUMENT)
    torch.manual_seed(5)
    other = flowconf.build(DOCUMENT)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_building_draws_what_hand_written_code_draws():
    """The shape check leaves the random generator alone, so a seed means what it means by hand."""
    torch.manual_seed(3)
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"a": "Linear(6, 4)", "b": "Linear(4, 2)"}})
    torch.manual_seed(3)
    by_hand = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    assert torch.equal(graph.a.weight, by_hand[0].weight)
    assert torch.equal(graph.b.bias, by_hand[1].bias)


def test_checking_draws_nothing():
    torch.manual_seed(3)
    flowconf.check(DOCUMENT)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_building_respects_the_default_dtype_and_device():
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        double = {"x": {"shape": ["B", 6], "dtype": "float64"}}
        graph = flowconf.build({"inputs": double, "flow": {"a": "Linear(6, 4)"}})
        assert graph.a.weight.dtype == torch.float64
    finally:
        torch.set_default_dtype(before)
    with torch.device("meta"):
        meta = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"a": "Linear(6, 4)"}})
    assert meta.a.weight.is_meta


def test_a_graph_inside_an_ordinary_module(graph):
    model = nn.Sequential(nn.Linear(4, 6), flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"a": "Linear(6, 4)"}}))
    model.eval()
    model(torch.randn(2, 4)).sum().backward()
    assert "1.a.weight" in model.state_dict()
    assert not model[1].a.training


def test_compile_takes_the_whole_graph(graph):
    compiled = torch.compile(graph, fullgraph=True, backend="eager")
    for batch in (1, 3):
        agree(compiled(*inputs(batch)), graph(*inputs(batch)))
    out = compiled(*inputs())
    out["out"].sum().backward()
    assert graph.stem.weight.grad is not None


def test_compile_with_a_frozen_part():
    flow = {"a": "Linear(6, 6)", "g": {"graph": {"flow": {"n": "BatchNorm1d(6)"}}, "frozen": True}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    compiled = torch.compile(graph, fullgraph=True, backend="eager")
    x = torch.randn(3, 6)
    assert torch.equal(compiled(x), graph(x))
    assert graph.module_at("g.n").num_batches_tracked == 0


def test_compile_a_view(graph):
    view = graph.view(["again.c", "stem"])
    compiled = torch.compile(view, fullgraph=True, backend="eager")
    agree(compiled(*inputs()), view(*inputs()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_export_with_a_dynamic_batch(graph):
    graph.eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(graph, inputs(4), dynamic_shapes=({0: batch}, {0: batch}))
    for size in (2, 5, 7):
        mine, theirs = program.module()(*inputs(size)), graph(*inputs(size))
        for name in theirs:
            torch.testing.assert_close(mine[name], theirs[name])
    assert set(program.state_dict) == set(graph.state_dict())
