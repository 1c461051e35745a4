"""What Python passes to the public functions: lists of texts, graphs, tensors by name, classes to register."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import flowconf
from flowconf.cli.main import main
from flowconf.report import texts
from flowconf.train.commands.predict import joined
from tests.train.conftest import Folder

GRAPH = {"inputs": {"x": ["B", 4]}, "flow": {"stem": {"graph": {"inputs": {"z": ["B", 4]}, "flow": {"a": "ReLU"}}}}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.path)
        file = folder.write()
        (folder.path / "rows.jsonl").write_text(
            "\n".join(json.dumps({"x": [float(n)] * 8, "y": n % 4}) for n in range(40))
        )
        yield flowconf.train(file, ["trainer.epochs=1"]), file


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("trainer.epochs=1", '["trainer.epochs=1"]'),
        ({"trainer.epochs": 1, "trainer.clip": None}, '["trainer.epochs=1", "trainer.clip=null"]'),
        ([3], None),
        (3, None),
    ],
)
def test_other_than_a_list_of_texts_is_refused_with_the_list(given, written):
    with pytest.raises(flowconf.ConfigError, match="`overrides` must be a list of strings") as caught:
        texts(given, "overrides")
    assert caught.value.diagnostics[0].help == (None if written is None else f"write `{written}`")


def test_lists_and_iterators_of_texts_are_taken():
    assert texts(("a=1", "b=2"), "overrides") == texts(iter(["a=1", "b=2"]), "overrides") == ["a=1", "b=2"]


def test_every_function_refuses_a_text_for_a_list(run):
    trained, file = run
    calls = {
        "overrides": [
            *(lambda one=one: one(file, "seed=1") for one in (flowconf.train, flowconf.load, flowconf.compose)),
            *(lambda one=one: one(file, "seed=1") for one in (flowconf.plan, flowconf.build)),
            lambda: flowconf.data(file, "seed=1"),
            lambda: flowconf.evaluate(trained.folder, ["test"], "seed=1"),
            lambda: flowconf.predict(trained.folder, "test", (), "seed=1"),
        ],
        "splits": [lambda: flowconf.evaluate(trained.folder, "test"), lambda: trained.evaluate(["test"])],
        "references": [
            lambda: trained.predict("test", "logits"),
            lambda: trained.graph.view("logits"),
            lambda: trained.graph.observe(["logits"]).__enter__(),
        ],
        "fields": [lambda: trained.predict("test", fields="label")],
        "paths": [lambda: flowconf.provides("x", paths="file")],
        "without": [lambda: flowconf.offer(losses="torch.nn.functional", without="Lazy*")],
        "losses": [lambda: flowconf.offer(losses={"torch": 1})],
    }
    for name, refused in calls.items():
        for call in refused:
            with pytest.raises(flowconf.ConfigError, match=f"`{name}` must be a list of strings"):
                call()
    assert [found.code for found in flowconf.check(file, "seed=1")] == ["FC0123"]


def test_a_dict_is_a_graph_and_takes_no_overrides(run):
    with pytest.raises(flowconf.ConfigError, match="`overrides` apply only to a file, got a `dict`"):
        flowconf.build(GRAPH, ["seed=1"])
    with pytest.raises(flowconf.ConfigError, match="expected the file of a training config, got a `dict`"):
        flowconf.train({"model": GRAPH})
    with pytest.raises(flowconf.ConfigError, match="expected a file, the dict of a graph document, or a plan"):
        flowconf.build(["a.yaml"])
    with pytest.raises(flowconf.ConfigError, match="pass what is under `model`, or the file of the config"):
        flowconf.build({"model": GRAPH, "seed": 0})


def test_predict_names_what_it_requires(run):
    trained, _ = run
    rows = torch.zeros(2, *(size for size in trained.graph.plan.inputs[0].shape[1:]))
    with pytest.raises(flowconf.ConfigError, match=r'expected tensors by the names(.|\n)*write `\{"image": ...\}`'):
        trained.predict(rows)
    with pytest.raises(flowconf.ConfigError, match="must be a tensor, got a `ndarray`"):
        trained.predict({"image": rows.numpy()})


def test_files_of_rows_are_given_beside_tensors():
    parts = [{"file": ["a.csv", "a.csv"], "y": torch.ones(2, 1)}, {"file": ["b.csv"], "y": torch.zeros(1, 1)}]
    found = joined(parts)
    assert found["file"] == ["a.csv", "a.csv", "b.csv"]
    assert found["y"].tolist() == [[1], [1], [0]]


@pytest.mark.parametrize("other", ["Linear(8, 5)", nn.Linear(8, 5)])
def test_only_a_graph_can_be_swapped_in(other):
    with pytest.raises(flowconf.ConfigError, match="`stem` can only be swapped for a graph, got"):
        flowconf.build(GRAPH).swap("stem", other)


@pytest.mark.parametrize("item", [3, "name", torch.zeros(1)])
def test_only_classes_and_functions_are_registered(item):
    for register in (flowconf.register, flowconf.register_loss, flowconf.register_dataset):
        with pytest.raises(flowconf.ConfigError, match="only a class or a function can be registered"):
            register(item)


def test_help_about_weights_is_written_as_the_caller_writes_it(tmp_path):
    source = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"head": "Linear(4, 2)"}})
    source.save(tmp_path / "whole.safetensors")
    target = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"other": "Linear(4, 2)", "wide": "Linear(2, 4)"}})
    with pytest.raises(flowconf.ConfigError, match='add `source_at="head"`'):
        target.load(tmp_path / "whole.safetensors", at="other")
    assert str(target.load(tmp_path / "whole.safetensors", at="other", source_at="head")).count("2 tensors loaded") == 1
    with pytest.raises(flowconf.ConfigError, match='write `mismatched="ignore"`'):
        target.load(tmp_path / "whole.safetensors", at="wide", source_at="head")
    document = f"flow: {{other: {{through: 'Linear(4, 2)', checkpoint: {{path: {tmp_path}/whole.safetensors}}}}}}"
    (tmp_path / "graph.yaml").write_text(f"inputs: {{x: [B, 4]}}\n{document}\n")
    with pytest.raises(flowconf.ConfigError, match="add `at: head`"):
        flowconf.build(tmp_path / "graph.yaml")


def test_weights_of_a_run_with_other_sizes_begin_a_new_run(run, capsys):
    trained, _ = run
    for command in (["train", "--resume"], ["eval"]):
        assert main([*command, str(trained.folder), "model.flow.logits=Linear(16, 5)"]) != 0
        said = capsys.readouterr().err
        assert "FC0305" in said
        assert "mismatched" not in said
        assert "`init_from=" in said
        assert "logits=Linear(16, 5)" in said.split("help")[0]
