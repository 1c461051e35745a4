# ruff: noqa: E501
"""What does not fit is reported before anything runs: the place, the other party, both sizes, the text to write instead."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

import flowconf
from flowconf import ConfigError
from flowconf.language import registry

CASES = {
    "linear": (
        """
inputs: {x: [B, 784]}
flow:
  encoder: Linear(784, 192)
  proj: Linear(256, 64)
""",
        """
error[FC0201]: `proj` expects 256 features, got 192 from `encoder`
 --> linear.yaml:4:16
  |
3 |   encoder: Linear(784, 192)
  |   ------- `encoder` has shape [B, 192]
4 |   proj: Linear(256, 64)
  |                ^^^
  = help: write `Linear(192, 64)`
""",
    ),
    "merge": (
        """
inputs: {x: [B, 6]}
flow:
  two:
    split:
      left: Linear(6, 4)
      right: Linear(6, 5)
    merge: add
""",
        """
error[FC0203]: the branches of `two` cannot be merged by `add`: `two.left` has shape [B, 4], `two.right` has shape [B, 5]
 --> merge.yaml:6:24
  |
5 |       left: Linear(6, 4)
  |             ------------ `two.left` has shape [B, 4]
6 |       right: Linear(6, 5)
  |                        ^
  |              ------------ `two.right` has shape [B, 5]
""",
    ),
    "also": (
        """
inputs: {x: [B, 6]}
flow:
  res:
    also: Linear(6, 5)
""",
        """
error[FC0203]: `res` cannot add [B, 5] to its stream, [B, 6]
 --> also.yaml:4:21
  |
1 | inputs: {x: [B, 6]}
  |          - `x` has shape [B, 6]
  :
4 |     also: Linear(6, 5)
  |                     ^
  = help: make both shapes equal, or add a module as `skip`
""",
    ),
    "loop": (
        """
inputs: {x: [B, 6]}
flow:
  l:
    loop: Linear(6, 3)
    times: 2
""",
        """
error[FC0205]: the loop `l` changes its stream from [B, 6] to [B, 3] in the first iteration
 --> loop.yaml:4:21
  |
1 | inputs: {x: [B, 6]}
  |          - `x` has shape [B, 6]
  :
4 |     loop: Linear(6, 3)
  |                     ^
  = help: the body must return the shape of its input
""",
    ),
    "state": (
        """
inputs: {x: [B, 6]}
flow:
  both: {through: StateAdd, using: {state: memory}}
  memory: Linear(6, 3)
""",
        """
error[FC0205]: the initial state of `both` is zeros like its stream, [B, 6], but `memory` has shape [B, 3]
 --> state.yaml:3:44
  |
3 |   both: {through: StateAdd, using: {state: memory}}
  |                                            ^^^^^^
4 |   memory: Linear(6, 3)
  |   ------ `memory` has shape [B, 3]
  = help: add `zeros: {fork: Zeros(3)}`, read the state in a step \
`{from: zeros, fork: StateAdd, using: {state: memory}}`, and use that step here
""",
    ),
    "conv": (
        """
inputs: {x: [B, 1, 8, 8]}
flow:
  c: Conv2d(3, 8, 3)
""",
        """
error[FC0201]: `c` expects 3 channels, got 1 from `x`
 --> conv.yaml:3:13
  |
1 | inputs: {x: [B, 1, 8, 8]}
  |          - `x` has shape [B, 1, 8, 8]
  :
3 |   c: Conv2d(3, 8, 3)
  |             ^
  = help: write `Conv2d(1, 8, 3)`
""",
    ),
    "mount": (
        """
inputs: {x: [B, 6]}
flow:
  g:
    graph:
      inputs: {x: [B, 5]}
      flow:
        a: Linear(5, 2)
""",
        """
error[FC0206]: the input `x` of `g` is declared as [B, 5], got [B, 6]
 --> mount.yaml:5:23
  |
1 | inputs: {x: [B, 6]}
  |          - `x` has shape [B, 6]
  :
5 |       inputs: {x: [B, 5]}
  |                       ^
""",
    ),
    "deep": (
        """
inputs: {x: [B, 6]}
flow:
  g:
    through:
      flow:
        a: Linear(6, 4)
        b: Linear(5, 2)
  after: Linear(2, 2)
""",
        """
error[FC0201]: `g.b` expects 5 features, got 4 from `a`
 --> deep.yaml:7:19
  |
6 |         a: Linear(6, 4)
  |         - `a` has shape [B, 4]
7 |         b: Linear(5, 2)
  |                   ^
  = help: write `Linear(4, 2)`
""",
    ),
    "chain": (
        """
inputs: {x: [B, 6]}
flow:
  head: Linear(6, 4) >> ReLU >> Linear(5, 2)
  more: Linear(3, 3)
""",
        """
error[FC0201]: `head` expects 5 features, got 4 from `ReLU`
 --> chain.yaml:3:40
  |
3 |   head: Linear(6, 4) >> ReLU >> Linear(5, 2)
  |                                        ^
  |                         ---- `ReLU` has shape [B, 4]
  = help: write `Linear(4, 2)`

error[FC0201]: `more` expects 3 features, got 2 from `head`
 --> chain.yaml:4:16
  |
3 |   head: Linear(6, 4) >> ReLU >> Linear(5, 2)
  |   ---- `head` has shape [B, 2]
4 |   more: Linear(3, 3)
  |                ^
  = help: write `Linear(2, 3)`
""",
    ),
    "using": (
        """
inputs: {x: [B, 6], h: [B, 3]}
flow:
  cell:
    through: GRUCell(6, 4)
    using: {hx: h}
""",
        """
error[FC0201]: `cell`: `GRUCell(6, 4)` cannot be applied to [B, 6], `hx` [B, 3]: `hx` must be [B, 4]
 --> using.yaml:4:25
  |
1 | inputs: {x: [B, 6], h: [B, 3]}
  |          - `x` has shape [B, 6]
  |                     - `h` has shape [B, 3], used as `hx`
  :
4 |     through: GRUCell(6, 4)
  |                         ^
""",
    ),
    "hole": (
        """
flow:
  a: Linear(_, 3)
""",
        """
error[FC0204]: `_` in `Linear(_, 3)` cannot be inferred: the shape of its input is unknown
 --> hole.yaml:2:13
  |
2 |   a: Linear(_, 3)
  |             ^
  = help: declare the `inputs` of the graph with shapes, or write the size
""",
    ),
    "bad": (
        """
inputs: {x: [B, 6]}
flow:
  a: Conv2d(3, 4, 3, groups=2)
""",
        """
error[FC0202]: `Conv2d(3, 4, 3, groups=2)` cannot be built: `in_channels` 3 is not divisible by `groups` 2
 --> bad.yaml:3:29
  |
3 |   a: Conv2d(3, 4, 3, groups=2)
  |                             ^
""",
    ),
    "init": (
        """
inputs: {x: [B, 6]}
flow:
  a:
    through: Linear(6, 2)
    init: {wieght: zeros}
""",
        """
error[FC0207]: `a` has no parameter `wieght`
 --> init.yaml:5:12
  |
5 |     init: {wieght: zeros}
  |            ^^^^^^
  = help: write `weight`
""",
    ),
    "cat": (
        """
inputs: {x: [B, 2, 6]}
flow:
  two:
    split:
      left: Linear(6, 4)
      right: Linear(6, 5)
      third: Linear(6, 4)
    merge: cat
    dim: 1
""",
        """
error[FC0203]: the branches of `two` cannot be merged by `cat`: `two.left` has shape [B, 2, 4], `two.right` has shape [B, 2, 5], `two.third` has shape [B, 2, 4]
 --> cat.yaml:6:24
  |
5 |       left: Linear(6, 4)
  |             ------------ `two.left` has shape [B, 2, 4]
6 |       right: Linear(6, 5)
  |                        ^
  |              ------------ `two.right` has shape [B, 2, 5]
7 |       third: Linear(6, 4)
  |              ------------ `two.third` has shape [B, 2, 4]
""",
    ),
    "slices": (
        """
inputs: {x: [B, 10]}
flow:
  m:
    map: Linear(4, 2)
    slices: 3
""",
        """
error[FC0201]: `m` cannot split the last dimension of [B, 10] into 3 equal slices
 --> slices.yaml:5:13
  |
1 | inputs: {x: [B, 10]}
  |          - `x` has shape [B, 10]
  :
5 |     slices: 3
  |             ^
""",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name, tmp_path, monkeypatch):
    text, expected = (part.lstrip("\n") for part in CASES[name])
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        flowconf.build(f"{name}.yaml")
    assert str(raised.value) + "\n" == expected
    assert [d.code for d in flowconf.check(f"{name}.yaml")] == [d.code for d in raised.value.diagnostics]


def codes(document):
    with pytest.raises(ConfigError) as raised:
        flowconf.build(document)
    return [d.code for d in raised.value.diagnostics]


def test_one_cause_one_diagnostic():
    """Everything behind the first misfit depends on it, and is not reported again."""
    flow = {"a": "Linear(6, 4)", "b": "Linear(5, 3)", "c": "Linear(3, 3)", "d": {"also": "Linear(3, 3)"}}
    assert codes({"inputs": {"x": ["B", 6]}, "flow": flow}) == ["FC0201"]


def test_two_causes_are_reported_at_once():
    flow = {"a": "Linear(5, 4)", "b": {"from": "y", "through": "Linear(7, 3)"}}
    assert codes({"inputs": {"x": ["B", 6], "y": ["B", 8]}, "flow": flow}) == ["FC0201", "FC0201"]


TOLD = {
    # flow -> the steps that are reported, and those that cannot be checked because of them
    "what a module gives is known although what it takes is wrong": (
        {"a": "Linear(9, 4)", "b": "ReLU", "c": "Linear(5, 3)"}, ["a", "c"], []),
    "a chain goes on as well": ({"a": "Linear(9, 4) >> ReLU >> Linear(5, 4)"}, ["a", "a"], []),
    "what it keeps of its stream is not": (
        {"a": "LayerNorm(9)", "b": "ReLU", "c": "Linear(9, 3)"}, ["a"], ["b", "c"]),
    "one number may be meant for both": ({"a": "Linear(9, 9)", "b": "Linear(6, 3)"}, ["a"], ["b"]),
    "the two sizes may have changed places": ({"a": "Linear(9, 6)", "b": "Linear(9, 3)"}, ["a"], ["b"]),
    "a sum may be of either size": ({"a": {"also": "Linear(9, 8)"}, "b": "Linear(9, 3)"}, ["a"], ["b"]),
    "a loop may be of either size": ({"a": {"loop": "Linear(9, 8)", "times": 2}, "b": "Linear(9, 3)"}, ["a"], ["b"]),
    "what does not read it is checked": (
        {"a": "LayerNorm(9)", "b": {"from": "x", "through": "Linear(5, 2)"}, "c": {"from": "a", "through": "ReLU"}},
        ["a", "b"], ["c"]),
    "two that expect the same of one": (
        {"a": "Linear(6, 7)", "b": {"fork": "Linear(8, 2)"}, "c": "Linear(8, 3)", "d": "Linear(3, 1)"}, ["a"], []),
    "an inner graph is counted as one": (
        {"a": "LayerNorm(9)", "b": {"graph": {"inputs": {"y": ["B", 6]}, "flow": {"c": "Linear(6, 2)"}}}}, ["a"], ["b"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_consequences_are_counted_and_not_reported(name):
    flow, reported, unchecked = TOLD[name]
    with pytest.raises(ConfigError) as raised:
        flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    assert [diagnostic.path for diagnostic in raised.value.diagnostics] == reported
    assert list(raised.value.unchecked) == unchecked
    assert pickle.loads(pickle.dumps(raised.value)).unchecked == raised.value.unchecked


def test_an_inner_misfit_of_a_graph_used_by_a_loop_is_reported_once():
    body = {"flow": {"a": "Linear(6, 4)", "b": "Linear(5, 6)"}}
    flow = {"l": {"loop": body, "times": 3}, "end": "Linear(6, 2)"}
    assert codes({"inputs": {"x": ["B", 6]}, "flow": flow}) == ["FC0201"]


# `_`


INFERRED = [
    ("Linear(_, 3)", ["B", 6], "Linear(6, 3)"),
    ("Conv2d(_, 4, 3)", ["B", 2, 8, 8], "Conv2d(2, 4, 3)"),
    ("Conv1d(_, 4, 3)", ["B", 2, 8], "Conv1d(2, 4, 3)"),
    ("BatchNorm2d(_)", ["B", 5, 4, 4], "BatchNorm2d(5)"),
    ("BatchNorm1d(_)", ["B", 5], "BatchNorm1d(5)"),
    ("LayerNorm(_)", ["B", 7], "LayerNorm(7)"),
    ("GroupNorm(2, _)", ["B", 6, 3, 3], "GroupNorm(2, 6)"),
    ("GRU(_, 3, batch_first=true)", ["B", 4, 6], "GRU(6, 3, batch_first=true)"),
    ("Linear(in_features=_, out_features=3)", ["B", 2, 6], "Linear(6, 3)"),
    ("Conv2d(_, 4, 3) >> BatchNorm2d(_) >> Flatten >> Linear(_, 2)", ["B", 1, 5, 5], "Conv2d(1, 4, 3) >> BatchNorm2d(4) >> Flatten >> Linear(36, 2)"),
    ("Flatten >> Linear(_, width)", ["B", 2, 3], "Flatten >> Linear(6, 4)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "shape", "written"), INFERRED)
def test_an_open_size_is_filled_in_from_what_arrives(call, shape, written):
    torch.manual_seed(0)
    open_ = flowconf.build({"params": {"width": 4}, "inputs": {"x": shape}, "flow": {"a": call}})
    torch.manual_seed(0)
    closed = flowconf.build({"params": {"width": 4}, "inputs": {"x": shape}, "flow": {"a": written}})
    for name, tensor in closed.state_dict().items():
        assert torch.equal(open_.state_dict()[name], tensor)
    x = torch.randn(2, *shape[1:])
    first = open_(x)[0] if isinstance(open_(x), tuple) else open_(x)
    assert torch.equal(first, closed(x)[0] if isinstance(closed(x), tuple) else closed(x))
    assert "_," not in open_.source.replace("__init__", "")


def test_open_sizes_in_every_kind_of_body():
    flow = {
        "a": {"also": "Linear(_, 6)", "skip": "Linear(_, 6)"},
        "s": {"split": {"l": "Linear(_, 2)", "r": "Linear(_, 3)"}, "merge": "cat"},
        "m": {"through": {"flow": {"i": "Linear(_, 6)"}}},
        "l": {"loop": "Linear(_, 6)", "times": 2},
        "u": "Unflatten(1, [2, 3])",
        "e": {"map": "Linear(_, 4)"},
        "p": {"map": "Linear(_, 1)", "slices": 2},
        "r": {"through": "Linear(_, 2)", "repeat": 2},
    }
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    sizes = {name: p.shape[1] for name, p in graph.named_parameters() if name.endswith("weight")}
    assert sizes == {
        "a.weight": 6, "a.skip.weight": 6, "s.l.weight": 6, "s.r.weight": 6, "m.i.weight": 5, "l.weight": 6,
        "e.weight": 3, "p.weight": 2, "r.0.weight": 2, "r.1.weight": 2,
    }  # fmt: skip
    assert graph(torch.randn(2, 6)).shape == (2, 2, 2)


def test_one_graph_mounted_for_two_sizes_infers_each():
    part = {"flow": {"a": "Linear(_, 4)"}}
    flow = {"one": {"graph": part}, "two": {"from": "x", "graph": part}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    assert graph.one.a.in_features == graph.two.a.in_features == 6
    flow = {"one": {"graph": part}, "two": {"graph": part}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    assert (graph.one.a.in_features, graph.two.a.in_features) == (6, 4)
    assert graph(torch.randn(2, 6)).shape == (2, 4)


def test_open_size_of_an_unknown_symbol_is_refused():
    assert codes({"inputs": {"x": ["B", "F"]}, "flow": {"a": "Linear(_, 3)"}}) == ["FC0204"]


# symbols and what a shape may say


def test_shapes_are_kept_with_their_symbols():
    flow = {"a": "Linear(6, 4)", "b": {"fork": "Flatten"}}
    graph = flowconf.build({"inputs": {"x": ["B", "T", 6]}, "flow": flow})
    assert graph.shapes["a"] == "[B, T, 4]"
    assert graph.shapes["x"] == "[B, T, 6]"


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_symbol_stands_for_any_size(batch):
    graph = flowconf.build({"inputs": {"x": ["B", "T", 6]}, "flow": {"a": "Linear(6, 4)"}})
    for length in (1, 3):
        assert graph(torch.randn(batch, length, 6)).shape == (batch, length, 4)


def test_equal_symbols_must_be_equal_and_unequal_ones_need_not():
    flow = {"sum": {"through": "StateAdd", "using": {"state": "y"}}}
    assert flowconf.build({"inputs": {"x": ["B", "T"], "y": ["B", "T"]}, "flow": flow})
    flow = {"both": {"through": "Concat(1)", "using": {"other": "y"}}}
    assert flowconf.build({"inputs": {"x": ["B", "T", 3], "y": ["B", "S", 3]}, "flow": flow})


def test_arithmetic_in_shapes():
    document = {
        "params": {"w": 3, "n": 2},
        "inputs": {"x": ["B", "w * n", "w ** 2 + 1"]},
        "flow": {"a": "Linear(w * w + 1, 2)"},
    }
    graph = flowconf.build(document)
    assert graph.plan.inputs[0].shape == ("B", 6, 10)
    assert graph(torch.randn(2, 6, 10)).shape == (2, 6, 2)


def test_no_batch_axis_is_needed():
    graph = flowconf.build({"inputs": {"x": [6]}, "flow": {"a": "Linear(6, 4)"}})
    assert graph(torch.randn(6)).shape == (4,)


def test_the_check_runs_no_module_on_real_data(table):
    ran = []

    class Watch(nn.Module):
        def forward(self, x):
            ran.append(type(x).__name__)
            return x * 1

    table.register(Watch)
    flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"a": "Watch"}})
    assert set(ran) <= {"FakeTensor"}


def test_a_huge_network_is_checked_without_memory():
    """An untrusted config can at worst describe a large network; checking it allocates nothing."""
    document = {"inputs": {"x": ["B", 1000000]}, "flow": {"a": "Linear(1000000, 1000000)", "b": "Linear(1000000, 10)"}}
    assert flowconf.check(document) == []


def test_a_graph_without_inputs_fails_at_the_first_call_that_does_not_fit():
    graph = flowconf.build({"flow": {"a": "Linear(6, 4)", "b": "Linear(4, 2)"}})
    with pytest.raises(RuntimeError) as raised:
        graph(torch.randn(3, 5))
    assert any("`a`" in note for note in raised.value.__notes__)


def test_dtype_misfits_are_found():
    assert codes({"inputs": {"x": ["B", 6]}, "flow": {"e": "Embedding(10, 4)"}}) == ["FC0201"]


def test_a_module_that_cannot_be_faked_is_no_obstacle(table):
    """Data-dependent code cannot run on fake tensors: the check says nothing about it, and does not fail."""

    class Dependent(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum().item() > 0 else x

    table.register(Dependent)
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"d": "Dependent", "a": "Linear(6, 2)"}})
    assert graph(torch.ones(2, 6)).shape == (2, 2)


class Unready(nn.Module):
    def __init__(self) -> None:
        self.size = 3


class Silent(nn.Module):
    def forward(self, x: torch.Tensor) -> None:
        return None


class Outside(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.detach().numpy() + 1)


@pytest.mark.parametrize(("call", "code"), [("Linear(1, 4)", "FC0201"), ("Linear(_, 4)", "FC0204")])
def test_rows_of_one_number_are_reshaped(call, code):
    (found,) = flowconf.check({"inputs": {"level": ["B"]}, "flow": {"a": call}})
    assert (found.code, found.help) == (code, "each row is one number: add `Reshape(1)` before it, for rows of size 1")
    assert flowconf.check({"inputs": {"level": ["B"]}, "flow": {"a": f"Reshape(1) >> {call}"}}) == []


@pytest.fixture
def own_modules():
    for one in (Unready, Silent, Outside):
        flowconf.register(one)
    yield
    for one in (Unready, Silent, Outside):
        registry.modules.registered.pop(one.__name__)


def test_mistakes_in_modules_of_a_project_are_reported_where_they_are(own_modules):
    document = {"inputs": {"x": ["B", 4]}, "flow": {"own": "Unready", "b": "Linear(4, 2)", "c": "Linear(4, 3)"}}
    (found,) = flowconf.check(document)
    assert (found.code, found.message) == (
        "FC0202", "`Unready` cannot be built: its `__init__` does not call `super().__init__()`",
    )  # fmt: skip
    assert found.labels[0].place.file == __file__
    document["flow"]["own"] = "Silent"
    for last in ({}, {"b": None, "c": None}):  # also if nothing reads it
        (found,) = flowconf.check({**document, "flow": {**document["flow"], **last}})
        assert found.message == "`own` is `None`, but a step requires a value"
        assert found.help == "return a value from the `forward` of `own`"


def test_a_module_that_uses_numpy_is_left_to_the_run(own_modules):
    document = {"inputs": {"x": ["B", 4]}, "flow": {"own": "Outside", "b": "Linear(4, 2)"}}
    assert flowconf.check(document) == []
    assert flowconf.build(document)(torch.zeros(3, 4)).shape == (3, 2)
