"""The members of a picture: what every form of it is made from."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import flowconf
from flowconf.cli.main import main
from flowconf.draw.data import as_data
from flowconf.draw.levels import picture
from flowconf.graph.facts import facts_of, facts_of_graph
from flowconf.language.registry import modules
from flowconf.language.resolve.resolver import resolve
from flowconf.text.documents import read
from flowconf.train.checks import road

SHIPPED = ["configs/digits.yaml", "configs/fbrl_letter.yaml", "configs/fbrl_word.yaml", "configs/fbrl_line.yaml"]


def drawn(source):
    walk = road.begin(source).to("sizes")
    facts = facts_of(walk.plan, walk.inference)
    return picture(walk.plan, facts), facts


def graph(flow, inputs=None, **more):
    return {"inputs": inputs or {"x": ["B", 8]}, "flow": flow, **more}


def member(whole, id):
    return next(one for one in whole.walk() if one.id == id)


def edges(member):
    return {(edge.source, edge.target, edge.kind, edge.name) for edge in member.inside.edges}


@pytest.mark.usefixtures("flagship")
@pytest.mark.parametrize("file", SHIPPED)
def test_the_members_of_a_picture_add_up_to_the_graph(file):
    whole, _ = drawn(file)
    built = flowconf.build(file, weights=False)
    assert whole.parameters == sum(one.numel() for one in built.parameters())
    assert whole.trainable == sum(one.numel() for one in built.parameters() if one.requires_grad)
    for one in whole.walk():
        if one.inside is not None and one.kind != "graph" and one.verb != "also":
            assert one.parameters == sum(inner.parameters for inner in one.inside.members if not inner.reuses), one.id


@pytest.mark.usefixtures("flagship")
@pytest.mark.parametrize("file", SHIPPED)
def test_every_id_is_unique_and_every_edge_stays_in_its_level(file):
    whole, _ = drawn(file)
    ids = [one.id for one in whole.walk()]
    assert len(set(ids)) == len(ids)
    for one in whole.walk():
        if one.inside is not None:
            inside = {inner.id for inner in one.inside.members}
            assert all({edge.source, edge.target} <= inside for edge in one.inside.edges), one.id


def test_calls_are_shown_with_values_and_as_written():
    whole, _ = drawn(
        graph({"a": "Linear(_, 4 * width) >> Dropout(p=0.5)", "b": "Linear(32, 2, bias=false)"}, params={"width": 8})
    )
    assert member(whole, "a").calls == ("Linear(8, 32)", "Dropout(p=0.5)")
    assert member(whole, "a").written == ("Linear(_, 4 * width)", "Dropout(p=0.5)")
    assert member(whole, "b").calls == ("Linear(32, 2, bias=False)",)
    assert member(whole, "b").written == ()


def test_copies_count_their_parameters():
    whole, _ = drawn(graph({"block": {"repeat": 3, "graph": graph({"a": "Linear(8, 8)"})}}))
    assert member(whole, "block").repeat == 3
    assert member(whole, "block").parameters == member(whole, "block.a").parameters == 3 * 72
    assert member(whole, "block.a").tensors == (("weight", (8, 8)), ("bias", (8,)))


def test_copies_with_an_index_are_members_with_values_of_their_own():
    step = {"also": "Conv1d(8, 8, 3, padding=2**i, dilation=2**i)", "repeat": {"times": 3, "index": "i"}}
    whole, _ = drawn(graph({"wave": step}, {"x": ["B", 8, "T"]}))
    assert whole.parameters == member(whole, "wave").parameters == 3 * 200
    assert member(whole, "wave").notes == ("i from 0 to 2",)
    assert member(whole, "wave.2").calls == ("Conv1d(8, 8, 3, padding=4, dilation=4)",)
    assert member(whole, "wave.2").written == ("Conv1d(8, 8, 3, padding=2 ** i, dilation=2 ** i)",)
    assert ("wave.0", "wave.1", "stream", "") in edges(member(whole, "wave"))


def test_a_reused_module_counts_once():
    whole, _ = drawn(graph({"a": "Linear(8, 8)", "again": {"reuse": "a"}}))
    assert whole.parameters == 72
    assert member(whole, "again").reuses == "a"
    assert member(whole, "again").calls == ("Linear(8, 8)",)


def test_frozen_parts_are_those_of_the_nearest_setting():
    inner = graph({"a": "Linear(8, 8)", "b": {"through": "Linear(8, 8)", "frozen": False}})
    whole, _ = drawn(graph({"part": {"graph": inner, "frozen": True}}))
    assert [member(whole, path).frozen for path in ("part", "part.a", "part.b")] == ["all", "all", ""]
    assert [member(whole, path).setting for path in ("part", "part.a", "part.b")] == ["all", "", "no"]
    assert whole.trainable == 72


def test_parameters_that_are_those_of_another_member_say_so():
    inner = graph({"a": "Linear(8, 8)"})
    flow = {
        "first": "Linear(8, 8, bias=false)",
        "out": {"through": "Linear(8, 8)", "tie": {"weight": "first.weight"}},
        "student": {"graph": inner},
        "teacher": {"fork": inner, "follows": {"path": "student", "decay": 0.99}},
    }
    whole, _ = drawn(graph(flow))
    assert member(whole, "out").relations == ("weight is first.weight",)
    assert member(whole, "teacher").relations == ("follows student, decay 0.99",)
    built = flowconf.build(graph(flow))
    assert whole.parameters == sum(one.numel() for one in built.parameters())
    assert whole.trainable == sum(one.numel() for one in built.parameters() if one.requires_grad)


def test_what_a_built_graph_trains_is_what_it_trains_now():
    built = flowconf.build(graph({"block": {"through": "Linear(8, 8)", "repeat": 2}, "b": "Linear(8, 8)"}))
    built.freeze("block")
    whole = picture(built.plan, facts_of_graph(built))
    assert (whole.parameters, whole.trainable) == (3 * 72, 72)


def test_edges_say_what_goes_where():
    body = {"flow": {"c": {"through": "Bilinear(8, 8, 8)", "using": {"input2": "a"}}}}
    flow = {
        "a": "Linear(8, 8)",
        "turn": {"loop": body, "times": 2},
        "late": {"from": "end", "through": "ReLU"},
        "end": "ReLU",
    }
    whole, _ = drawn(graph(flow))
    assert ("input x", "a", "stream", "") in edges(whole)
    assert ("a", "turn", "reference", "") in edges(whole)
    assert ("end", "late", "state", "") in edges(whole)
    assert ("turn input a", "turn.c", "reference", "input2") in edges(member(whole, "turn"))
    assert any(edge[2] == "state" for edge in edges(member(whole, "turn")))


def test_a_residual_keeps_its_stream():
    whole, _ = drawn(
        graph({"a": {"also": {"flow": {"b": "Linear(8, 8)"}}}, "c": {"also": "Linear(8, 8)", "skip": "Linear(8, 8)"}})
    )
    assert ("a input x", "a joint", "kept", "") in edges(member(whole, "a"))
    assert [one.id for one in member(whole, "c").inside.members] == ["c entry", "c body", "c.skip", "c joint"]
    assert [member(whole, path).parameters for path in ("c", "c body", "c.skip")] == [144, 72, 72]


def test_branches_meet_in_a_joint():
    flow = {
        "s": {"split": {"a": "Linear(8, 4)", "b": "Linear(8, 4)"}, "merge": "cat"},
        "g": {"gate": {"a": "Linear(8, 8)", "b": "Identity"}, "router": "Linear(8, 2)"},
    }
    whole, _ = drawn(graph(flow))
    assert member(whole, "s joint").name == "cat 1"
    assert member(whole, "g joint").name == "Σ"
    assert ("g.router", "g joint", "reference", "weights") in edges(member(whole, "g"))


def test_the_data_names_the_lines_of_each_member(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(
        "inputs: {x: [B, 8]}\nflow:\n  a:\n    also: Linear(8, 8)\n\n    repeat: 2\n\n  # next\n  b: ReLU\n",
        encoding="utf-8",
    )
    whole, facts = drawn("a.yaml")
    data = as_data(whole, facts)
    a, b = data["graph"]["inside"]["members"][1:3]
    assert a["place"] == {"file": "a.yaml", "line": 3, "column": 3, "end": 6}
    assert b["place"] == {"file": "a.yaml", "line": 9, "column": 3, "end": 9}
    assert data["lines"]["a.yaml"][4] == "    also: Linear(8, 8)"
    assert "# next" not in json.dumps(data["lines"])
    assert [text for text, step in data["source"][a["home"]] if step == "b"] == [
        "        self.b = nn.ReLU()",
        "        return self.b(x)",
    ]


def test_an_override_is_a_place_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("inputs: {x: [B, 8]}\nflow:\n  a: Linear(8, 8)\n", encoding="utf-8")
    assert main(["draw", "a.yaml", "+flow.b=ReLU", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["graph"]["inside"]["members"][2]["place"] == {"word": "+flow.b=ReLU"}


def test_the_account_of_weights_is_part_of_the_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    inner = "  part:\n    graph: {inputs: {x: [B, 8]}, flow: {a: 'Linear(8, 8)'}}\n    checkpoint: w.safetensors\n"
    (tmp_path / "a.yaml").write_text(f"inputs: {{x: [B, 8]}}\nflow:\n{inner}", encoding="utf-8")
    flowconf.build(graph({"a": "Linear(8, 8)"})).save("w.safetensors")
    assert main(["draw", "a.yaml", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["accounts"]["part"][0].endswith("w.safetensors: 2 tensors loaded")
    flowconf.build(graph({"a": "Linear(8, 4)"})).save("w.safetensors")
    assert main(["draw", "a.yaml", "--format", "json"]) == 0
    assert "has shape [8, 8], but [4, 8]" in json.loads(capsys.readouterr().out)["accounts"]["part"][0]


ADAPTED = """
params: {rank: 4}
inputs: {x: [B, 8]}
flow:
  body:
    graph:
      inputs: {x: [B, 8]}
      flow:
        block: {through: {flow: {mix: "Linear(8, 8)", act: "Linear(8, 8) >> ReLU"}}, repeat: 3}
        last: {also: "Linear(8, 8) >> ReLU", repeat: 2}
    adapt:
      "**.mix": {name: lora, rank: rank}
      block.1.act: {name: lora, rank: 2}
      last.0: {name: lora, rank: 1}
"""


def test_adapters_are_shown_with_values_and_with_the_copies_that_they_extend():
    whole = picture(resolve(read("a.yaml", ADAPTED)))
    relations = {member.id: member.relations for member in whole.walk() if member.relations}
    assert relations == {
        "body.block.mix": ("+ lora(rank=4)",),
        "body.block.act": ("+ lora(rank=2) in copy 1",),
        "body.last": ("+ lora(rank=1) in copy 0",),
    }


class Encoder(nn.Module):
    """A module of a project, with modules inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.layers = nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, width))

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        return self.scale * self.layers(stream)


@pytest.fixture
def encoder(monkeypatch):
    monkeypatch.setitem(modules.registered, "Encoder", Encoder)


@pytest.mark.usefixtures("encoder")
def test_the_modules_inside_of_a_projects_module_have_their_shapes_and_parameters():
    source = graph({"a": {"through": "Encoder(8)", "repeat": 3}, "b": "Linear(8, 8) >> Encoder(8)"})
    walk = road.begin(source).to("sizes")
    for facts in (facts_of(walk.plan, walk.inference), facts_of_graph(flowconf.build(source))):
        assert member(picture(walk.plan, facts), "a").inside is None
        whole = picture(walk.plan, facts, opened=True)
        assert member(whole, "a").tensors == (("scale", (8,)),)
        assert member(whole, "a.layers").parameters == 3 * 76
        first = member(whole, "a.layers.0")
        assert first.calls == ("Linear(in_features=8, out_features=4, bias=True)",)
        assert (first.kind, first.shape) == ("module", "[B, 4]")
        assert first.tensors == (("weight", (4, 8)), ("bias", (4,)))
        assert member(whole, "b.1.layers.2").shape == "[B, 8]"
        assert edges(member(whole, "b")) == {("b.0", "b.1", "stream", "")}
        assert edges(member(whole, "a")) == set()


@pytest.mark.usefixtures("encoder")
def test_adapters_inside_of_a_frozen_module_are_trained():
    step = {"through": "Encoder(8)", "frozen": True, "adapt": {"**.layers.2": {"name": "lora", "rank": 1}}}
    walk = road.begin(graph({"a": step})).to("sizes")
    whole = picture(walk.plan, facts_of(walk.plan, walk.inference), opened=True)
    assert (member(whole, "a").frozen, member(whole, "a").trainable) == ("all", 12)
    assert member(whole, "a.layers.2").relations == ("+ lora",)
    assert member(whole, "a.layers.2.lora").frozen == ""


@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize("body", ["Linear(8, 8) >> Encoder(8)", "Encoder(8)"])
@pytest.mark.parametrize("step", [{"also": ...}, {"loop": ..., "times": 2}])
def test_bodies_with_modules_inside(step, body):
    step = {key: body if value is ... else value for key, value in step.items()}
    walk = road.begin(graph({"a": step})).to("sizes")
    whole = picture(walk.plan, facts_of(walk.plan, walk.inference), opened=True)
    if "also" in step and ">>" in body:
        assert ("a entry", "a joint", "kept", "") in edges(member(whole, "a"))
    assert member(whole, "a").parameters == sum(one.numel() for one in flowconf.build(graph({"a": step})).parameters())


def test_branches_and_the_edges_around_them_have_shapes():
    whole, _ = drawn(
        graph({"a": "Linear(8, 4)", "b": {"split": {"one": "Linear(4, 2)", "two": "Identity"}, "merge": "cat"}})
    )
    shapes = [(edge.source, edge.target, edge.shape) for edge in member(whole, "b").inside.edges]
    assert shapes == [
        ("b entry", "b.one", "[B, 4]"),
        ("b.one", "b joint", "[B, 2]"),
        ("b entry", "b.two", "[B, 4]"),
        ("b.two", "b joint", "[B, 4]"),
    ]
    assert (member(whole, "b.one").shape, member(whole, "b.two").shape) == ("[B, 2]", "[B, 4]")


def test_edges_of_parts_have_their_shapes():
    flow = {
        "start": {
            "graph": {
                "inputs": {"x": ["B", 8]},
                "flow": {"a": "Linear(8, 4)", "b": "Linear(4, 2)"},
                "outputs": {"one": "a", "two": "b"},
            }
        },
        "from_key": {"from": "start.one", "through": "Linear(4, 3)"},
        "from_inside": {"from": "start.b", "through": "Linear(2, 3)"},
    }
    whole, _ = drawn(graph(flow))
    shapes = {edge.target: edge.shape for edge in whole.inside.edges}
    assert (shapes["from_key"], shapes["from_inside"]) == ("[B, 4]", "[B, 2]")
