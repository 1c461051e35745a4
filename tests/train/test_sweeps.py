"""Sweeps by Hydra: a run folder for each combination, the sweeper's direction, and runs that fail."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flowconf.cli.main import main
from flowconf.report import ConfigError, RunError
from flowconf.train.commands.sweep import sweep
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


def test_a_run_that_fails_is_told_with_its_words_and_hides_no_other(folder, capfd):
    file = folder.write(SHORT)
    with pytest.raises(RunError) as caught:
        sweep(file, ["optimizer.lr=0.1,1e38,0.01", "trainer.log_every=1"])
    words = "optimizer.lr=1e+38 trainer.log_every=1"
    assert caught.value.diagnostics[0].message == f"1 of the sweep's runs failed: `{words}`"
    assert [record["status"] for record in records(folder).values()] == ["finished", "failed", "finished"]
    told = capfd.readouterr().err
    assert "is not finite" in told
    assert f"the run with `{words}` failed" in told


def test_a_wrong_combination_is_refused_before_the_first_run(folder):
    with pytest.raises(ConfigError):
        sweep(folder.write(SHORT), ["optimizer.lr=0.1,fast"])
    assert records(folder) == {}


OPTUNA = "defaults: [_self_, {override hydra/sweeper: optuna}]\nhydra: {sweeper: {n_trials: 3, direction: maximize}}\n"


@pytest.mark.filterwarnings("ignore")
def test_optuna_looks_for_the_best_value(folder):
    pytest.importorskip("optuna")
    sweep(folder.write(OPTUNA + SHORT), ["optimizer.lr=interval(0.001,0.1)"])
    best = max(record["metrics"]["val/accuracy"] for record in records(folder).values())
    (results,) = folder.path.glob("runs/tiny/sweep_*/optimization_results.yaml")
    assert f"best_value: {best}" in results.read_text()
    assert len(records(folder)) == 3


@pytest.mark.filterwarnings("ignore")
def test_optuna_may_not_look_for_the_worst(folder):
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError) as caught:
        sweep(folder.write(OPTUNA.replace("maximize", "minimize") + SHORT), ["optimizer.lr=interval(0.001,0.1)"])
    (told,) = caught.value.diagnostics
    assert told.message == "the sweeper's direction is `minimize`, but `val/accuracy` is better when it is larger"
    assert told.help == "write `hydra.sweeper.direction=maximize`"
    assert records(folder) == {}


@pytest.mark.filterwarnings("ignore")
def test_a_failed_trial_does_not_end_the_search(folder):
    pytest.importorskip("optuna")
    with pytest.raises(RunError, match="1 of the sweep's runs failed"):
        sweep(
            folder.write(OPTUNA + SHORT),
            ["optimizer.lr=choice(0.1,1e38,0.01)", "trainer.log_every=1", "hydra/sweeper/sampler=grid"],
        )
    assert sorted(record["status"] for record in records(folder).values()) == ["failed", "finished", "finished"]


@pytest.mark.slow
def test_joblib_runs_two_at_a_time(folder):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    folder.write(SHORT)
    words = ["optimizer.lr=0.1,1e38,0.01", "trainer.log_every=1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    call = [sys.executable, "-m", "flowconf", "train", "tiny.yaml", "-m", *words]
    done = subprocess.run(call, cwd=folder.path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "1 of the sweep's runs failed: `optimizer.lr=1e+38 trainer.log_every=1`" in done.stderr
    assert sorted(record["status"] for record in records(folder).values()) == ["failed", "finished", "finished"]


def test_an_unknown_launcher_is_named(folder, capsys):
    folder.write(SHORT)
    assert main(["train", "tiny.yaml", "-m", "seed=0,1", "hydra/launcher=nowhere"]) == 2
    assert "`nowhere`" in capsys.readouterr().err
