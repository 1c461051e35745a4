"""A graph without `inputs`: what was not checked is counted, and members that contradict each other are refused."""

from __future__ import annotations

import pytest

from flowconf.train.checks.road import findings


def checked(**flow):
    found = findings({"flow": flow})
    return [(d.code, d.path) for d in found.mistakes if d.severity == "error"], found.notes


@pytest.mark.parametrize(
    ("flow", "wrong"),
    [
        ({"a": "Linear(4, 8)", "b": {"also": "Linear(9, 9)"}}, ("FC0201", "b")),
        ({"a": "Linear(4, 8) >> GELU >> LayerNorm(9)"}, ("FC0201", "a")),
        ({"a": "Conv2d(1, 8, 3)", "b": "ReLU", "c": "Conv2d(9, 8, 3)"}, ("FC0201", "c")),
        ({"a": "Embedding(100, 16)", "b": "LayerNorm(16)", "c": "Linear(17, 2)"}, ("FC0201", "c")),
        ({"a": {"graph": {"flow": {"b": "Linear(4, 8)"}}}, "c": "Linear(9, 2)"}, ("FC0201", "c")),
    ],
)
def test_members_that_contradict_each_other_are_refused(flow, wrong):
    assert checked(**flow) == ([wrong], checked(**flow)[1])


@pytest.mark.parametrize(
    "flow",
    [
        {"a": "Linear(4, 8)", "b": "Flatten", "c": "Linear(80, 2)"},
        {"a": "Linear(4, 8) >> Flatten >> Linear(80, 2)"},
        {"a": "Conv2d(1, 8, 3) >> Flatten >> Linear(1152, 10)"},
        {"a": "Embedding(100, 16)", "b": "Flatten", "c": "Linear(320, 2)"},
        {"a": "Conv1d(4, 8, 3)", "b": "AdaptiveAvgPool1d(1) >> Flatten", "c": "Linear(8, 2)"},
        {"a": "BatchNorm1d(8)", "b": "Linear(8, 2)"},
        {"a": "GroupNorm(2, 8)", "b": "Conv2d(8, 4, 3)"},
        {"a": "LSTM(4, 8, batch_first=true)", "b": {"from": "a", "through": "Identity"}},
        {"a": "GELU", "b": "Linear(4, 8)"},
    ],
)
def test_what_fits_some_input_is_accepted_and_said_not_to_be_checked(flow):
    steps = f"{len(flow)} step{'s' if len(flow) > 1 else ''}"
    assert checked(**flow) == ([], (f"sizes of {steps} not checked: the graph declares no `inputs`",))


def test_a_graph_that_declares_its_inputs_has_no_note():
    assert findings({"inputs": {"x": ["B", 4]}, "flow": {"a": "Linear(4, 8)"}}).notes == ()


@pytest.mark.parametrize("body", ["Linear(_, 3)", "LayerNorm(_) >> Linear(_, 3)", "Linear(_, 4) >> Linear(_, 3)"])
def test_copies_whose_open_sizes_differ_are_refused(body):
    flow = {"block": {"through": body, "repeat": 2}}
    found = findings({"inputs": {"x": ["B", 5]}, "flow": flow})
    assert [(d.code, d.path) for d in found.mistakes] == [("FC0204", "block")]
    assert not findings({"inputs": {"x": ["B", 3]}, "flow": flow}).mistakes
