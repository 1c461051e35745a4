"""Selectors: what a text means among the names of a graph."""

from __future__ import annotations

import pytest
from torch import nn

import flowconf
from flowconf.graph.selecting import Selection, kinds_of
from flowconf.language.plan import GraphPlan
from flowconf.language.selectors import KINDS, Selector, SelectorError, Tree, copies, first_that_fits, parse
from flowconf.report import PathError

DOCUMENT = """
inputs: {x: [B, 8]}
flow:
  stem: Linear(8, 8) >> ReLU >> LayerNorm(8)
  block:
    repeat: 3
    graph:
      inputs: {x: [B, 8]}
      flow:
        norm: LayerNorm(8)
        attend:
          repeat: 2
          also: Linear(8, 8) >> Linear(8, 8)
          tag: attended
        two: {split: {a: "Linear(8, 4)", b: "Linear(8, 4)"}, merge: cat}
  again: {reuse: stem}
  out: {label: head, graph: {inputs: {x: [B, 8]}, flow: {last: "Linear(8, 4)"}}}
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    file = tmp_path_factory.mktemp("selectors") / "graph.yaml"
    file.write_text(DOCUMENT)
    return flowconf.build(file)


@pytest.fixture(scope="module")
def selection(graph):
    return Selection.of(graph, graph.plan)


@pytest.mark.parametrize("text", ["", "a", "a.b.0", "*", "**", "a.*.b", "a.**.norm:bias", ":norm", "**:matrix", "a._b"])
def test_a_selector_is_written_as_it_was_read(text):
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("a..b", "names separated by dots"),
        (".a", "names separated by dots"),
        ("a b", "names separated by dots"),
        ("conv*", "`*` for any one name"),
        ("a.***", "`*` for any one name"),
        ("a:", "available kinds: `:bias`, `:norm`, `:embedding`, `:matrix`"),
        ("a:weights", "available kinds"),
        ("a:b:c", "available kinds"),
    ],
)
def test_other_texts_are_refused(text, advice):
    with pytest.raises(SelectorError) as caught:
        parse(text)
    assert f"`{text}`" in caught.value.message
    assert advice in str(caught.value.advice)


def test_a_misspelled_kind_is_corrected():
    with pytest.raises(SelectorError) as caught:
        parse("stem:bais")
    assert caught.value.advice.write == "stem:bias"


WHOLE = {
    "stem": ["stem"],
    "stem.0": ["stem.0"],
    "stem.*": ["stem.0", "stem.2"],
    "block": ["block"],
    "block.1": ["block.1"],
    "block.*": ["block.0", "block.1", "block.2"],
    "block.norm": ["block.0.norm", "block.1.norm", "block.2.norm"],
    "block.1.norm": ["block.1.norm"],
    "block.*.norm": ["block.0.norm", "block.1.norm", "block.2.norm"],
    "*.norm": ["block.0.norm", "block.1.norm", "block.2.norm"],
    "**.norm": ["block.0.norm", "block.1.norm", "block.2.norm"],
    "**.**.norm": ["block.0.norm", "block.1.norm", "block.2.norm"],
    "block.0.attend": ["block.0.attend"],
    "block.0.attended": ["block.0.attend"],
    "block.0.attend.1": ["block.0.attend.1"],
    "block.0.attend.1.0": ["block.0.attend.1.0"],
    "block.0.attend.*.0": ["block.0.attend.0.0", "block.0.attend.1.0"],
    "block.0.two.a": ["block.0.two.a"],
    "block.**.b": ["block.0.two.b", "block.1.two.b", "block.2.two.b"],
    "again": ["stem"],
    "again.0": ["stem.0"],
    "head.last": ["head.last"],
    "out.last": ["head.last"],
    "head.last.weight": ["head.last.weight"],
    "": [""],
    "**": [""],
    "head.**": ["head"],
}


@pytest.mark.parametrize("text", WHOLE)
def test_a_path_means_all_below_it(text, selection):
    assert selection.tree.paths(parse(text)) == WHOLE[text]
    below = [name for name in selection.tree.names if any(not p or f"{name}.".startswith(f"{p}.") for p in WHOLE[text])]
    assert below
    assert selection.tree.select(parse(text)) == below


@pytest.mark.parametrize("text", ["norm", "block.a", "block.3", "stem.0.*.x", "block.0.two.*.*.*", "**.ReLU"])
def test_what_is_not_there_is_not_selected(text, selection):
    assert not selection.tree.select(parse(text))


def test_kinds_partition_what_a_path_selects(graph, selection):
    parts = {kind: set(selection.select(f"**:{kind}")) for kind in KINDS if kind != "embedding"}
    named = dict(graph.named_parameters())
    assert parts["bias"] == {name for name in named if name.endswith("bias")}
    assert parts["norm"] == {name for name in named if ".norm." in name or name.startswith("stem.2.")}
    assert parts["matrix"] == set(named) - parts["bias"] - parts["norm"]
    assert set(selection.select("block.norm:bias")) == {f"block.{copy}.norm.bias" for copy in range(3)}
    with pytest.raises(PathError, match="selects no parameters"):
        selection.select("**:embedding")


def test_kinds_are_those_of_the_owners():
    tied = nn.ModuleDict({"embed": nn.Embedding(4, 2), "head": nn.Linear(2, 4, bias=False)})
    tied["head"].weight = tied["embed"].weight
    both = kinds_of(tied)
    assert both == {"embed.weight": {"embedding"}, "head.weight": {"embedding"}}
    attention = kinds_of(nn.MultiheadAttention(4, 2))
    assert {name for name, kinds in attention.items() if "bias" in kinds} == {"in_proj_bias", "out_proj.bias"}
    assert attention["in_proj_weight"] == {"matrix"}
    assert kinds_of(nn.GRU(2, 3))["bias_hh_l0"] == {"bias"}
    assert kinds_of(nn.BatchNorm1d(3)) == {"weight": {"norm"}, "bias": {"norm", "bias"}}


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ("blok.norm", "block.norm"),
        ("block.nrm", "block.norm"),
        ("block.0.atend", "block.0.attend"),
        ("norm", "**.norm"),
        ("block.a", "block.**.a"),
        ("otu.last", "out.last"),
        ("**.nrm", "**.norm"),
        ("nowhere", None),
    ],
)
def test_the_nearest_selector_selects_something(text, close, selection):
    found = selection.tree.instead(parse(text), selection.kinds)
    assert (None if found is None else found.write) == close


def test_the_kinds_of_a_path_are_listed(selection):
    found = selection.tree.instead(parse("head:embedding"), selection.kinds)
    assert found == "the parameters there are `:bias` and `:matrix`"


def test_names_without_numbers_have_all_copies(graph):
    found = copies(graph.plan, ["stem.0.bias", "block.norm.bias", "block.attend.1.bias", "head.last.bias"])
    assert found == {
        "stem.0.bias": "stem.0.bias",
        **{f"block.{copy}.norm.bias": "block.norm.bias" for copy in range(3)},
        **{f"block.{copy}.attend.{inner}.1.bias": "block.attend.1.bias" for copy in range(3) for inner in range(2)},
        "head.last.bias": "head.last.bias",
    }
    assert found.keys() <= dict(graph.named_parameters()).keys()


def test_the_first_selector_that_fits_takes_a_name():
    tree = tree_of("a.x", "a.y", "b.x")
    selected = {text: tree.select(parse(text)) for text in ("a.x", "a", "**.x")}
    assert first_that_fits(selected) == {"a.x": "a.x", "a.y": "a", "b.x": "**.x"}


def tree_of(*names):
    return Tree(GraphPlan("", (), (), (), ()), names)


def test_many_wildcards_take_no_long_time():
    deep = tree_of(*(".".join(["a"] * depth + ["w"]) for depth in range(1, 60)))
    assert len(deep.select(Selector(("**", "a") * 25 + ("**", "w")))) == 35
    assert not deep.select(Selector(("**", "a") * 25 + ("x",)))


def test_a_graph_is_frozen_by_selectors(graph):
    graph.freeze("block.**.norm")
    assert graph.is_frozen("block.norm")
    assert not graph.is_frozen("stem.2")
    graph.thaw()
    graph.thaw("block.norm")
    graph.freeze("**:norm")
    assert graph.is_frozen("stem.2")
    assert not graph.module_at("stem.2").training
    assert not graph.is_frozen("stem.0")
    assert graph.module_at("stem.0").training
    graph.freeze("stem.0:bias")
    assert [p.requires_grad for p in graph.parameters_at("stem.0")] == [True, False]
    assert graph.module_at("stem.0").training
    graph.thaw("**:bias")
    assert [p.requires_grad for p in graph.parameters_at("stem.0")] == [True, True]
    graph.thaw("**:norm")
    graph.thaw("block.norm")


def test_a_selector_without_parameters_is_a_path_error(graph):
    assert len(graph.parameters_at("**:norm")) == 8
    assert len(graph.parameters_at("stem.0.weight")) == 1
    for text, close in (("blok", "block"), ("**.nrm", "**.norm"), ("block:bais", "block:bias")):
        with pytest.raises(PathError) as caught:
            graph.parameters_at(text)
        advice = caught.value.diagnostics[0].advice
        assert close in (advice if isinstance(advice, str) else advice.write), text
