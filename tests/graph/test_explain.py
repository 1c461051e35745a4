"""An exception inside a step keeps its type and gains the step's path, its place in the file, and the input shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf

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
              two: Linear(4, 4)
              three: Linear(5, 4)
          times: 2
  out: Linear(4, 2)
"""


class Own(Exception):
    """An exception of the user's module."""


@pytest.fixture
def graph(tmp_path):
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


def test_the_note_is_told_once_at_every_depth(graph):
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
