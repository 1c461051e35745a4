"""Another graph in the place of a nested one."""

from __future__ import annotations

import pytest
import torch

import flowconf

ENCODER = {"params": {"width": 4}, "inputs": {"z": ["B", "width"]}, "flow": {"a": "Linear(width, width)"}}
WIDE = {"inputs": {"q": ["B", 4]}, "flow": {"a": "Linear(4, 8)", "b": "ReLU", "c": "Linear(8, 4)"}}


def holder() -> flowconf.Graph:
    flow = {"encoder": {"loop": {"graph": ENCODER}, "times": 2}, "out": "Linear(4, 2)"}
    return flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow})


def test_a_swapped_graph_runs_with_its_own_weights() -> None:
    graph, other, x = holder(), flowconf.build(WIDE), torch.randn(3, 4)
    graph.swap("encoder", other)
    assert torch.equal(graph(x), graph.out(other(other(x))))
    assert graph.module_at("encoder") is other
    assert list(graph.state_dict())[:2] == ["encoder.a.weight", "encoder.a.bias"]


def test_a_graph_beside_a_body_is_swapped_too() -> None:
    flow = {"both": {"also": "Linear(4, 4)", "skip": WIDE}}
    graph, x = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow}), torch.randn(3, 4)
    other = flowconf.build({"inputs": {"q": ["B", 4]}, "flow": {"new": "Linear(4, 4)"}})
    graph.swap("both.skip", other)
    assert torch.equal(graph(x), other(x) + graph.both(x))
    assert torch.equal(graph.view(["both.skip"])(x)["both.skip"], other(x))


def test_paths_views_and_copies_follow() -> None:
    graph, x = holder(), torch.randn(3, 4)
    graph.swap("encoder", flowconf.build(WIDE))
    with graph.observe("encoder.b") as seen:
        output = graph(x)
    assert len(seen["encoder.b"]) == 2
    assert torch.equal(graph.view(["out"])(x)["out"], output)
    graph.freeze("encoder.a")
    assert graph.is_frozen("encoder.a")
    assert "Linear(8, 4)" in graph.source


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"inputs": {"q": ["B", 5]}, "flow": {"a": "Linear(5, 4)"}}, r"declared as \[B, 5\], got \[B, 4\]"),
        ({"inputs": {"a": ["B", 4], "b": ["B", 4]}, "flow": {"c": "Linear(4, 4)"}}, "expected one input, got"),
        (
            {"inputs": {"a": ["B", 4]}, "flow": {"c": "Linear(4, 4)", "d": "ReLU"}, "outputs": {"c": "c", "d": "d"}},
            "expected a single value as output",
        ),
    ],
)
def test_what_does_not_fit_changes_nothing(other: dict[str, object], words: str) -> None:
    graph, x = holder(), torch.randn(3, 4)
    before = graph(x)
    with pytest.raises(flowconf.ConfigError, match=words):
        graph.swap("encoder", flowconf.build(other))
    assert torch.equal(graph(x), before)


def test_a_module_used_elsewhere_cannot_be_swapped() -> None:
    flow = {"encoder": {"graph": ENCODER}, "again": {"reuse": "encoder.a"}}
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": flow})
    with pytest.raises(flowconf.ConfigError, match="`again` uses the same module"):
        graph.swap("encoder", flowconf.build(WIDE))
