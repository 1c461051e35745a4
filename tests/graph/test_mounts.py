"""Graphs inside graphs: inline, from files and groups, mounted twice, with parameters, several inputs and outputs."""

from __future__ import annotations

import textwrap

import pytest
import torch
from torch import nn

import flowconf
from flowconf import ConfigError, PathError
from tests.graph.conftest import rows

PART = {"params": {"width": 4}, "inputs": {"x": ["B", 6]}, "flow": {"a": "Linear(6, width)", "b": "Linear(width, 6)"}}


class Part(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.a = nn.Linear(6, width)
        self.b = nn.Linear(width, 6)

    def forward(self, x):
        return self.b(self.a(x))


def write(folder, **texts):
    """Files of a config root: `main`, and `graph__name` for `graph/name.yaml`."""
    for name, text in texts.items():
        file = folder / (name.replace("__", "/") + ".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return folder / "main.yaml"


def test_a_graph_mounted_twice_has_two_sets_of_weights(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = Part()
            self.other = Part(width=5)

        def forward(self, x):
            return self.other(self.one(x))

    flow = {"one": {"graph": PART}, "other": {"graph": PART, "with": {"width": 5}}}
    same({"inputs": {"x": ["B", 6]}, "flow": flow}, Twin, rows(6))


def test_label_is_the_path(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.reader = Part()
            self.c = nn.Linear(6, 2)

        def forward(self, x):
            return self.c(self.reader(x))

    flow = {"step_name": {"graph": PART, "label": "reader"}, "c": {"from": "step_name", "through": "Linear(6, 2)"}}
    graph = same({"inputs": {"x": ["B", 6]}, "flow": flow}, Twin, rows(6))
    assert graph.kind("reader") == "graph"
    assert graph.subgraph("reader") is graph.module_at("reader")
    by_label = {**flow, "c": {"from": "reader.a", "through": "Linear(4, 2)"}}
    assert flowconf.build({"inputs": {"x": ["B", 6]}, "flow": by_label})(torch.randn(2, 6)).shape == (2, 2)


def test_a_label_in_the_document_names_the_mounted_graph():
    """`label` of a graph document is its name in its parent's paths."""
    flow = {"step_name": {"graph": {**PART, "label": "reader"}}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    assert sorted(graph.state_dict()) == ["reader.a.bias", "reader.a.weight", "reader.b.bias", "reader.b.weight"]


def test_a_label_in_the_file_names_the_mounted_graph(tmp_path):
    main = write(
        tmp_path,
        main="""
        flow:
          step_name:
            graph: part
        """,
        graph__part="""
        label: reader
        flow:
          a: Linear(6, 6)
        """,
    )
    assert list(flowconf.build(main).state_dict()) == ["reader.a.weight", "reader.a.bias"]


def test_dict_outputs_bind_to_inputs_by_name(same):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.u = nn.Linear(6, 4)
            self.v = nn.Linear(6, 3)

        def forward(self, x):
            return {"u": self.u(x), "v": self.v(x)}

    class Join(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Bilinear(3, 4, 2)

        def forward(self, v, u):
            return self.mix(v, input2=u)

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = Two()
            self.join = Join()

        def forward(self, x):
            return self.join(**self.two(x))

    flow = {
        "two": {
            "graph": {
                "inputs": {"x": ["B", 6]},
                "flow": {"u": "Linear(6, 4)", "v": {"from": "x", "through": "Linear(6, 3)"}},
                "outputs": {"u": "u", "v": "v"},
            }
        },
        "join": {
            "graph": {
                "inputs": {"v": ["B", 3], "u": ["B", 4]},
                "flow": {"mix": {"through": "Bilinear(3, 4, 2)", "using": {"input2": "u"}}},
            }
        },
    }
    same({"inputs": {"x": ["B", 6]}, "flow": flow}, Twin, rows(6))


def test_names_inside_a_graph_are_reached_at_any_depth():
    deep = {"flow": {"mid": {"graph": {"flow": {"leaf": {"graph": PART}}}}}}
    flow = {"top": {"graph": deep}, "c": {"from": "top.mid.leaf.a", "through": "Linear(4, 2)"}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow, "outputs": {"c": "c", "a": "top.mid.leaf.a"}})
    x = torch.randn(3, 6)
    out = graph(x)
    a = graph.module_at("top.mid.leaf.a")(x)
    assert torch.equal(out["a"], a)
    assert torch.equal(out["c"], graph.c(a))
    assert "top.mid.leaf.b.weight" in graph.state_dict()


def test_names_that_begin_with_an_underscore_are_internal():
    hidden = {"flow": {"_a": "Linear(6, 4)", "b": "Linear(4, 6)"}}
    flow = {"g": {"graph": hidden}, "c": {"from": "g._a", "through": "Linear(4, 2)"}}
    with pytest.raises(ConfigError) as raised:
        flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    assert [d.code for d in raised.value.diagnostics] == ["FC0141"]
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"g": {"graph": hidden}}})
    with pytest.raises(PathError):
        graph.view(["g._a"])
    with pytest.raises(PathError), graph.observe("g._a"):
        pass


def test_a_group_and_a_file_beside_give_the_same_graph(tmp_path):
    part = """
        params: {width: 4}
        inputs: {x: [B, 6]}
        flow:
          a: Linear(6, width)
          b: Linear(width, 6)
        """
    main = write(
        tmp_path,
        main="""
        inputs: {x: [B, 6]}
        flow:
          by_name:
            graph: lib/part
            with: {width: 3}
          by_file:
            graph: graph/lib/part.yaml
        """,
        graph__lib__part=part,
    )
    graph = flowconf.build(main)
    assert graph.state_dict()["by_name.a.weight"].shape == (3, 6)
    assert graph.state_dict()["by_file.a.weight"].shape == (4, 6)
    assert flowconf.plan(main).step("by_file").body.module.graph.inputs[0].shape == ("B", 6)


def test_a_graph_from_a_file_sees_nothing_of_its_parent(tmp_path):
    main = write(
        tmp_path,
        main="""
        params: {width: 4}
        inputs: {x: [B, 6]}
        flow:
          a: Linear(6, 6)
          g: {graph: part}
        """,
        graph__part="""
        inputs: {x: [B, 6]}
        flow:
          p: Linear(6, width)
          q:
            from: a
            through: Linear(6, 4)
        """,
    )
    with pytest.raises(ConfigError) as raised:
        flowconf.build(main)
    found = {(d.code, d.place.line) for d in raised.value.diagnostics}
    assert found == {("FC0134", 3), ("FC0141", 5)}
    assert all(d.place.file.endswith("graph/part.yaml") for d in raised.value.diagnostics)


def test_an_inline_document_under_graph_belongs_to_its_document():
    """An inline body sees the parameters and names around it, whichever verb holds it."""
    flow = {
        "a": "Linear(6, 6)",
        "g": {"graph": {"flow": {"p": "Linear(6, width)", "q": {"from": "a", "through": "Linear(6, width)"}}}},
    }
    document = {"params": {"width": 4}, "inputs": {"x": ["B", 6]}, "flow": flow}
    assert flowconf.build(document)(torch.randn(2, 6)).shape == (2, 4)


def test_inputs_of_a_file_graph_come_by_using(tmp_path):
    main = write(
        tmp_path,
        main="""
        inputs: {x: [B, 6], image: [B, 5]}
        flow:
          g:
            graph: part
            using: image
        """,
        graph__part="""
        inputs: {x: [B, 6], image: [B, 5]}
        flow:
          mix:
            through: Bilinear(6, 5, 3)
            using: {input2: image}
        """,
    )
    graph = flowconf.build(main)
    x, image = torch.randn(3, 6), torch.randn(3, 5)
    assert torch.equal(graph(x, image), graph.module_at("g.mix")(x, image))


def test_twelve_equal_graphs_share_one_class():
    block = {"params": {"width": 6}, "flow": {"n": "LayerNorm(width)", "r": {"also": "Linear(width, width)"}}}
    flow = {f"block{i}": {"graph": block} for i in range(12)}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    classes = {type(graph.subgraph(f"block{i}")) for i in range(12)}
    assert len(classes) == 1
    assert graph.source.count("class ") == 2


def test_repeats_share_one_class():
    block = {"flow": {"n": "LayerNorm(6)", "r": {"also": "Linear(6, 6)"}}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"block": {"through": block, "repeat": 12}}})
    assert len({type(graph.module_at(f"block.{i}")) for i in range(12)}) == 1
    assert graph.source.count("class ") == 2
    assert [n for n, _ in graph.named_parameters()][:4] == [
        "block.0.n.weight", "block.0.n.bias", "block.0.r.weight", "block.0.r.bias",
    ]  # fmt: skip


def test_repeat_of_an_inline_graph_that_reads_names_around(same):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x, base):
            return self.a(x) + base

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = nn.Linear(6, 6)
            self.block = nn.ModuleList([Block() for _ in range(3)])

        def forward(self, x):
            x = base = self.base(x)
            for block in self.block:
                x = block(x, base)
            return x

    body = {"flow": {"a": "Linear(6, 6)", "add": {"through": "StateAdd", "using": {"state": "base"}}}}
    flow = {"base": "Linear(6, 6)", "block": {"through": body, "repeat": 3}}
    same({"inputs": {"x": ["B", 6]}, "flow": flow}, Twin, rows(6))


def test_reuse_of_a_whole_graph(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.g = Part()

        def forward(self, x):
            return self.g(torch.tanh(self.g(x)))

    class TwinWithAct(Twin):
        def __init__(self):
            super().__init__()
            self.act = nn.Tanh()

    flow = {"g": {"graph": PART}, "act": "Tanh", "again": {"reuse": "g"}}
    graph = same({"inputs": {"x": ["B", 6]}, "flow": flow}, TwinWithAct, rows(6))
    view = graph.view(["g.a", "again.a"])
    x = torch.randn(2, 6)
    seen = view(x)
    assert torch.equal(seen["g.a"], graph.g.a(x))
    assert torch.equal(seen["again.a"], graph.g.a(torch.tanh(graph.g(x))))


def test_reuse_of_a_module_inside_a_graph(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.g = Part()

        def forward(self, x):
            return self.g.a(self.g(x))

    flow = {"g": {"graph": PART}, "again": {"reuse": "g.a"}}
    same({"inputs": {"x": ["B", 6]}, "flow": flow}, Twin, rows(6))


def test_an_inline_body_names_its_own_input():
    flow = {"m": {"through": {"inputs": {"h": ["B", 6]}, "flow": {"a": {"from": "h", "through": "Linear(6, 2)"}}}}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    x = torch.randn(2, 6)
    assert torch.equal(graph(x), graph.module_at("m.a")(x))


def test_an_inner_name_hides_the_outer_one():
    """Lexical scope: the nearest `a` is meant."""
    flow = {
        "a": "Linear(6, 6)",
        "g": {"through": {"flow": {"a": "Linear(6, 6)", "b": {"from": "a", "through": "Linear(6, 2)"}}}},
    }
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    x = torch.randn(2, 6)
    inner = graph.module_at("g.a")(graph.a(x))
    assert torch.equal(graph(x), graph.module_at("g.b")(inner))


def test_a_body_two_levels_down_reads_names_of_the_outermost_graph():
    inner = {"flow": {"k": {"through": "StateAdd", "using": {"state": "far"}}}}
    flow = {
        "far": {"fork": "Linear(6, 6)"},
        "outer": {"through": {"flow": {"a": "Linear(6, 6)", "in_loop": {"loop": inner, "times": 2}}}},
    }
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    x = torch.randn(3, 6)
    far = graph.far(x)
    assert torch.equal(graph(x), graph.module_at("outer.a")(x) + far + far)


def test_parameter_with_and_defaults_reach_inline_bodies_of_the_mounted_graph(tmp_path):
    main = write(
        tmp_path,
        main="""
        params: {width: 9, times: 2}
        inputs: {x: [B, 6]}
        flow:
          g:
            graph: part
            with: {width: 3}
        """,
        graph__part="""
        params: {width: 4}
        inputs: {x: [B, 6]}
        flow:
          down: Linear(6, width)
          again:
            loop:
              flow:
                a: Linear(width, width * 2)
                b: Linear(width * 2, width)
            times: 2
        """,
    )
    graph = flowconf.build(main)
    assert graph.state_dict()["g.again.a.weight"].shape == (6, 3)
