"""An exception inside a step keeps its type and gains the step's path, its place in the file, and the input shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf.language.registry import modules

TEXT = """\
flow:
  stem: Linear(6, 4)
  inner:
    graph:
      flow:
        one: Linear(4, 4)
        again:
          loop:
            flow:
              two: Linear(4, 4) >> Finite
              three: Linear(5, 4)
          times: 2
  out: Linear(4, 2)
"""


class Finite(nn.Module):
    """The finite columns: how many there are depends on the numbers, so that the sizes behind it are not checked."""

    def forward(self, x):
        return x[:, x[0].isfinite()]


class Own(Exception):
    """An exception of the user's module."""


@pytest.fixture
def graph(tmp_path, monkeypatch):
    monkeypatch.setitem(modules.registered, "Finite", Finite)
    file = tmp_path / "g.yaml"
    file.write_text(TEXT, encoding="utf-8")
    return flowconf.build(file)


def test_path_place_and_shapes_are_noted(graph, tmp_path):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as raised:
        graph(torch.randn(3, 6))
    assert type(raised.value) is RuntimeError
    (note,) = raised.value.__notes__
    assert "`inner.again.three`" in note
    assert f"{tmp_path / 'g.yaml'}:11:" in note
    assert "[3, 4]" in note


def test_the_note_is_reported_once_at_every_depth(graph):
    model = nn.Sequential(graph)
    with pytest.raises(RuntimeError) as raised:
        model(torch.randn(3, 6))
    assert len(raised.value.__notes__) == 1
    assert "`inner.again.three`" in raised.value.__notes__[0]


def test_the_first_step_and_a_wrong_input(graph):
    with pytest.raises(RuntimeError) as raised:
        graph(torch.randn(3, 7))
    (note,) = raised.value.__notes__
    assert "`stem`" in note
    assert ":2:" in note
    assert "[3, 7]" in note


def test_own_exceptions_keep_their_type(table):
    class Raises(nn.Module):
        def forward(self, x):
            raise Own("no")

    table.register(Raises)
    graph = flowconf.build({"flow": {"a": "Linear(6, 4)", "b": {"also": "Raises"}}})
    with pytest.raises(Own, match="no") as raised:
        graph(torch.randn(3, 6))
    assert "`b`" in raised.value.__notes__[0]
    assert "[3, 4]" in raised.value.__notes__[0] or "[3, 6]" in raised.value.__notes__[0]


def test_notes_in_branches_repeats_maps_and_chains(table):
    class Raises(nn.Module):
        def forward(self, x):
            raise Own

    table.register(Raises)
    steps = {
        "s": {"split": {"a": "Identity", "b": "Raises"}, "merge": "add"},
        "r": {"through": "Raises", "repeat": 2},
        "m": {"map": "Raises"},
        "c": "Tanh >> Raises",
        "l": {"loop": "Raises", "times": 2},
        "f": {"fork": "Raises"},
    }
    for name, step in steps.items():
        flow = {"first": "Linear(6, 6)", name: step, "used": {"through": "StateAdd", "using": {"state": name}}}
        graph = flowconf.build({"flow": flow})
        with pytest.raises(Own) as raised:
            graph(torch.randn(3, 6))
        assert f"in step `{name}" in raised.value.__notes__[0], name


def test_notes_under_observe_and_in_a_view(graph):
    for run in (lambda: graph.view(["inner"])(torch.randn(3, 6)), lambda: graph(torch.randn(3, 6))):
        with graph.observe("inner.one"), pytest.raises(RuntimeError) as raised:
            run()
        assert "`inner.again.three`" in raised.value.__notes__[0]


def test_notes_of_a_copy(graph):
    import copy
    import pickle

    for twin in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        with pytest.raises(RuntimeError) as raised:
            twin(torch.randn(3, 6))
        assert "`inner.again.three`" in raised.value.__notes__[0]
        assert ":11:" in raised.value.__notes__[0]


def test_missing_and_surplus_inputs_are_type_errors():
    graph = flowconf.build({"inputs": {"x": ["B", 6], "y": ["B", 6]}, "flow": {"a": "Linear(6, 2)"}})
    x = torch.randn(2, 6)
    for call in (lambda: graph(), lambda: graph(x, x, x), lambda: graph(x, x, z=x)):
        with pytest.raises(TypeError):
            call()


def test_an_exception_that_takes_no_notes_still_passes(table):
    class Stubborn(Exception):
        __slots__ = ()

        def add_note(self, note):
            raise RuntimeError("no notes")

    class Raises(nn.Module):
        def forward(self, x):
            raise Stubborn

    table.register(Raises)
    with pytest.raises(Stubborn):
        flowconf.build({"flow": {"a": "Raises"}})(torch.randn(2))


def test_keyboard_interrupt_passes_untouched(table):
    class Stops(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    table.register(Stops)
    with pytest.raises(KeyboardInterrupt):
        flowconf.build({"flow": {"a": "Stops"}})(torch.randn(2))


class Later(nn.Module):
    """Passes on what it gets for some calls, and then fails."""

    def __init__(self, calls: int = 0):
        super().__init__()
        self.left = calls

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise Own
        return x


class Ends(Later):
    """As a condition: never, and then it fails."""

    def forward(self, x):
        return super().forward(x).sum() * 0


WHERE = {
    "branch": ({"split": {"a": "Identity", "b": "Later"}, "merge": "add"}, "`s.b`"),
    "chain in a branch": ({"split": {"a": "Identity", "b": "Tanh >> Later"}, "merge": "add"}, "`s.b.1`"),
    "copy": ({"through": "Later(1) >> Later", "repeat": 3}, "`s.0.1`"),
    "slice of a map": ({"map": "Later(2)"}, "`s`, slice 3 of 6"),
    "one of n slices": ({"map": "Later(1)", "slices": 3}, "`s`, slice 2 of 3"),
    "step of a map": ({"map": {"flow": {"a": "Tanh", "b": "Later(4)"}}}, "`s.b`, slice 5 of 6 of `s`"),
    "iteration": ({"loop": "Later(1)", "times": 4}, "`s`, iteration 2 of 4"),
    "iteration with an end": (
        {"loop": "Later(1)", "until": "ThresholdHalt(100)", "max": 4},
        "`s`, iteration 2 of at most 4",
    ),
    "loop in a loop": (
        {"loop": {"flow": {"deep": {"loop": "Later(4)", "times": 3}}}, "times": 2},
        "`s.deep`, iteration 2 of 2 of `s`, iteration 2 of 3",
    ),
    "rows of a branch": ({"switch": {"a": "Identity", "b": "Later"}, "router": "Signs"}, "`s.b`, rows 1, 2 of 3"),
    "all rows": ({"switch": {"a": "Later", "b": "Later"}, "router": "FixedSelector(1)"}, "`s.b` ("),
    "expert": ({"gate": {"a": "Identity", "b": "Later"}, "router": "SoftmaxRouter(6, 2)"}, "`s.b`"),
    "skip": ({"also": "Identity", "skip": "Later"}, "`s.skip`"),
    "condition": ({"loop": "Identity", "while": "Ends(2)", "max": 4}, "`s.condition`, iteration 3 of at most 4"),
}


@pytest.mark.parametrize(("step", "words"), WHERE.values(), ids=WHERE)
@pytest.mark.parametrize("viewed", [False, True], ids=["called", "viewed"])
def test_the_iteration_the_slice_the_rows_and_the_part_are_named(table, step, words, viewed):
    class Signs(nn.Module):
        def forward(self, x):
            return (x[:, 0] > 0).long()

    table.register(Signs)
    table.register(Later)
    table.register(Ends)
    graph = flowconf.build({"flow": {"s": step, "out": "Linear(6, 2)"}})
    run = graph.view(["out"]) if viewed else graph
    x = torch.randn(3, 6)
    x[:, 0] = torch.tensor([-1.0, 1.0, 1.0])
    with pytest.raises(Own) as raised:
        run(x)
    (note,) = raised.value.__notes__
    assert words in note
    assert "float32 on cpu" in note


def test_a_module_that_is_reused_fails_at_the_place_where_it_runs(table):
    table.register(Later)
    graph = flowconf.build({"flow": {"a": "Tanh >> Later(1)", "b": {"reuse": "a"}}})
    with pytest.raises(Own) as raised:
        graph(torch.randn(2, 3))
    assert "in step `b.1`" in raised.value.__notes__[0]


def test_equal_graphs_of_two_files_keep_their_places(tmp_path):
    for number, ahead in enumerate(("", "# one line more\n")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(f"{ahead}flow:\n  a: GELU\n  b: Linear(3, 4)\n", "utf-8")
        with pytest.raises(RuntimeError) as raised:
            flowconf.build(file)(torch.randn(2, 4))
        assert f"{number}.yaml:{3 + number}:" in raised.value.__notes__[0]


def test_what_a_statement_reads_is_named():
    flow = {
        "a": "Linear(6, 4)",
        "b": {"from": "x", "through": "Linear(6, 3)"},
        "c": {"through": "StateAdd", "using": {"state": "a"}},
    }
    graph = flowconf.build({"flow": flow | {"d": {"also": "Linear(3, 2)"}}})
    with pytest.raises(RuntimeError) as raised:
        graph(torch.randn(5, 6))
    assert "[5, 3] float32 on cpu, " in raised.value.__notes__[0]
    assert "[5, 4] float32 on cpu" in raised.value.__notes__[0]


def test_a_refusal_of_ours_gains_its_place_and_path(tmp_path):
    file = tmp_path / "g.yaml"
    file.write_text("flow:\n  a: Tanh\n  b:\n    switch: {a: Tanh, b: Tanh}\n    router: FixedSelector(7)\n", "utf-8")
    with pytest.raises(flowconf.FlowconfError) as raised:
        flowconf.build(file)(torch.randn(2, 3))
    (reported,) = raised.value.diagnostics
    assert (reported.path, reported.place.line) == ("b", 3)
