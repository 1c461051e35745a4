"""Loops that go over the slices of a value, against loops written by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import flowconf
from flowconf import ConfigError
from flowconf.graph.exchange.eject import ejected
from flowconf.graph.weights.structural_hash import structural_hash

BODY = {
    "inputs": {"hidden": ["B", 4], "moment": ["B", 6]},
    "flow": {"cell": {"from": "moment", "through": "GRUCell(6, 4)", "using": {"hx": "hidden"}}},
}
FLOW = {"start": "Zeros(4)", "read": {"loop": BODY, "over": {"moment": "x"}}, "end": "Linear(4, 2)"}


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.read = nn.Module()
        self.read.cell = nn.GRUCell(6, 4)
        self.end = nn.Linear(4, 2)

    def states(self, x: Tensor) -> list[Tensor]:
        hidden = x.new_zeros(len(x), 4)
        states = []
        for moment in x.unbind(1):
            hidden = self.read.cell(moment, hidden)
            states.append(hidden)
        return states

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.states(x)[-1])


def document(flow, **more):
    return {"inputs": {"x": ["B", 5, 6]}, "flow": flow, **more}


def sequences(batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 5, 6),)


def test_a_cell_unrolled_over_time(same):
    graph = same(document(FLOW), Reader, sequences)
    space: dict[str, type[nn.Module]] = {}
    exec(compile(ejected(graph), "ejected.py", "exec"), space)
    file = space["Graph"]()
    file.load_state_dict(graph.state_dict())
    (x,) = sequences(3)
    assert torch.equal(file(x), graph(x))


LSTM = {
    "inputs": {"hidden": ["B", 4], "cell": ["B", 4], "moment": ["B", 6]},
    "flow": {
        "state": {"from": "hidden", "through": "Tuple", "using": "cell"},
        "next": {"from": "moment", "through": "LSTMCell(6, 4)", "using": {"hx": "state"}},
        "new_hidden": {"from": "next", "through": "Identity", "take": 0},
        "new_cell": {"from": "next", "through": "Identity", "take": 1},
    },
    "outputs": {"hidden": "new_hidden", "cell": "new_cell"},
}
ZEROS = {
    "inputs": {"x": ["B", 5, 6]},
    "flow": {"hidden": "Zeros(4)", "cell": "Zeros(4)"},
    "outputs": {"hidden": "hidden", "cell": "cell"},
}


def test_the_state_of_a_cell_may_be_a_tuple(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.Module()
            self.read.next = nn.LSTMCell(6, 4)
            self.end = nn.Linear(4, 2)

        def forward(self, x):
            hidden = cell = x.new_zeros(len(x), 4)
            for moment in x.unbind(1):
                hidden, cell = self.read.next(moment, (hidden, cell))
            return self.end(hidden)

    end = {"from": "read.hidden", "through": "Linear(4, 2)"}
    flow = {"start": {"graph": ZEROS}, "read": {"loop": LSTM, "over": {"moment": "x"}}, "end": end}
    same(document(flow), Twin, sequences)
    for state in ("hidden", "cell"):
        body = {**LSTM, "inputs": {**LSTM["inputs"], state: ["B", 5]}}
        (found,) = flowconf.check(document({**flow, "read": {"loop": body, "over": {"moment": "x"}}}))
        assert (found.code, found.path) == ("FC0206", "read")


def test_an_element_of_a_tuple_is_no_member():
    flow = {"start": {"graph": ZEROS}, "read": {"loop": {**LSTM, "outputs": {"hidden": "next.0", "cell": "next.1"}}}}
    found = flowconf.check(document({**flow, "read": {**flow["read"], "over": {"moment": "x"}}}))
    assert found[0].message == "`next` is a single module and has no member `0`"
    assert found[0].help == "write `{from: next, through: Identity, take: 0}` for an element of its output"


def test_each_turn_can_be_referred_to_and_observed(same):
    class Twin(Reader):
        def forward(self, x):
            states = self.states(x)
            return {"end": self.end(states[-1]), "second": states[1]}

    graph = same(document(FLOW, outputs={"end": "end", "second": "read.cell[1]"}), Twin, sequences)
    with graph.observe("read.cell") as seen:
        graph(*sequences(2))
    assert len(seen["read.cell"]) == 5


def test_several_values_and_one_that_stays_whole(same):
    body = {"flow": {"near": {"through": "Bilinear(6, 6, 6)", "using": {"input2": "x"}}, "far": "StateAdd"}}
    body["inputs"] = {"h": ["B", 6], "x": ["B", 6], "more": ["B", 6], "whole": ["B", 6]}
    body["flow"]["far"] = {"through": "StateAdd", "using": {"state": "more"}}
    body["flow"]["whole_too"] = {"through": "StateAdd", "using": {"state": "whole"}}
    flow = {
        "more": {"fork": "Linear(5, 5)"},
        "first": {"fork": "Select(0, dim=2)"},
        "read": {
            "from": "first",
            "loop": body,
            "over": {"x": "x", "more": "more"},
            "dim": -1,
            "using": {"whole": "first"},
        },
    }

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.more = nn.Linear(5, 5)
            self.read = nn.Module()
            self.read.near = nn.Bilinear(6, 6, 6)

        def forward(self, x):
            more, first = self.more(x), x[:, :, 0]
            h = first
            for at in range(5):
                h = self.read.near(h, x[:, :, at]) + more[:, :, at] + first
            return h

    same({"inputs": {"x": ["B", 6, 5]}, "flow": flow}, Twin, lambda batch: (torch.randn(batch, 6, 5),))


def test_a_plain_reference_fills_the_argument_of_its_name_in_every_copy(same):
    body = {
        "inputs": {"h": ["B", 6], "x": ["B", 6]},
        "flow": {"mix": {"through": "Bilinear(6, 6, 6)", "using": {"input2": "x"}}},
    }
    flow = {"start": "Select(-1)", "read": {"loop": body, "over": "x", "repeat": 2}}

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.ModuleList([nn.Module(), nn.Module()])
            for copy in self.read:
                copy.mix = nn.Bilinear(6, 6, 6)

        def forward(self, x):
            h = x[:, -1]
            for copy in self.read:
                for moment in x.unbind(1):
                    h = copy.mix(h, moment)
            return h

    same(document(flow), Twin, sequences)


def test_what_is_gone_over_is_part_of_the_structure():
    whole = {**FLOW, "read": {"loop": BODY, "times": 5, "using": {"moment": "first"}}, "first": None}
    over = flowconf.plan(document({"first": {"fork": "Select(0)"}, **FLOW}))
    used = flowconf.plan(document({"first": {"fork": "Select(0)"}, **{k: v for k, v in whole.items() if v}}))
    assert structural_hash(over) != structural_hash(used)


@pytest.mark.parametrize(
    ("changed", "reported"),
    [
        ({"times": 3}, ["FC0122: `times` and `over` of the loop `read` are mutually exclusive"]),
        ({"max": 3}, ["FC0125: `max` does not apply to a loop with `over`"]),
        ({"over": None, "times": 3, "dim": 1}, ["FC0125: `dim` does not apply to a loop with `times`"]),
        (
            {"over": {"momnt": "x"}},
            ["FC0143: `read` takes no argument `momnt`"],
        ),
        ({"over": {"moment": "end"}}, ["FC0141: `over` requires an earlier value, but `end` comes after this step"]),
        ({"dim": 3}, ["FC0201: the loop `read` iterates over dimension 3, but `x` has shape [B, 5, 6]"]),
        ({"dim": 2}, ["FC0206: the input `moment` of `read` is declared as [B, 6], got [B, 5]"]),
    ],
)
def test_refusals(changed, reported):
    read = {key: value for key, value in {**FLOW["read"], **changed}.items() if value is not None}
    with pytest.raises(ConfigError) as raised:
        flowconf.build(document({**FLOW, "read": read}))
    assert [f"{d.code}: {d.message}" for d in raised.value.diagnostics] == reported


def test_values_of_unequal_length_are_refused():
    body = {**BODY, "inputs": {**BODY["inputs"], "more": ["B", 6]}}
    flow = {"start": "Zeros(4)", "read": {"loop": body, "over": {"moment": "x", "more": "y"}}}
    with pytest.raises(ConfigError) as raised:
        flowconf.build({"inputs": {"x": ["B", 5, 6], "y": ["B", 3, 6]}, "flow": flow})
    reported = [(d.code, d.message) for d in raised.value.diagnostics if d.severity == "error"]
    assert reported == [("FC0205", "the loop `read` iterates over different numbers of slices: 5 of `x` and 3 of `y`")]
