"""Traced views: the same numbers, and at every moment, forward and backward, the path that runs."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import flowconf
from flowconf.graph import tracing, views

EVERYTHING = {
    "inputs": {"x": ["B", 6]},
    "flow": {
        "first": "Linear(6, 6) >> Tanh",
        "s": {"split": {"a": "Identity", "b": "Linear(6, 6) >> ReLU"}, "merge": "add"},
        "r": {"through": "Linear(6, 6)", "repeat": 2},
        "m": {"map": "Tanh"},
        "l": {"loop": {"flow": {"one": "Linear(6, 6)", "two": "ReLU"}}, "times": 2},
        "w": {"loop": "Linear(6, 6)", "until": "ThresholdHalt(100)", "max": 2},
        "again": {"reuse": "first"},
        "whole": {"reuse": "l"},
        "g": {"gate": {"a": "Linear(6, 6)", "b": "Tanh"}, "router": "SoftmaxRouter(6, 2)"},
        "k": {"switch": {"a": "Linear(6, 6)", "b": "Tanh"}, "router": "FixedSelector(1)"},
        "also": {"also": "Linear(6, 6)", "skip": "Linear(6, 6)"},
        "at": "Dropout(0.5)",
        "n": {"graph": {"flow": {"inner": {"loop": "Linear(6, 6) >> Tanh", "times": 2}}}},
        "rows": "Unflatten(1, [1, 6])",
        "out": "TransformerEncoderLayer(6, 2, 8, batch_first=true)",
    },
}
VISITED = (
    "| first first.0 first.1 s s.a s.b s.b.0 s.b.1 r r.0 r.1 m l l.one l.two l.one l.two w w.condition w.condition"
    " again again.0 again.1 whole whole.one whole.two g g.router g.a g.b k k.router k.b also also.skip at"
    " n n.inner n.inner.0 n.inner.1 n.inner.0 n.inner.1 rows out"
)


@pytest.fixture
def graph():
    torch.manual_seed(0)
    return flowconf.build(EVERYTHING)


def followed(graph, visit):
    view = views.traced(graph)
    return view, tracing.Trail(view, visit)


def test_every_path_is_visited_in_the_order_of_the_graph(graph):
    seen = []

    @contextmanager
    def visit(path):
        seen.append(path or "|")
        yield

    view, trail = followed(graph, visit)
    with trail.followed():
        view(torch.randn(3, 6))
    assert " ".join(seen) == VISITED


def test_values_and_gradients_are_the_same_to_the_bit(graph):
    view, trail = followed(graph, lambda path: torch.profiler.record_function(path))
    x = torch.randn(3, 6)
    torch.manual_seed(1)
    expected = graph(x)
    gradients = torch.autograd.grad(expected.sum(), list(graph.parameters()), allow_unused=True)
    torch.manual_seed(1)
    with trail.followed():
        found = view(x)
    assert torch.equal(found, expected)
    for mine, theirs in zip(
        torch.autograd.grad(found.sum(), list(graph.parameters()), allow_unused=True), gradients, strict=True
    ):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.equal(mine, theirs)


def test_a_backward_pass_is_reported_by_the_forward_step(graph):
    found = {}

    class Notes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if torch._C._current_autograd_node() is not None:
                found.setdefault(trail.here(), []).append(func.__name__)
            return result

    view, trail = followed(graph, lambda path: torch.profiler.record_function(path))
    with trail.followed():
        loss = view(torch.randn(3, 6)).sum()
        with Notes():
            loss.backward()
    for path in (
        "first.0",
        "again.0",
        "s.b.0",
        "r.0",
        "r.1",
        "l.one",
        "whole.one",
        "w",
        "g.a",
        "g.router",
        "n.inner.0",
    ):
        assert any("mm" in name for name in found[path]), path
    assert any("tanh_backward" in name for name in found["again.1"])
    assert "k.a" not in found


def test_a_graph_that_is_not_traced_is_not_followed(graph):
    _, trail = followed(graph, lambda path: pytest.fail("visited"))
    with trail.followed():
        graph(torch.randn(3, 6))
    assert tracing.AT not in graph.source


def test_an_exception_leaves_nothing_behind(graph):
    view, trail = followed(graph, lambda path: torch.profiler.record_function(path))
    hooks = len(nn.modules.module._global_forward_pre_hooks)
    for _ in range(2):
        with pytest.raises(RuntimeError), trail.followed():
            view(torch.randn(3, 7))
        assert not trail.stack
    assert len(nn.modules.module._global_forward_pre_hooks) == hooks
    assert tracing._trail is None


def test_exceptions_name_their_step_in_a_traced_view(tmp_path):
    file = tmp_path / "g.yaml"
    file.write_text("flow:\n  a: GELU\n  b: Linear(5, 6)\n", encoding="utf-8")
    view, trail = followed(flowconf.build(file), lambda path: torch.profiler.record_function(path))
    with pytest.raises(RuntimeError) as raised, trail.followed():
        view(torch.randn(3, 6))
    assert "in step `b`" in raised.value.__notes__[0]
    assert "g.yaml:3:" in raised.value.__notes__[0]
