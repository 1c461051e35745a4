"""Parameters and inputs that nothing uses are reported; what is used anywhere is not."""

from __future__ import annotations

import pytest

import flowconf

CONFIG = """
model:
  params: {params}
  inputs: {inputs}
  flow:
    stem: {stem}
    logits: Linear(8, 10)
data: {{name: digits}}
loss: {{label: {{fn: cross_entropy, input: logits, target: label, weight: {weight}}}}}
"""


def codes(folder, params="{width: 8}", inputs="{image: [B, 64]}", stem="Linear(64, width)", weight="1"):
    file = folder / "config.yaml"
    file.write_text(CONFIG.format(params=params, inputs=inputs, stem=stem, weight=weight), encoding="utf-8")
    return [(reported.severity, reported.code, reported.place.line) for reported in flowconf.check(file)]


@pytest.mark.parametrize(
    "used",
    [
        {},
        {"params": "{width: 8, wide: 64}", "inputs": "{image: [B, wide]}"},
        {"params": "{width: 8, heavy: 3}", "weight": "'${model.params.heavy}'"},
        {"params": "{width: 8}", "stem": "{through: {flow: {inner: {through: {flow: {deep: 'Linear(64, width)'}}}}}}"},
        {"inputs": "{image: [B, 64], label: {shape: [B], dtype: int64}}"},
    ],
)  # fmt: skip
def test_what_is_used_is_not_reported(used, tmp_path):
    assert codes(tmp_path, **used) == []


def test_what_is_not_used_is_reported_where_it_stands(tmp_path):
    assert codes(tmp_path, params="{width: 8, depth: 2}") == [("warning", "FC0149", 3)]


def test_a_base_may_declare_the_parameters_of_a_flow_in_another_file(tmp_path):
    base, main = tmp_path / "base.yaml", tmp_path / "main.yaml"
    base.write_text("model:\n  params: {width: 8, depth: 2}\n  inputs: {image: [B, 64]}\ndata: {name: digits}\n")
    main.write_text(
        "defaults: [base, _self_]\nmodel:\n  flow: {stem: 'Linear(64, width)', logits: 'Linear(width, 10)'}\n"
        "loss: {label: {fn: cross_entropy, input: logits, target: label}}\n"
    )
    assert [(reported.severity, reported.code) for reported in flowconf.check(main)] == [("warning", "FC0149")]
    found = flowconf.check(main, ["+model.params.deep=3"])
    assert [reported.code for reported in found if reported.severity == "error"] == ["FC0102"]


def test_an_input_of_a_graph_is_reported():
    inner = {"inputs": {"x": ["B", 4], "bias": ["B", 4]}, "flow": {"out": "Linear(4, 4)"}}
    outer = {"inputs": {"y": ["B", 4], "bias": ["B", 4]}, "flow": {"part": {"graph": inner, "using": "bias"}}}
    (reported,) = flowconf.plan(outer).warnings
    assert (reported.code, reported.path) == ("FC0149", "flow.part.graph.inputs.bias")


def test_a_removed_member_may_have_been_the_user(tmp_path):
    assert codes(tmp_path, params="{width: 8, depth: 2}", stem="Linear(64, width)\n    gone: null") == []


def test_nothing_is_reported_beside_an_error(tmp_path):
    assert codes(tmp_path, params="{width: 8, depth: 2}", stem="Lineer(64, width)") == [("error", "FC0132", 6)]
