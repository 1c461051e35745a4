"""The first step without numbers says what the first step with numbers does: shapes, types, and what is trained."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file

import flowconf
from flowconf.api import load
from flowconf.graph.build import build_graph
from flowconf.graph.shapes.check import rehearse
from flowconf.graph.shapes.fake_values import faked
from flowconf.graph.shapes.sizes import Sizes
from flowconf.language import references, registry
from flowconf.report import ConfigError, Reporter
from flowconf.train.checks.first_step import first_step, measured
from flowconf.train.data.declarations import DataSet
from flowconf.train.objective.routing import reached

CONFIGS = Path(__file__).parent.parent.parent / "configs"

VERBS = """
inputs: {x: [B, 6], words: [B, 5, 6]}
flow:
  twice:
    loop: {flow: {a: "Linear(6, 6)", b: Tanh}}
    times: 3
  deep:
    loop:
      flow:
        inner: {loop: {flow: {c: "Linear(6, 6)"}}, times: 2}
    times: 4
  halted: {loop: {flow: {d: "Linear(6, 6)"}}, until: ThresholdHalt(-9), max: 5}
  each:
    from: words
    map: {flow: {e: "Linear(6, 4)"}}
    over: words
  folded:
    from: words
    map: {flow: {f: "Linear(6, 4)"}}
    over: words
    batched: true
  last:
    from: words
    map: {flow: {g: "Linear(5, 4)"}}
    over: words
    dim: 2
  series: {from: x, graph: {flow: {h: "Linear(6, 6)"}}, repeat: 3}
  both: {split: {one: "Linear(6, 2)", two: {flow: {i: "Linear(6, 3)", j: GELU}}}, merge: cat, dim: 1}
  read: {from: words, through: "GRU(6, 7, batch_first=true)", take: 0}
outputs: {out: both}
"""
SEEN = [
    "twice", "twice.a", "twice.b", "twice.a[0]", "twice.b[-1]", "deep", "deep.inner", "deep.inner.c", "deep.inner.c[1]",
    "halted", "each", "each.e", "each.e[2]", "folded", "folded.f", "last", "last.g", "series", "series.h",
    "series.h[0]", "both", "both.one", "both.two", "both.two.i", "read", "x", "words",
]  # fmt: skip


def test_values_have_the_shapes_that_a_loss_gets(tmp_path):
    file = tmp_path / "verbs.yaml"
    file.write_text(VERBS)
    graph = flowconf.build(flowconf.plan(str(file)))
    real = graph.view(SEEN)(torch.zeros(2, 6), torch.zeros(2, 5, 6))
    sizes = Sizes(known={"B": 2})
    with faked(grad=True):
        found = rehearse(graph.plan, {}, sizes)
        assert not found.inference.reporter.diagnostics
        fake = {name: found.value(references.find_anywhere(graph.plan, name)) for name in SEEN}
    assert {name: list(value.shape) for name, value in fake.items()} == {
        name: list(value.shape) for name, value in real.items()
    }


DATA = [
    ("digits", {}),
    ("digits", {"flat": False}),
    ("synthetic", {"shape": [3, 5], "classes": 7, "rows": 40}),
    ("arrays", {"train": "some.npz"}),
    ("arrays", {"train": "some.safetensors"}),
    ("text", {"file": "some.txt", "length": 4}),
    ("text", {"file": "some.txt", "length": 4, "tokens": "bytes"}),
    ("fbrl_letters", {"images": 30, "size": [32, 40]}),
    ("fbrl_words", {"images": 30}),
]


@pytest.mark.usefixtures("flagship")
@pytest.mark.parametrize(("name", "args"), DATA, ids=str)
def test_a_data_set_declares_what_it_makes(name, args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = {"x": numpy.ones((9, 2, 3)), "y": numpy.arange(9, dtype=numpy.int64)}
    numpy.savez("some.npz", **arrays)
    save_file({key: torch.tensor(value) for key, value in arrays.items()}, "some.safetensors")
    Path("some.txt").write_text("the quick brown fox jumps over the lazy dog " * 3)
    factory = registry.datasets.load(name)
    known = DataSet(name, args).declared()
    made = factory(**args, **({"seed": 0} if name.startswith("fbrl") else {}))
    assert {key: (tuple(shape), dtype) for key, (shape, dtype, *_) in known.items()} == dict(made.train.fields)
    batch = made.train.batch(torch.arange(len(made.train)), torch.Generator())
    for key, (_, _, *classes) in known.items():
        assert all(int(batch[key].max()) < count for count in classes)


def test_arguments_that_a_data_set_refuses_declare_nothing(tmp_path):
    assert DataSet("arrays", {"train": str(tmp_path / "none.npz")}).declared() == {}
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip")
    assert DataSet("arrays", {"train": str(tmp_path / "bad.npz")}).declared() == {}
    with pytest.raises(ConfigError, match="has no file"):  # with a place, before the data set is made
        DataSet("idx", {"folder": str(tmp_path)}).declared()


@pytest.mark.parametrize("name", ["digits", "fbrl_letter", "fbrl_word"])
def test_what_a_term_trains_is_what_its_gradient_reaches(name):
    config = load(str(CONFIGS / f"{name}.yaml"))
    reach = measured(first_step(config), Reporter())
    assert reach.certain
    graph = build_graph(config.model)
    named = {parameter: key for key, parameter in graph.named_parameters()}
    for parameter in graph.parameters():
        parameter.requires_grad_(True)
    given = {
        entry.name: torch.rand([2 if isinstance(size, str) else size for size in entry.shape])
        for entry in config.model.inputs
    }
    for term, section in config.training.loss.items():
        inputs = [section.input] if isinstance(section.input, str) else section.input
        values = graph.view(inputs)(**given)
        moved = {named[parameter] for value in values.values() for parameter in reached(value)}
        assert reach.terms[term] == moved, term


def test_what_looks_at_numbers_leaves_the_reach_open(tmp_path, monkeypatch):
    class Dependent(torch.nn.Module):
        def forward(self, x):
            return x * 2 if x.sum().item() > 0 else x

    monkeypatch.setitem(registry.modules.registered, "Dependent", Dependent)
    file = tmp_path / "digits.yaml"
    file.write_text((CONFIGS / "digits.yaml").read_text().replace("hidden: GELU", "hidden: Dependent"))
    assert flowconf.check(str(file)) == []
    assert not measured(first_step(load(str(file))), Reporter()).certain


def test_a_registered_loss_is_tried_with_numbers(tmp_path, monkeypatch):
    def halves(values):
        if float(values.sum()) > 1e9:
            raise RuntimeError("never")
        if values.shape[-1] % 2:
            raise ValueError("an odd number of values")
        return values.mean(-1)

    monkeypatch.setitem(registry.losses.registered, "halves", halves)
    text = (CONFIGS / "digits.yaml").read_text()
    file = tmp_path / "digits.yaml"
    file.write_text(
        text.replace("label: {fn: cross_entropy, input: logits, target: label}", "half: {fn: halves, input: logits}")
    )
    assert not [d for d in flowconf.check(str(file)) if d.severity == "error"]
    numpy.savez(tmp_path / "odd.npz", image=numpy.zeros((4, 63), "float32"), label=numpy.zeros(4, "int64"))
    odd = [
        "loss.half.input=image", "data.name=arrays", f"+data.train={tmp_path}/odd.npz",
        "model.inputs.image=[B, 63]", "model.flow.stem='Linear(63, width)'",
    ]  # fmt: skip
    (reported,) = [d for d in flowconf.check(str(file), odd) if d.code == "FC0406"]
    assert reported.severity == "error"
    assert any("an odd number of values" in label.message for label in reported.labels)


def gives_nothing(values, target):
    return None


def looks_for_a_key(values, target):
    return {}["speaker"]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (gives_nothing, "says: it must return a tensor, got `None`"),
        (looks_for_a_key, "says: KeyError: 'speaker'"),
    ],
)
@pytest.mark.parametrize(("section", "table"), [("loss", registry.losses), ("metrics", registry.metrics)])
def test_a_function_of_the_project_that_fails_is_marked_by_its_name(
    tmp_path, monkeypatch, function, words, section, table
):
    monkeypatch.setitem(table.registered, "mine", function)
    file = tmp_path / "digits.yaml"
    old = "fn: cross_entropy" if section == "loss" else "fn: accuracy"
    file.write_text((CONFIGS / "digits.yaml").read_text().replace(old, "fn: mine"))
    (reported,) = flowconf.check(str(file))
    line = file.read_text().splitlines()[reported.place.line - 1]
    assert (reported.code, line[reported.place.column - 1 :][: reported.place.length]) == ("FC0406", "mine")
    assert any(words in label.message for label in reported.labels)
