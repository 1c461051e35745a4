"""Sweeps by Hydra: a run folder for each combination, the sweeper's direction, and runs that fail."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from flowconf.cli.main import main
from flowconf.report import ConfigError, RunError
from flowconf.train.commands.sweep import SweepRun, sweep, table
from flowconf.train.prepare import prepare
from flowconf.train.screen import Screen
from tests.train.conftest import TINY

SHORT = TINY.replace("epochs: 2", "epochs: 1")


def records(folder):
    found = [json.loads(file.read_text()) for file in sorted(folder.path.glob("runs/tiny/*/run.json"))]
    return {" ".join(record["overrides"]): record for record in found}


def test_every_combination_is_a_run_of_its_own(folder):
    sweep(folder.write(SHORT), ["optimizer.lr=0.01,0.1", "seed=0,1"])
    found = records(folder)
    assert list(found) == [f"optimizer.lr={lr} seed={seed}" for lr in ("0.01", "0.1") for seed in (0, 1)]
    assert {record["status"] for record in found.values()} == {"finished"}


def test_a_run_that_fails_is_reported_with_its_words_and_hides_no_other(folder, capfd):
    file = folder.write(SHORT)
    with pytest.raises(RunError) as caught:
        sweep(file, ["optimizer.lr=0.1,1e38,0.01", "trainer.log_every=1"])
    words = "optimizer.lr=1e+38 trainer.log_every=1"
    assert caught.value.diagnostics[0].message == f"1 of the sweep's runs failed: `{words}`"
    assert [record["status"] for record in records(folder).values()] == ["finished", "failed", "finished"]
    reported = capfd.readouterr().err
    assert "is not finite" in reported
    assert f"the run with `{words}` failed" in reported


def reported(out):
    """The lines that begin a run, and the table at the end, with places for values and folders."""
    first = [line for line in out.splitlines() if re.match(r"run \d+( of \d+)?: ", line)]
    rows = out[out.rindex("\n\n") + 2 :]
    rows = re.sub(r"runs/tiny/(sweep_)?[\d_-]+", "RUN", re.sub(r"\b\d\.\d{4}\b", "N", rows))
    return first, [" ".join(line.split()) for line in rows.splitlines()]


def test_each_run_is_announced_and_a_table_ends_the_sweep(folder, capsys):
    folder.write(SHORT)
    words = ["optimizer.lr=0.1,1e38,0.01", "seed=0", "trainer.log_every=1"]
    assert main(["train", "tiny.yaml", "-m", *words]) == 1
    first, rows = reported(capsys.readouterr().out)
    assert first == [
        "run 1 of 3: optimizer.lr=0.1",
        "run 2 of 3: optimizer.lr=1e+38",
        "run 3 of 3: optimizer.lr=0.01",
    ]
    values = [record["metrics"].get("val/accuracy", -1) for record in records(folder).values()]
    best = values.index(max(values))
    expected = [
        "3 runs, 1 failed:",
        "run overrides status val/accuracy folder",
        "1 optimizer.lr=0.1 finished N RUN",
        "2 optimizer.lr=1e+38 failed - RUN",
        "3 optimizer.lr=0.01 finished N RUN",
    ]
    expected[2 + best] = expected[2 + best].replace(" N ", " N (best) ")
    assert rows == expected


def test_an_interrupted_sweep_lists_what_was_run_and_what_was_not(folder, capsys, monkeypatch):
    folder.write(TINY)
    step = Screen.step
    second = []

    def interrupt(self, number):
        second.append(number)
        if len(second) == 20:
            signal.raise_signal(signal.SIGINT)
        step(self, number)

    monkeypatch.setattr(Screen, "step", interrupt)
    assert main(["train", "tiny.yaml", "-m", "seed=0,1,2,3"]) == 130
    first, rows = reported(capsys.readouterr().out)
    assert first == ["run 1 of 4: seed=0", "run 2 of 4: seed=1"]
    assert rows == [
        "2 runs, 1 interrupted:",
        "run overrides status val/accuracy folder",
        "1 seed=0 finished N (best) RUN",
        "2 seed=1 interrupted - RUN",
        "- seed=2 not started - -",
        "- seed=3 not started - -",
        "to resume the sweep: flowconf train --resume RUN",
    ]
    assert [record["status"] for record in records(folder).values()] == ["finished", "interrupted"]


def test_a_run_that_fails_before_it_has_a_folder_is_listed(folder, capsys, monkeypatch):
    folder.write(SHORT)

    def fails_once(config, *args, **more):
        if config.training.seed == 0:
            raise ValueError("no data today")
        return prepare(config, *args, **more)

    monkeypatch.setattr("flowconf.train.commands.train.prepare", fails_once)
    assert main(["train", "tiny.yaml", "-m", "seed=0,1"]) == 1
    out, err = capsys.readouterr()
    assert "ValueError: no data today" in err
    assert reported(out)[1][2:] == ["1 seed=0 failed - -", "2 seed=1 finished N (best) RUN"]


def test_the_best_of_a_table():
    def row(number, status="finished", best="val/loss", mode="min"):
        return SweepRun(number, [f"seed={number}"], best, mode, None, status)

    assert table([row(1, "failed")])[1:] == [
        "1 run, 1 failed:",
        "run  overrides  status  val/loss  folder",
        "1    seed=1     failed  -         -",
    ]
    assert table([row(1, "failed"), row(2, "failed", best="val/accuracy")])[2].split()[3:6] == [
        "val/loss", "or", "val/accuracy",
    ]  # fmt: skip


def test_a_config_that_is_swept_with_batches_of_jobs_knows_their_number(folder, capsys):
    folder.write(SHORT)
    assert main(["train", "tiny.yaml", "-m", "seed=0,1,2", "hydra.sweeper.max_batch_size=2"]) == 0
    first, rows = reported(capsys.readouterr().out)
    assert [line.partition(":")[0] for line in first] == ["run 1 of 3", "run 2 of 3", "run 3 of 3"]
    assert len(rows) == 5


def test_a_sweep_whose_words_are_in_the_config(folder, capsys):
    folder.write("hydra: {sweeper: {params: {seed: '4,5'}}}\n" + SHORT)
    assert main(["train", "tiny.yaml", "-m", "trainer.log_every=5"]) == 0
    assert reported(capsys.readouterr().out)[0] == ["run 1 of 2: seed=4", "run 2 of 2: seed=5"]


def test_a_wrong_combination_is_refused_before_the_first_run(folder):
    with pytest.raises(ConfigError):
        sweep(folder.write(SHORT), ["optimizer.lr=0.1,fast"])
    assert records(folder) == {}


OPTUNA = "defaults: [_self_, {override hydra/sweeper: optuna}]\nhydra: {sweeper: {n_trials: 3, direction: maximize}}\n"


@pytest.mark.filterwarnings("ignore")
def test_optuna_looks_for_the_best_value(folder, capsys):
    pytest.importorskip("optuna")
    sweep(folder.write(OPTUNA + SHORT), ["optimizer.lr=interval(0.001,0.1)"])
    best = max(record["metrics"]["val/accuracy"] for record in records(folder).values())
    (results,) = folder.path.glob("runs/tiny/sweep_*/optimization_results.yaml")
    assert f"best_value: {best}" in results.read_text()
    assert len(records(folder)) == 3
    first, rows = reported(capsys.readouterr().out)
    assert [line.partition(":")[0] for line in first] == ["run 1 of 3", "run 2 of 3", "run 3 of 3"]
    assert sum("(best)" in row for row in rows) == 1


@pytest.mark.filterwarnings("ignore")
def test_optuna_may_not_look_for_the_worst(folder):
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError) as caught:
        sweep(folder.write(OPTUNA.replace("maximize", "minimize") + SHORT), ["optimizer.lr=interval(0.001,0.1)"])
    (reported,) = caught.value.diagnostics
    assert reported.message == "the sweeper's direction is `minimize`, but `val/accuracy` is better when it is larger"
    assert reported.help == "write `hydra.sweeper.direction=maximize`"
    assert records(folder) == {}
    with pytest.raises(ConfigError) as caught:
        sweep(folder.write(OPTUNA + SHORT), ["optimizer.lr=interval(0.001,0.1)", "trainer.best=last"])
    (reported,) = caught.value.diagnostics
    assert (
        reported.message == "a sweeper that optimises compares values, and `trainer.best` is `last`, which is no value"
    )
    assert str(reported.place) == "command line, `trainer.best=last`"


@pytest.mark.filterwarnings("ignore")
def test_a_failed_trial_does_not_end_the_search(folder, capsys):
    pytest.importorskip("optuna")
    with pytest.raises(RunError, match="1 of the sweep's runs failed"):
        sweep(
            folder.write(OPTUNA + SHORT),
            ["optimizer.lr=choice(0.1,1e38,0.01)", "trainer.log_every=1", "hydra/sweeper/sampler=grid"],
        )
    assert sorted(record["status"] for record in records(folder).values()) == ["failed", "finished", "finished"]
    assert reported(capsys.readouterr().out)[1][0] == "3 runs, 1 failed:"


@pytest.mark.slow
def test_joblib_runs_two_at_a_time(folder):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    folder.write(SHORT)
    words = ["optimizer.lr=0.1,1e38,0.01", "trainer.log_every=1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    call = [sys.executable, "-m", "flowconf", "train", "tiny.yaml", "-m", *words]
    done = subprocess.run(call, cwd=folder.path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "1 of the sweep's runs failed: `optimizer.lr=1e+38 trainer.log_every=1`" in done.stderr
    first, rows = reported(done.stdout)
    assert sorted(line.partition(":")[0] for line in first) == ["run 1 of 3", "run 2 of 3", "run 3 of 3"]
    assert [row.split()[2] for row in rows[2:]] == ["finished", "failed", "finished"]
    assert sorted(record["status"] for record in records(folder).values()) == ["failed", "finished", "finished"]


def test_an_unknown_launcher_is_named(folder, capsys):
    folder.write(SHORT)
    assert main(["train", "tiny.yaml", "-m", "seed=0,1", "hydra/launcher=nowhere"]) == 2
    assert "`nowhere`" in capsys.readouterr().err
