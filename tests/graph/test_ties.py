"""`tie` against modules written by hand: one tensor with two names, through all that a graph can do."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import flowconf
from flowconf.graph.weights.structural_hash import structural_hash
from tests.graph.conftest import document, rows

TOKENS = {"tokens": {"shape": ["B", 5], "dtype": "int64"}}
TIED = {
    "embedded": "Embedding(9, 6)",
    "hidden": "Linear(6, 6)",
    "logits": {"through": "Linear(6, 9)", "tie": {"weight": "embedded.weight"}},
}


def tokens(batch):
    return (torch.randint(0, 9, (batch, 5)),)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedded = nn.Embedding(9, 6)
        self.hidden = nn.Linear(6, 6)
        self.logits = nn.Linear(6, 9)
        self.logits.weight = self.embedded.weight

    def forward(self, tokens):
        return self.logits(self.hidden(self.embedded(tokens)))


@pytest.fixture
def graph():
    torch.manual_seed(0)
    return flowconf.build(document(TIED, TOKENS))


def test_a_tied_parameter_is_one_tensor_with_both_names(same):
    built = same(document(TIED, TOKENS), Tied, tokens)
    assert built.logits.weight is built.embedded.weight
    torch.manual_seed(0)
    drawn = Tied().state_dict()
    torch.manual_seed(0)
    again = flowconf.build(document(TIED, TOKENS)).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in drawn.items())


class Nested(nn.Module):
    """Ties into a nested graph, from an inline flow to the graph around it, of all copies, and to a later step."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(6, 9)
            self.down = nn.Linear(9, 6)

        def forward(self, x):
            return self.down(self.up(x))

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)
            self.b = nn.Linear(6, 6)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    def __init__(self):
        super().__init__()
        self.block = nn.ModuleList([Nested.Block() for _ in range(2)])
        self.inner = Nested.Inner()
        self.wide = nn.Linear(6, 9)
        self.last = nn.Linear(9, 6)
        for block in self.block:
            block.up.weight = self.wide.weight
            block.down.bias = self.inner.a.bias

    def forward(self, x):
        for block in self.block:
            x = block(x)
        return self.last(self.wide(self.inner(x)))


NESTED = {
    "block": {
        "through": {
            "flow": {
                "up": {"through": "Linear(6, 9)", "tie": {"weight": "wide.weight"}},
                "down": {"through": "Linear(9, 6)", "tie": {"bias": "inner.a.bias"}},
            }
        },
        "repeat": 2,
    },
    "inner": {
        "graph": {
            "inputs": {"x": ["B", 6]},
            "flow": {"a": "Linear(6, 6)", "b": {"through": "Linear(6, 6)", "tie": {"weight": "a.weight"}}},
        }
    },
    "wide": "Linear(6, 9)",
    "last": "Linear(9, 6)",
}


def test_ties_reach_through_nested_graphs_and_copies(same):
    built = same(document(NESTED), Nested, rows(6))
    assert built.block[0].up.weight is built.block[1].up.weight is built.wide.weight


def test_a_tie_to_a_tied_parameter_is_to_the_last_one_also_from_outside():
    inner = {**NESTED["inner"], "tie": {"a.weight": "square.weight"}}
    flow = {**NESTED, "inner": inner, "square": {"fork": "Linear(6, 6)", "tie": {"weight": "root.weight"}}}
    built = flowconf.build(document({**flow, "root": {"fork": "Linear(6, 6)", "from": "inner"}}))
    assert built.inner.b.weight is built.inner.a.weight is built.square.weight is built.root.weight
    alone = {}
    exec(compile(built.source, "<alone>", "exec"), alone)
    assert len(list(alone["Graph"]().parameters())) == len(list(built.parameters()))


def test_it_is_saved_once_and_loaded_by_either_name_or_both(graph, tmp_path):
    graph.save(tmp_path / "one.safetensors")
    assert list(load_file(tmp_path / "one.safetensors")).count("logits.weight") == 0
    wanted = {name: torch.randn_like(tensor) for name, tensor in graph.state_dict().items()}
    wanted["logits.weight"] = wanted["embedded.weight"].clone()
    for left_out in ((), ("embedded.weight",), ("logits.weight",)):
        file = tmp_path / "some.safetensors"
        save_file({name: tensor for name, tensor in wanted.items() if name not in left_out}, file)
        twin = flowconf.build(document(TIED, TOKENS))
        report = twin.load(file, unused="error")
        assert report.missing == report.unused == []
        assert all(torch.equal(twin.state_dict()[name], tensor) for name, tensor in wanted.items())


def test_a_file_with_two_values_for_one_parameter_is_refused_and_changes_nothing(graph, tmp_path):
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    save_file({**before, "logits.weight": before["logits.weight"] + 1}, tmp_path / "two.safetensors")
    with pytest.raises(flowconf.ConfigError) as refused:
        graph.load(tmp_path / "two.safetensors")
    (found,) = refused.value.diagnostics
    assert found.code == "FC0209"
    assert "`embedded.weight` and `logits.weight` are one parameter here, but differ" in found.message
    assert all(torch.equal(graph.state_dict()[name], tensor) for name, tensor in before.items())


def test_it_is_counted_once_and_shown(graph):
    rows = {row.path: row for row in graph.summary()}
    assert rows["graph"].parameters == 9 * 6 + 42 + 9
    assert rows["logits"].text == "Linear(6, 9), weight is embedded.weight"
    assert "weight is embedded.weight" in graph.dot()


def test_copies_of_a_graph_stay_tied(graph):
    twin = copy.deepcopy(graph)
    assert twin.logits.weight is twin.embedded.weight
    assert twin.logits.weight is not graph.logits.weight
    viewed = graph.view(["logits"])
    assert viewed.logits.weight is graph.embedded.weight


def test_ties_are_part_of_the_hash(graph):
    free = flowconf.plan(document({**TIED, "logits": "Linear(6, 9)"}, TOKENS))
    assert structural_hash(free) != structural_hash(graph.plan)


def test_a_tied_graph_is_ejected_and_exported(graph, tmp_path):
    from safetensors.torch import load_model

    from flowconf.graph.exchange.eject import eject
    from flowconf.graph.exchange.export import export

    eject(graph, tmp_path / "alone.py")
    space = {"__name__": "alone"}
    exec(compile((tmp_path / "alone.py").read_text(), "alone.py", "exec"), space)
    alone = space["Graph"]()
    assert alone.logits.weight is alone.embedded.weight
    load_model(alone, tmp_path / "alone.safetensors")
    given = torch.randint(0, 9, (3, 5))
    assert torch.equal(alone(given), graph(given))
    export(graph, tmp_path / "graph.pt2")
    program = torch.export.load(tmp_path / "graph.pt2")
    torch.testing.assert_close(program.module()(given), graph(given))


def test_a_tied_part_is_not_swapped(graph):
    with pytest.raises(flowconf.ConfigError, match="FC0206"):
        flowconf.build(
            document(
                {
                    "a": {"graph": {"flow": {"l": "Linear(6, 6)"}}},
                    "b": {"through": "Linear(6, 6)", "tie": {"weight": "a.l.weight"}},
                }
            )
        ).swap("a", flowconf.build({"flow": {"l": "Linear(6, 6)"}}))
