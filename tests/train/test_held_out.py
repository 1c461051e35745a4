"""Settings that require a split are refused where the data set does not have it."""

from __future__ import annotations

import numpy
import pytest

import flowconf
from flowconf.api import load
from flowconf.cli.main import main
from flowconf.report import ConfigError
from tests.train.conftest import TINY, train

PHASES = "phases: {a: {until: {stalled: {metric: val/loss, epochs: 1}}}, b: {lr: 0.1}}\n"
NEEDS = {
    "trainer.patience": "+trainer.patience=3",
    "trainer.best": "trainer.best=val/accuracy",
    "phases.a.until.stalled.metric": f"phases={PHASES.removeprefix('phases: ').strip()}",
}


def test_what_a_run_decides_by_needs_a_validation_split(folder):
    bare = TINY.replace(", best: val/accuracy", "").replace("rows: 320", "rows: 320, validation: 0")
    for path, word in NEEDS.items():
        word = word if word.startswith(("+", "phases")) else f"+{word}"
        with pytest.raises(ConfigError) as caught:
            train(load(folder.write(bare), [f"+{word}" if word.startswith("phases") else word]))
        (reported,) = caught.value.diagnostics
        assert (reported.code, reported.path) == ("FC0410", path)
        assert reported.message == f"`{path}` requires a validation split, and the data set `synthetic` has none"
        assert reported.help == f"write `validation: 0.1` in `data`, or remove `{path}`"
    assert not (folder.path / "runs").exists()
    assert folder.train(text=bare).record["status"] == "finished"


@pytest.mark.parametrize("held", ["validation: 0.25", "validation: held.npz"])
def test_check_knows_the_splits_of_small_files(folder, held):
    rows = {"image": numpy.ones((40, 8), "float32"), "label": numpy.arange(40) % 4}
    for name in ("rows", "held"):
        numpy.savez(f"{name}.npz", **rows)
    text = TINY.replace("synthetic, shape: [8], classes: 4, rows: 320", "arrays, train: rows.npz")
    file = folder.write(text)
    assert [(d.code, d.severity, d.path) for d in flowconf.check(file)] == [
        ("FC0410", "warning", "metrics"),
        ("FC0410", "error", "trainer.best"),
    ]
    assert not flowconf.check(folder.write(text.replace("train: rows.npz", f"train: rows.npz, {held}")))


def test_a_data_set_of_a_project_is_asked_for_one(folder, monkeypatch):
    from flowconf.language import registry
    from flowconf.train.data.builtin import synthetic
    from flowconf.train.data.splits import Splits

    monkeypatch.setitem(registry.datasets.registered, "mine", lambda: Splits(synthetic(shape=(8,), classes=4).train))
    text = TINY.replace("synthetic, shape: [8], classes: 4, rows: 320", "mine")
    with pytest.raises(ConfigError, match=r"give `mine` one: `flowconf.Splits\(train, validation=...\)`, or remove"):
        train(load(folder.write(text)))


def test_metrics_that_no_split_computes_are_warned_about_once(folder):
    text = TINY.replace(", best: val/accuracy", "").replace("rows: 320", "rows: 320, validation: 0, test: 0")
    folder.train(text=text)
    said = folder.said.getvalue()
    assert said.count("warning[FC0410]: `metrics` are computed on the validation and test split") == 1


def test_an_evaluation_on_other_data_does_not_need_it(folder):
    run = folder.train("+trainer.patience=5")
    assert main(["eval", str(run.folder), "--split", "test", "++data.validation=0"]) == 0


def test_a_resume_with_other_data_is_refused_and_leaves_the_run_as_it_was(folder):
    run = folder.train("+trainer.patience=5")
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    assert main(["train", "--resume", str(run.folder), "++data.validation=0", "trainer.epochs=4"]) == 2
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before
