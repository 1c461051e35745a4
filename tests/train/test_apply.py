"""What runs are for: evaluated again, applied to files, loaded from Python, listed side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

import flowconf
from flowconf.cli.main import main
from flowconf.graph.weights.sources import kept_steps, known_record
from flowconf.report import ConfigError
from flowconf.train.commands.evaluate import evaluate_run
from flowconf.train.commands.predict import Prediction
from flowconf.train.commands.train import resume
from flowconf.train.runs.finished import TrainedRun
from flowconf.train.runs.listing import list_runs
from flowconf.train.screen import Screen
from tests.train.conftest import TINY


@pytest.fixture
def run(folder):
    return folder.train("trainer.best=val/loss")


def test_an_evaluation_gives_what_the_run_gave(folder, run, capsys):
    before = sorted(run.folder.rglob("*"))
    assert evaluate_run(run.folder) == run.record["metrics"]
    assert main(["eval", str(run.folder), "--split", "test", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {name: value for name, value in run.record["metrics"].items() if name.startswith("test/")}
    assert main(["eval", "runs"]) == 2
    assert main(["eval", "runs/tiny", "--split", "train", "data.rows=200"]) == 0
    assert "train/accuracy" in capsys.readouterr().out
    assert sorted(run.folder.rglob("*")) == before


def test_a_split_that_is_not_there(folder):
    run = folder.train("+data.test=0")
    with pytest.raises(ConfigError, match="has no split `test`"):
        evaluate_run(run.folder, splits=["test"])


def test_an_evaluation_works_from_anywhere(folder, run, monkeypatch, tmp_path_factory):
    numpy.savez(folder.path / "rows.npz", image=numpy.ones((20, 8)), label=numpy.zeros(20, dtype="int64"))
    data = "{name: arrays, train: rows.npz, validation: 0.5}"
    text = (run.folder / "config.yaml").read_text()
    start = text.index("data:")
    text = text[:start] + f"data: {data}\n" + text[text.index("loss:") :]
    relative = folder.train(text=text, name="rows.yaml")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert evaluate_run(relative.folder) == relative.record["metrics"]


def test_a_run_is_loaded_with_its_best_weights(folder, run):
    graph = flowconf.load_run(run.folder)
    assert not graph.training
    for name in ("best", "last"):
        tensors = load_file(run.folder / "checkpoints" / f"{name}.safetensors")
        found = flowconf.load_run("runs/tiny", last=name == "last")
        assert torch.equal(found.state_dict()["stem.weight"], tensors["stem.weight"])


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_predictions(folder, run, ending):
    image = torch.randn(10, 8)
    save_file({"image": image, "other": torch.zeros(3)}, "in.safetensors")
    graph = flowconf.load_run(run.folder)
    output = f"out.{ending}"
    assert main(["predict", str(run.folder), "-i", "in.safetensors", "-o", output, "--batch-size", "3"]) == 0
    found = load_file(output) if ending == "safetensors" else dict(numpy.load(output))
    (values,) = found.values()
    torch.testing.assert_close(torch.as_tensor(values), graph(image).detach())
    assert Prediction(run.folder, ["hidden", "stem"]).write(Path("in.safetensors"), output) == [
        "hidden  [10, 16] float32",
        "stem  [10, 16] float32",
    ]
    found = load_file(output) if ending == "safetensors" else dict(numpy.load(output))
    assert numpy.array_equal(found["hidden"], found["stem"].clip(0))


def test_predictions_that_cannot_be_made(folder, run):
    save_file({"imag": torch.zeros(3, 8)}, "lacking.safetensors")
    save_file({"image": torch.zeros(3, 9)}, "wide.safetensors")
    for file, output, words in (
        ("lacking.safetensors", "out.npz", "there is no array for the input"),
        ("wide.safetensors", "out.npz", r"declared as \[B, 8\], but the array is \[3, 9\]"),
        ("wide.safetensors", "out.txt", "the output file must end in"),
        ("nothing.npz", "out.npz", "there is no file"),
    ):
        with pytest.raises(ConfigError, match=words):
            Prediction(run.folder).write(Path(file), output)


def test_runs_side_by_side(folder, capsys):
    folder.train("optimizer.lr=0.001")
    folder.train("optimizer.lr=0.1", "trainer.epochs=1")
    folder.train(name="other.yaml")
    (tiny, other) = list_runs("runs", "val/accuracy")[0][::-1]
    assert [run.differs for run in other.runs] == [{}]
    assert {run.differs["optimizer.lr"]: run.differs["trainer.epochs"] for run in tiny.runs} == {0.001: 2, 0.1: 1}
    accuracies = [run.metrics["val/accuracy"] for run in tiny.runs]
    assert accuracies == sorted(accuracies, reverse=True)
    capsys.readouterr()
    assert main(["runs", "--sort", "test/loss"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if "optimizer.lr" in line).split()
    assert header == [
        "run", "status", "took", "optimizer.lr", "trainer.epochs",
        "val/loss", "val/accuracy", "test/loss", "test/accuracy",
    ]  # fmt: skip
    losses = [float(line.split()[-2]) for line in lines[lines.index(next(x for x in lines if "lr" in x)) + 1 :][:2]]
    assert losses == sorted(losses)
    assert main(["runs", "runs/tiny", "--format", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["run"] for row in rows] == [f"runs/tiny/{run.name}" for run in folder.runs()]
    assert {row["folder"] for row in rows} == {str(folder.path)}


def test_runs_are_sorted_by_a_setting(folder):
    for rate in (0.1, 0.001, 0.01):
        folder.train(f"optimizer.lr={rate}", "trainer.epochs=1")
    ((group,), _) = list_runs("runs", "optimizer.lr")
    assert [run.settings["optimizer.lr"] for run in group.runs] == [0.001, 0.01, 0.1]
    ((group,), _) = list_runs("runs", "val/loss/label")
    losses = [run.record["metrics"]["val/loss/label"] for run in group.runs]
    assert losses == sorted(losses)


def test_runs_are_averaged_over_a_setting(folder, capsys):
    for rate in (0.001, 0.1):
        for seed in (0, 1):
            folder.train(f"optimizer.lr={rate}", f"seed={seed}", "trainer.steps=2")
    folder.train("optimizer.lr=0.1", "seed=1", "trainer.steps=2")  # the same once more: the newest counts
    ((one,), _), ((group,), _) = list_runs("runs", "val/loss", over="seed"), list_runs("runs")
    assert [len(run.averaged) for run in one.runs] == [2, 2]
    assert one.runs[0].metrics["val/loss"] <= one.runs[1].metrics["val/loss"]
    for run in one.runs:
        values = [each.metrics["val/loss"] for each in group.runs if each.folder in run.averaged]
        assert run.metrics["val/loss"] == pytest.approx(sum(values) / 2)
        assert run.deviations["val/loss"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    capsys.readouterr()
    assert main(["runs", "--over", "seed"]) == 0
    _, header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["runs", "optimizer.lr", "val/loss", "val/accuracy", "test/loss", "test/accuracy"]
    assert [row.split()[:2] for row in rows] == [["2", "0.001"], ["2", "0.1"]]
    assert all(row.count(" ± 0.") == 4 for row in rows)
    assert main(["runs", "--over", "seed", "--format", "json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["runs"]) for line in lines] == [2, 2]
    assert [line["deviations"].keys() for line in lines] == [line["metrics"].keys() for line in lines]
    assert main(["runs", "--over", "sed"]) == 2
    assert "write `seed`" in capsys.readouterr().err


def test_runs_that_meet_conditions(folder, capsys):
    folder.train("optimizer.lr=0.001")
    other = folder.train("optimizer.lr=0.1", "trainer.epochs=1")

    def found(*conditions):
        return [run.folder.name for group in list_runs("runs", where=conditions)[0] for run in group.runs]

    assert len(found("status=finished", "config=tiny")) == 2
    assert found("optimizer.lr=0.1") == found("trainer.epochs=1", "status=finished") == [other.folder.name]
    assert found("optimizer.lr=0.1", "trainer.epochs=2") == []
    for condition, advice in (
        ("statu=failed", "write `status`"),
        ("failed", None),
        ("val/acuracy>0.1", "write `val/accuracy`"),
        ("val/accuracy>high", None),
    ):
        with pytest.raises(ConfigError) as caught:
            found(condition)
        (reported,) = caught.value.diagnostics
        assert (reported.place.word, reported.help) == (f"--where {condition}", advice)
    values = {run.folder.name: run.metrics["val/loss"] for group in list_runs("runs")[0] for run in group.runs}
    least, most = sorted(values.values())
    assert found(f"val/loss<{most}") == found(f"val/loss <= {least}") == [min(values, key=values.get)]
    assert found(f"val/loss>{least}") == [max(values, key=values.get)]
    assert found("trainer.epochs>=2") == found("optimizer.lr!=0.1") == [folder.runs()[0].name]
    assert found("optimizer.name>1") == found("val/loss<0") == []
    assert len(found("val/loss/label<100")) == 2
    capsys.readouterr()
    assert main(["runs", "--where", "status=failed"]) == 0
    assert capsys.readouterr().out == "no runs in runs with status=failed\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is not valid JSON"),
        ("\0", "it is not valid JSON"),
        ("[" * 100_000, "it is not valid JSON"),
        ("[1]", "it is not a mapping"),
        ("{}", "it has no valid `config`"),
        ('{"config": "a", "status": "finished", "metrics": 3}', "it has no valid `metrics`"),
        ('{"config": "a", "status": "b", "metrics": {"val/loss": "x"}}', "`metrics.val/loss` is not a number"),
        (
            '{"config": "a", "status": "b", "metrics": {}, "ended": "2026-01-01"}',
            "`ended` is not a time with a time zone",
        ),
        (None, "it is not a regular file"),
    ],
)
def test_a_record_that_no_run_wrote_is_reported_and_the_others_are_listed(folder, run, capsys, text, words):
    broken = run.folder.parent / "broken"
    broken.mkdir()
    (broken / "run.json").mkdir() if text is None else folder.write(text, "runs/tiny/broken/run.json")
    capsys.readouterr()
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    assert run.folder.name in out
    assert "broken" not in out
    assert err.splitlines() == [
        f"warning[FC0702]: a run is not listed, because its record cannot be read: {words}",
        " --> runs/tiny/broken/run.json",
        "",
    ]


def test_runs_that_cannot_be_listed(folder, run):
    with pytest.raises(ConfigError, match="does not exist"):
        list_runs("nowhere")
    with pytest.raises(ConfigError, match="no run has the setting or value `val/acuracy`"):
        list_runs("runs", "val/acuracy")
    (run.folder / "config.yaml").unlink()
    ((group,), (warning,)) = list_runs("runs")
    assert group.runs[0].settings == {}
    assert warning.severity == "warning"
    assert warning.place.file == str(run.folder / "config.yaml")
    with pytest.raises(ConfigError, match="expected a folder, but"):
        list_runs(run.folder / "run.json")


def test_a_run_is_not_tested_if_the_config_says_so(folder, capsys):
    run = folder.train("trainer.test=false")
    assert {name.partition("/")[0] for name in run.record["metrics"]} == {"val"}
    assert "test/" not in folder.said.getvalue()
    for words, splits in (([], {"val"}), (["--split", "test"], {"test"}), (["trainer.test=true"], {"val", "test"})):
        capsys.readouterr()
        assert main(["eval", str(run.folder), "--format", "json", *words]) == 0
        assert {name.partition("/")[0] for name in json.loads(capsys.readouterr().out)} == splits
    assert set(TrainedRun(run.folder).evaluate()) == set(run.record["metrics"])


def test_a_test_that_was_not_made_is_made_later(folder):
    run = folder.train("trainer.test=false")
    resume(str(run.folder), ["trainer.test=true"], Screen(folder.said))
    assert folder.run(run.folder).record["metrics"]["test/loss"] == folder.train().record["metrics"]["test/loss"]


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        ("data.test=0.0", "has no validation split, and no test split: choose a split: `--split train`"),
        ("trainer.test=false", "has no validation split, and `trainer.test` is false: choose a split: `--split test`"),
    ],
)
def test_a_run_without_a_split_to_evaluate(folder, capsys, words, reported):
    run = folder.train("data.validation=0.0", words, text=TINY.replace(", best: val/accuracy", ""))
    assert main(["eval", str(run.folder), "--format", "json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert reported.partition(": choose")[0] in err
    assert reported.partition(": ")[2] in err


def test_the_newest_run_of_a_folder_has_the_weights(folder, capsys):
    folder.train("seed=1", "trainer.epochs=1")
    newest = folder.train("trainer.epochs=1")
    assert main(["weights", "runs/tiny"]) == 0
    assert newest.folder.name in capsys.readouterr().out
    started = folder.train("init_from=runs/tiny", "trainer.epochs=1")
    assert newest.folder.name in (started.folder / "weights.txt").read_text()


def test_a_newer_run_without_weights_is_skipped(folder, capsys):
    old = folder.train("trainer.epochs=1", "trainer.keep.every=2")
    kept = kept_steps(old.folder)[0]
    new = folder.train("trainer.epochs=1")
    assert main(["train", "tiny.yaml", "trainer.epochs=1", f"init_from={{path: runs/tiny, step: {kept}}}"]) == 0
    assert f"(finished): it has no weights of step {kept}" in capsys.readouterr().out
    failed = folder.path / "runs" / "tiny" / "9999-01-01_00-00-00"
    failed.mkdir()
    (failed / "run.json").write_text(
        json.dumps({**known_record(new.folder), "status": "failed", "started": "9999-01-01T00:00:00+00:00"})
    )
    (failed / "config.yaml").write_text((new.folder / "config.yaml").read_text())
    assert main(["weights", "runs/tiny"]) == 0
    assert f"{failed.name} (failed): it has no weights" in capsys.readouterr().err
    assert main(["train", "tiny.yaml", "trainer.epochs=1", "init_from=runs/tiny"]) == 0
    out = capsys.readouterr().out
    assert f"  skipped the newer run runs/tiny/{failed.name} (failed): it has no weights" in out
    assert main(["eject", "runs/tiny", "-o", "tiny.py"]) == 2  # its config is not that of an older run's weights
    assert "has no weights" in capsys.readouterr().err
