"""Training from Python: `flowconf.train`, `flowconf.data`, and what they give."""

from __future__ import annotations

import pytest
import torch

import flowconf
from flowconf.cli.main import main
from tests.train.conftest import TINY


@pytest.fixture
def run(folder):
    return flowconf.train(folder.write(), ["trainer.epochs=1"])


def test_a_run_has_its_folder_metrics_history_and_graph(folder, run):
    assert run.folder == folder.runs()[0]
    assert run.metrics == folder.run(run.folder).record["metrics"]
    assert run.history == folder.run(run.folder).log
    assert run.graph.inputs == ("image",)
    assert not run.graph.training
    again = flowconf.open_run("runs/tiny")
    assert (again.folder, again.metrics) == (run.folder, run.metrics)
    with pytest.raises(flowconf.ConfigError, match="not a run folder"):
        flowconf.open_run("runs/other")


def test_it_is_the_run_that_the_command_makes(folder, run):
    assert main(["train", folder.write(), "trainer.epochs=1"]) == 0
    first, second = folder.runs()
    assert folder.run(first).record["metrics"] == folder.run(second).record["metrics"]


def test_evaluate_gives_what_training_gave(run):
    assert run.evaluate() == pytest.approx(run.metrics)
    assert run.evaluate("test")["test/accuracy"] == pytest.approx(run.metrics["test/accuracy"])
    assert set(run.evaluate("train")) == {"train/loss", "train/loss/label", "train/accuracy"}
    with pytest.raises(flowconf.ConfigError, match="has no split `tset`"):
        run.evaluate("tset")


def test_predict_takes_inputs_or_a_split(folder, run):
    images = torch.cat([batch["image"] for batch in flowconf.data(folder.write()).test])
    expected = run.graph(images)
    assert torch.allclose(run.predict({"image": images})["logits"], expected)
    assert torch.allclose(run.predict("test")["logits"], expected)
    assert list(run.predict("val", ["stem"], batch_size=7)) == ["stem"]
    with pytest.raises(flowconf.ConfigError, match="has no split `valid`"):
        run.predict("valid")
    with pytest.raises(flowconf.ConfigError, match="no array for the input `image`") as refused:
        run.predict({"picture": images})
    assert refused.value.diagnostics[0].help == "rename `picture` to `image`"
    with pytest.raises(flowconf.ConfigError, match="is declared as"):
        run.predict({"image": images[:, :3]})
    with pytest.raises(flowconf.PathError):
        run.predict("test", ["lgits"])


@pytest.mark.parametrize("words", [[], ["data.drop_last=true", "data.batch_size=50"]])
def test_data_gives_the_batches_of_a_run(folder, monkeypatch, words):
    from flowconf.train.data.feed import Feed

    file, seen, batch = folder.write(), [], Feed.batch

    def noted(feed, rows, number, part=0):
        found = batch(feed, rows, number, part)
        if feed.use == "train" and len(rows) > 2:
            seen.append(found)
        return found

    monkeypatch.setattr(Feed, "batch", noted)
    flowconf.train(file, ["trainer.epochs=1", *words])
    monkeypatch.undo()
    given = list(flowconf.data(file, words).train)
    assert len(given) == len(flowconf.data(file, words).train) == len(seen)
    for one, other in zip(given, seen, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])


def test_data_has_every_split_and_begins_anew(folder):
    data = flowconf.data(folder.write())
    assert data.val.rows == sum(len(batch["label"]) for batch in data.val)
    assert [len(batch["label"]) for batch in data.train] == [len(batch["label"]) for batch in data.train]
    assert "train: " in repr(data)
    assert flowconf.data(folder.write(), ["data.batch_size=7"]).train.batch_size == 7


def test_mistakes_are_those_of_the_command(folder, capsys):
    file = folder.write(TINY.replace("Linear(16, 4)", "Linear(15, 4)"))
    assert main(["train", file]) == 2
    said = capsys.readouterr().err
    for call in (flowconf.train, flowconf.data):
        with pytest.raises(flowconf.ConfigError) as refused:
            call(file)
        assert refused.value.diagnostics[0].message in said
    assert not (folder.path / "runs").exists()


def test_notebooks_show_escaped_tables(folder):
    run = flowconf.train(folder.write(name="a<b>.yaml"), ["trainer.epochs=1"])
    shown = run._repr_html_()
    assert "<td" in shown
    assert "a&lt;b&gt;.yaml" in shown
    assert "<b>" not in shown
    assert "Linear(8, 16)" in run.graph.summary()._repr_html_()
    assert run.graph.summary() == list(run.graph.summary())
