"""The classes of a file that is mounted with several sizes: one class, which takes what differs."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import flowconf
from flowconf.graph.exchange.eject import eject

BLOCK = """
params: {width: 8}
inputs: {x: [B, C]}
flow:
  line: Linear(_, width)
  inner:
    through: {flow: {norm: "LayerNorm(_)", twice: "Linear(_, width * 2) >> Linear(_, width)"}}
"""
PAIR = """
params: {width: 8}
inputs: {x: [B, C]}
flow:
  first: {graph: block.yaml, with: {width: width}}
  second: {graph: block.yaml, with: {width: 4}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.yaml").write_text(BLOCK)
    (tmp_path / "pair.yaml").write_text(PAIR)
    return tmp_path


def net(flow: str, head: str = "label: net\ninputs: {x: [B, 3]}\n") -> flowconf.Graph:
    Path("net.yaml").write_text(f"{head}flow:\n{flow}")
    return flowconf.build("net.yaml")


def classes(graph: flowconf.Graph) -> dict[str, type[nn.Module]]:
    """The classes of the ejected file, which computes what the graph computes."""
    eject(graph, "ejected.py", weights=False)
    spec = importlib.util.spec_from_file_location("ejected", "ejected.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    twin = module.Net()
    twin.load_state_dict(graph.state_dict())
    x = torch.randn(5, 3)
    assert torch.equal(twin(x), graph(x))
    found: dict[str, Any] = vars(module)
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and kind.__module__ == "ejected"}


def arguments(kind: type[nn.Module]) -> dict[str, object]:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return {one.name: None if one.default is inspect.Parameter.empty else one.default for one in parameters}


@pytest.mark.usefixtures("folder")
def test_one_file_is_one_class_whatever_its_sizes_are() -> None:
    graph = net("""
  a: {graph: block.yaml}
  b: {graph: block.yaml, with: {width: 16}}
  c: {graph: block.yaml, with: {width: 2}}
  d: {graph: block.yaml, with: {width: 2}, repeat: 3}
""")
    found = classes(graph)
    assert set(found) == {"Block", "Inner", "Net"}
    assert arguments(found["Block"]) == {
        "line_in": None, "inner_norm_in": None, "inner_twice_0_in": None, "inner_twice_1_in": None, "width": 8,
    }  # fmt: skip
    assert list(arguments(found["Inner"])) == ["width", "inner_norm_in", "inner_twice_0_in", "inner_twice_1_in"]
    assert (
        "self.b = Block(line_in=8, inner_norm_in=16, inner_twice_0_in=16, inner_twice_1_in=32, width=16)"
        in graph.source
    )


@pytest.mark.usefixtures("folder")
def test_files_in_files_pass_their_sizes_on() -> None:
    found = classes(
        net("  a: {graph: pair.yaml}\n  b: {graph: pair.yaml, with: {width: 16}}\n  c: {graph: block.yaml}\n")
    )
    assert set(found) == {"Block", "Inner", "Pair", "Net"}
    assert "first_line_in" in arguments(found["Pair"])
    assert "second_inner_twice_1_in" not in arguments(found["Pair"])


@pytest.mark.usefixtures("folder")
def test_a_class_that_is_used_with_one_size_builds_by_default() -> None:
    graph = net("  a: {graph: block.yaml, with: {width: 16}}\n  b: ReLU\n")
    found = classes(graph)
    assert arguments(found["A"]) == {"width": 16}
    assert found["A"]()(torch.randn(2, 3)).shape == (2, 16)
    assert "Linear(3, width)" in graph.source


@pytest.mark.usefixtures("folder")
def test_sizes_that_do_not_differ_stay_numbers() -> None:
    found = classes(net("  a: {graph: block.yaml}\n  back: Linear(_, 3)\n  b: {graph: block.yaml}\n"))
    assert set(found) == {"Block", "Inner", "Net"}
    assert arguments(found["Block"]) == {"width": 8}
    assert found["Block"]()(torch.randn(2, 3)).shape == (2, 8)


def test_names_that_are_taken_get_an_underscore(folder: Path) -> None:
    text = "params: {line_in: 4, line: 2}\ninputs: {x: [B, C]}\nflow: {line: 'Linear(_, line_in) >> Linear(_, line)'}\n"
    text = text.replace(
        "line: 'Linear(_, line_in) >> Linear(_, line)'", "line: 'Linear(_, line_in)', last: 'Linear(_, line)'"
    )
    (folder / "block.yaml").write_text(text)
    found = classes(net("  a: {graph: block.yaml}\n  b: {graph: block.yaml, with: {line: 7}}\n"))
    assert list(arguments(found["Block"])) == ["line_in_", "line_in", "line"]


@pytest.mark.usefixtures("folder")
def test_views_and_copies_of_such_graphs() -> None:
    graph = net("  a: {graph: block.yaml}\n  b: {graph: block.yaml, with: {width: 5}}\n")
    x = torch.randn(4, 3)
    found = graph.view(["a.line", "b.inner.norm"])(x)
    assert {name: tuple(value.shape) for name, value in found.items()} == {"a.line": (4, 8), "b.inner.norm": (4, 5)}
    again = flowconf.build("net.yaml")
    again.load_state_dict(graph.state_dict())
    assert torch.equal(again(x), graph(x))
