"""The fluent builder: the same documents, and so the same Plans and modules, as files and dicts give."""

from __future__ import annotations

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import flowconf
from flowconf.graph.weights.structural_hash import structural_hash

EVERYTHING = """
label: everything
params: {width: 16, looks: 3}
inputs:
  image: [B, 784]
  start: [B, width]
  parts: [B, 16, 3]
flow:
  stem: Linear(784, width) >> GELU
  linear:
    also: Linear(width, width)
    skip: Linear(width, width)
    tag: hidden
    frozen: params
  probe:
    fork: Linear(width, 2)
  both:
    split: {a: "Linear(width, 4)", b: "Identity >> Linear(width, 4)"}
    merge: cat
    dim: -1
  gate:
    gate: {a: "Linear(8, 16)", b: "Linear(8, 16)"}
    router: SoftmaxRouter(8, 2)
  switch:
    switch: {a: Identity, b: "Linear(16, 16)"}
    router: FixedSelector(1)
  think:
    loop:
      inputs: {h: [B, width]}
      flow:
        mix: {through: StateAdd, using: {state: start}}
    times: looks
  settle:
    loop: Linear(width, width)
    until: LearnedHalt(width)
    max: 4
  scan:
    loop:
      inputs: {h: [B, width], part: [B, 16]}
      flow:
        sum: {through: StateAdd, using: {state: part}}
    over: {part: parts}
    dim: 2
  map:
    map: Linear(4, 4)
    slices: 4
    init: {weight: normal(std=0.02)}
  inner:
    graph:
      params: {size: 2}
      inputs: {x: [B, 16]}
      flow: {out: "Linear(16, size)"}
      outputs: {y: out}
    with: {size: width}
    label: nested
    repeat: 2
  again:
    reuse: stem.0
    from: image
  total: {through: Concat, using: {other: hidden}}
outputs: {total: total, probe: probe}
"""


def everything():
    inner = flowconf.flow("x", ["B", 16]).params(size=2).through("Linear(16, size)", name="out").outputs(y="out")
    step = flowconf.flow("h", ["B", "width"]).through("StateAdd", name="mix").using(state="start")
    scan = (
        flowconf.flow("h", ["B", "width"]).input("part", ["B", 16]).through("StateAdd", name="sum").using(state="part")
    )
    return (
        flowconf.flow("image", ["B", 784], label="everything")
        .input("start", ["B", "width"]).input("parts", ["B", 16, 3])
        .params(width=16, looks=3)
        .through("Linear(784, width) >> GELU", name="stem")
        .also("Linear(width, width)", skip="Linear(width, width)").tag("hidden").freeze(params_only=True)
        .fork("Linear(width, 2)", name="probe")
        .split({"a": "Linear(width, 4)", "b": "Identity >> Linear(width, 4)"}, name="both").merge("cat", -1)
        .gate({"a": "Linear(8, 16)", "b": "Linear(8, 16)"}, "SoftmaxRouter(8, 2)")
        .switch({"a": "Identity", "b": "Linear(16, 16)"}, "FixedSelector(1)")
        .loop(step, "looks", name="think")
        .loop("Linear(width, width)", until="LearnedHalt(width)", max=4, name="settle")
        .loop(scan, over={"part": "parts"}, dim=2, name="scan")
        .map("Linear(4, 4)", slices=4, name="map").init(weight="normal(std=0.02)")
        .graph(inner, {"size": "width"}, name="inner").labelled("nested").repeat(2)
        .reuse("stem.0", name="again").from_("image")
        .through("Concat", name="total").using(other="hidden")
        .outputs(total="total", probe="probe")
    )  # fmt: skip


def test_it_emits_the_document():
    assert everything().document() == yaml.safe_load(EVERYTHING)


def test_yaml_and_builder_give_one_plan_and_one_module(tmp_path):
    file = tmp_path / "graph.yaml"
    file.write_text(EVERYTHING, encoding="utf-8")
    written = tmp_path / "written.yaml"
    written.write_text(everything().yaml(), encoding="utf-8")
    torch.manual_seed(0)
    graphs = []
    for build in (lambda: flowconf.build(file), lambda: everything().build(), lambda: flowconf.build(written)):
        torch.manual_seed(0)
        graphs.append(build())
    x, start, parts = torch.randn(3, 784), torch.randn(3, 16), torch.randn(3, 16, 3)
    wanted = graphs[0](x, start, parts)
    for graph in graphs[1:]:
        assert structural_hash(graph.plan) == structural_hash(graphs[0].plan)
        assert graph.plan == graphs[0].plan
        assert list(graph.state_dict()) == list(graphs[0].state_dict())
        assert all(torch.equal(a, b) for a, b in zip(graph.parameters(), graphs[0].parameters(), strict=True))
        assert all(torch.equal(graph(x, start, parts)[name], value) for name, value in wanted.items())


def test_the_sentence_of_the_issue():
    built = (
        flowconf.flow("x", ["B", 784])
        .through("Linear(784, 128)").tag("hidden")
        .also("Linear(128, 128)")
        .split({"a": "Linear(128, 8)", "b": "Linear(128, 8)"}).merge("mean")
        .loop("Linear(8, 8)", 3)
        .fork("Linear(8, 2)")
        .through("Concat").using(other="hidden").freeze()
        .build()
    )  # fmt: skip
    assert [step.name for step in built.plan.steps] == ["linear", "linear_2", "split", "linear_3", "linear_4", "concat"]
    assert built(torch.randn(2, 784)).shape == (2, 136)


def test_default_names_follow_modules_labels_and_verbs():
    inner = flowconf.flow(label="eye").through("Identity")
    found = (
        flowconf.flow("linear", ["B", 4])
        .through("Linear(4, 4)")
        .through("BatchNorm1d(4) >> ReLU").tag("relu")
        .through("ReLU")
        .through(nn.GELU())
        .graph(inner)
        .graph(flowconf.flow().through("Identity"))
        .through("Type").through("LSTM(4, 4)").through("GRUCell(4, 4)")
        .reuse("linear_2")
        .through("Linear(4, 4)", name="linear_5").through("Linear(4, 4)").through("Linear(4, 4)")
    )  # fmt: skip
    assert list(found.steps) == [
        "linear_2", "batch_norm1d", "relu_2", "gelu", "eye", "graph", "type_", "lstm", "gru_cell", "linear_2_2",
        "linear_5", "linear_3", "linear_4",
    ]  # fmt: skip


def test_a_flow_never_changes():
    stem = flowconf.flow("x", ["B", 4]).through("Linear(4, 8)")
    one, other = stem.through("ReLU"), stem.tag("h").through("GELU")
    assert list(stem.steps) == ["linear"]
    assert stem.document()["flow"] == {"linear": "Linear(4, 8)"}
    assert one.document()["flow"]["linear"] == "Linear(4, 8)"
    assert other.document()["flow"]["linear"] == {"through": "Linear(4, 8)", "tag": "h"}


def test_modules_stand_where_calls_may():
    layer = nn.Linear(4, 4)
    graph = flowconf.flow("x", ["B", 4]).through(layer, name="a").also(nn.ReLU()).loop(nn.Tanh(), 2).build()
    x = torch.randn(2, 4)
    hidden = layer(x)
    assert torch.equal(graph(x), (hidden + hidden.relu()).tanh().tanh())
    assert graph.module_at("a") is layer


def test_without_a_shape_nothing_is_said_of_inputs():
    assert flowconf.flow().through("Linear(4, 2)").document() == {"flow": {"linear": "Linear(4, 2)"}}


@pytest.mark.parametrize(
    ("write", "code", "words"),
    [
        (lambda f: f.tag("a"), "FC0144", "`tag` applies to the previous step"),
        (lambda f: f.through("ReLU").tag("a").tag("b"), "FC0142", "`tag` is set twice for `relu`"),
        (lambda f: f.through("ReLU", name="a").through("GELU", name="a"), "FC0142", "duplicate step `a`"),
        (lambda f: f.input("x", ["B"]), "FC0142", "duplicate input `x`"),
        (lambda f: f.through(nn.ReLU), "FC0123", "got the class `ReLU`"),
        (lambda f: f.through("ReLU").using("a", b="c"), "FC0123", "got both"),
        (lambda f: f.through(nn.ReLU()).yaml(), "FC0146", "`relu` is a `ReLU` object"),
        (
            lambda f: f.through("ReLU").merge("add").build(),
            "FC0125",
            "`merge` applies only to `split`, not to `through`",
        ),
        (lambda f: f.split({"a": "ReLU", "b": "ReLU"}).build(), "FC0122", "merge"),
        (lambda f: f.through("Linear(4, 2)").using("nowhere").build(), "FC0141", "nowhere"),
    ],
)
def test_what_is_refused(write, code, words):
    with pytest.raises(flowconf.ConfigError, match=words) as problem:
        write(flowconf.flow("x", ["B", 4]))
    assert problem.value.diagnostics[0].code == code


def test_an_input_needs_a_shape():
    with pytest.raises(flowconf.ConfigError, match="the input `image` has no shape"):
        flowconf.flow("image")


CALLS = st.sampled_from(["Linear(4, 4)", "ReLU", "Linear(4, 4) >> GELU", "LayerNorm(4)", "Identity"])


@given(
    st.lists(st.tuples(st.sampled_from(["through", "also", "fork", "loop", "repeat"]), CALLS), min_size=1, max_size=6)
)
def test_what_it_prints_reads_back_as_the_same_plan(verbs):
    built = flowconf.flow("x", ["B", 4])
    for verb, call in verbs:
        match verb:
            case "loop":
                built = built.loop(call, 2)
            case "repeat":
                built = built.through(call).repeat(2)
            case _:
                built = getattr(built, verb)(call)
    assert flowconf.plan(yaml.safe_load(built.yaml())) == built.plan()
