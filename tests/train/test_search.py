"""Searches by Optuna, and sweeps that go on: what is trained again, what is pruned, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowconf.cli.main import main
from flowconf.report import ConfigError, FlowconfError, MachineError, RunError
from flowconf.train.commands.sweep import resume_sweep, sweep
from flowconf.train.runs.listing import list_runs
from flowconf.train.runs.listing import table as listed
from flowconf.train.runs.sweeps import SweepRun, alone, read_runs
from flowconf.train.screen import Screen
from tests.train.conftest import TINY

pytest.importorskip("optuna")

SEARCH = f"""{TINY.replace("epochs: 2", "epochs: 3, tensorboard: false")}
sweep:
  over:
    optimizer.lr: tag(log, interval(1e-4, 1e-1))
    data.batch_size: [16, 32]
  trials: 8
  prune: median
"""


def results(sweep: Path) -> list[tuple[list[str], str, float | None]]:
    return [(run.overrides, run.status, run.value) for run in read_runs(sweep)]


def the_sweep(folder: Path) -> Path:
    (found,) = folder.glob("runs/tiny/sweep_*")
    return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    """A folder with a search that has ended."""
    folder = tmp_path_factory.mktemp("searched")
    before = Path.cwd()
    os.chdir(folder)
    try:
        (folder / "tiny.yaml").write_text(SEARCH)
        sweep("tiny.yaml", [])
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def again(searched, tmp_path, monkeypatch) -> Path:
    """A copy of the folder, in which it was not moved."""
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.rglob("*.json*"):
        file.write_text(file.read_text().replace(str(searched), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def interrupt_at(monkeypatch, count):
    """A signal at the `count`th step from here on, once."""
    step, seen = Screen.step, []

    def interrupt(self, number):
        seen.append(number)
        if len(seen) == count:
            signal.raise_signal(signal.SIGINT)
        step(self, number)

    monkeypatch.setattr(Screen, "step", interrupt)


def test_a_search_is_made_of_runs_and_hopeless_ones_are_pruned(searched):
    runs = read_runs(the_sweep(searched))
    assert [run.number for run in runs] == list(range(1, 9))
    assert {run.status for run in runs} == {"finished", "pruned"}
    for run in runs:
        lr, batch_size = run.overrides
        assert 1e-4 <= float(lr.removeprefix("optimizer.lr=")) <= 1e-1
        assert batch_size in ("data.batch_size=16", "data.batch_size=32")


def test_the_folder_of_a_pruned_run_is_whole(searched):
    pruned = next(run for run in read_runs(the_sweep(searched)) if run.status == "pruned")
    record = json.loads((Path(pruned.folder) / "run.json").read_text())
    assert (record["status"], record["sweep"]) == ("pruned", the_sweep(searched).name)
    assert record["ended"]
    assert pruned.best in record["metrics"]
    assert not any(name.startswith("test/") for name in record["metrics"])
    assert len(pruned.evaluations()) < 3
    for name in ("best.safetensors", "last.safetensors"):
        assert (Path(pruned.folder) / "checkpoints" / name).is_file()


def test_runs_are_listed_with_their_sweep(searched):
    (group,), warnings = list_runs(searched / "runs", where=["status=pruned", f"sweep={the_sweep(searched).name}"])
    assert not warnings
    assert {run.record["status"] for run in group.runs} == {"pruned"}
    assert listed(group).splitlines()[1].split()[:3] == ["run", "sweep", "status"]


def test_a_search_is_stored_as_data(searched):
    assert sorted(file.name for file in the_sweep(searched).iterdir()) == ["runs.jsonl", "sweep.json"]
    assert json.loads((the_sweep(searched) / "sweep.json").read_text())["overrides"] == []


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(searched, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(SEARCH)
    interrupt_at(monkeypatch, 100)
    assert main(["train", "tiny.yaml", "-m"]) == 130
    begun = results(the_sweep(tmp_path))
    assert begun[-1][1] == "interrupted"
    assert len(begun) < 8
    assert "1 interrupted" in capsys.readouterr().out
    assert main(["train", "--resume", str(the_sweep(tmp_path))]) == 0
    assert results(the_sweep(tmp_path)) == results(the_sweep(searched))


def test_a_search_that_was_killed_between_two_lines_goes_on(again, searched):
    lines = the_sweep(again) / "runs.jsonl"
    whole = lines.read_text().splitlines(keepends=True)
    lines.write_text("".join(whole[:4]) + whole[4][:30])  # a torn line, and a run without a line
    resume_sweep(str(the_sweep(again)), [])
    assert results(the_sweep(again)) == results(the_sweep(searched))


def test_a_finished_search_trains_nothing_and_more_trials_go_on(again, searched):
    resume_sweep(str(the_sweep(again)), [])
    assert results(the_sweep(again)) == results(the_sweep(searched))
    resume_sweep(str(the_sweep(again)), ["sweep.trials=9"])
    assert results(the_sweep(again))[:8] == results(the_sweep(searched))
    assert len(results(the_sweep(again))) == 9


def test_a_config_that_has_changed_is_not_mixed_with_the_runs_before(again):
    file = again / "tiny.yaml"
    file.write_text(file.read_text().replace("Dropout(0.1)", "Dropout(0.2)"))
    with pytest.raises(ConfigError) as caught:
        resume_sweep(str(the_sweep(again)), ["sweep.trials=9"])
    (reported,) = caught.value.diagnostics
    assert "`model.flow.drop" in reported.message
    assert "has changed since the run" in reported.message
    assert (reported.place.file, reported.place.line) == (str(file), 7)


def test_ranges_that_have_changed_are_refused(again):
    file = again / "tiny.yaml"
    file.write_text(file.read_text().replace("[16, 32]", "[64]"))
    with pytest.raises(ConfigError, match=r"not in the ranges of `sweep\.over`"):
        resume_sweep(str(the_sweep(again)), [])


def test_only_the_length_of_a_sweep_can_change(again):
    with pytest.raises(ConfigError, match="`seed=1` cannot be changed when resuming a sweep"):
        resume_sweep(str(the_sweep(again)), ["seed=1"])


def test_a_sweep_runs_once_at_a_time(again):
    with alone(the_sweep(again)), pytest.raises(RunError, match="is still running in another process"):
        resume_sweep(str(the_sweep(again)), [])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": 1, "folder": "", "overrides": []}', "[" * 100_000])
def test_a_damaged_record_of_a_sweep_is_refused(again, text):
    (the_sweep(again) / "sweep.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        resume_sweep(str(the_sweep(again)), [])
    assert caught.value.diagnostics[0].code == "FC0301"


def test_lines_that_are_no_runs_are_passed_over(tmp_path):
    good = SweepRun(1, ["seed=1"], "val/loss", "min")
    good.note(tmp_path, None, "failed")
    lines = tmp_path / "runs.jsonl"
    lines.write_text(f'{lines.read_text()}[]\n{{"number": "2"}}\n"x"\n{{"number": 1}}\n')
    assert read_runs(tmp_path) == [good]


def test_ranges_of_the_command_line_join_those_of_the_config_and_a_value_ends_a_range(folder):
    folder.write(SEARCH.replace("epochs: 3", "steps: 2"))
    sweep("tiny.yaml", ["sweep.trials=2", "data.batch_size=16", "seed=range(0,9)", "+trainer.clip=int(interval(1,9))"])
    for run in read_runs(the_sweep(folder.path)):
        assert run.overrides[0] == "data.batch_size=16"
        assert [word.partition("=")[0] for word in run.overrides] == [
            "data.batch_size", "seed", "+trainer.clip", "optimizer.lr",
        ]  # fmt: skip
        assert 1 <= int(run.overrides[2].partition("=")[2]) <= 9


def test_a_trial_that_fails_does_not_end_the_search(folder, capsys):
    text = SEARCH.replace("tag(log, interval(1e-4, 1e-1))", "[0.01, 1e38]").replace("trials: 8", "trials: 4, seed: 1")
    folder.write(
        text.replace("trials: 4, seed: 1", "trials: 4\n  seed: 1").replace("epochs: 3", "steps: 3, log_every: 1")
    )
    with pytest.raises(RunError, match="of the sweep's runs failed"):
        sweep("tiny.yaml", [])
    assert {run.status for run in read_runs(the_sweep(folder.path))} == {"finished", "failed"}
    assert len(read_runs(the_sweep(folder.path))) == 4
    assert "is not finite" in capsys.readouterr().err


def test_without_optuna_a_search_names_the_extra(folder, monkeypatch):
    monkeypatch.setattr("flowconf.train.checks.ranges.find_spec", lambda name: None)
    with pytest.raises(MachineError) as caught:
        sweep(folder.write(SEARCH), [])
    assert caught.value.diagnostics[0].help == "install it with `pip install 'flowconf[optuna]'`"
    assert not list(folder.path.glob("runs"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra/sweeper=optuna"], "`hydra/sweeper=optuna` is not used by a search with `sweep`"),
        (["optimizer.lr=shuffle(range(1,5))"], "`optimizer.lr` has no values that a search can try"),
        (["optimizer.lr=0.1,fast"], "`optimizer.lr` must be a number, got the string `fast`"),
        (["data.heldout=0,1"], "`synthetic` takes no argument `heldout`"),
    ],
)
def test_words_that_a_search_cannot_use_are_refused(folder, words, message):
    with pytest.raises(FlowconfError) as caught:
        sweep(folder.write(SEARCH), words)
    (reported,) = caught.value.diagnostics
    assert reported.message.startswith(message)
    assert reported.place.word is not None
    assert not list(folder.path.glob("runs"))


def test_a_search_needs_a_validation_split(folder, capsys):
    folder.write(SEARCH.replace("rows: 320", "rows: 320, val: 0"))
    assert main(["check", "tiny.yaml"]) == 2


def test_an_interval_without_a_number_of_trials_is_refused(folder, capsys):
    folder.write(TINY)
    words = ["train", "tiny.yaml", "-m", "optimizer.lr=interval(0.01,0.1)"]
    assert main(words) == 2
    reported = capsys.readouterr().err
    assert "`optimizer.lr=interval(0.01,0.1)` is an interval, which a grid cannot try" in reported
    assert "add `sweep.trials=20` to search" in reported
    assert main([*words, "sweep.trials=1", "+trainer.steps=1"]) == 0


def test_words_of_a_search_apply_only_to_sweeps(folder, capsys):
    folder.write(SEARCH)
    assert main(["train", "tiny.yaml", "sweep.trials=3"]) == 2
    assert "`sweep.trials=3` applies only to sweeps (`-m`)" in capsys.readouterr().err


def test_a_grid_goes_on_where_it_was_interrupted(folder, monkeypatch, capsys):
    file = folder.write(TINY.replace("epochs: 2", "epochs: 2, tensorboard: false"))
    words = ["optimizer.lr=0.01,0.1", "seed=0,1"]
    sweep(file, words)
    whole = results(the_sweep(folder.path))
    folder.path.joinpath("runs").rename(folder.path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 30)
        assert main(["train", file, "-m", *words]) == 130
    finished = read_runs(the_sweep(folder.path))[0]
    ended = (Path(finished.folder) / "run.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["train", "--resume", str(the_sweep(folder.path))]) == 0
    assert results(the_sweep(folder.path)) == whole
    assert (Path(finished.folder) / "run.json").stat().st_mtime_ns == ended
    out = capsys.readouterr().out
    assert "run 1 of 4: optimizer.lr=0.01 seed=0  (finished)" in out
    assert "resuming after step" in out


MODULE = """
import flowconf
from torch.nn import functional

@flowconf.register_loss
def entropy_of_mine(logits, target):
    return functional.cross_entropy(logits, target, reduction="none")
"""


@pytest.mark.slow
def test_a_killed_search_with_jobs_and_a_project_goes_on(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["mine"]\n')
    (tmp_path / "mine.py").write_text(MODULE)
    text = SEARCH.replace("fn: cross_entropy", "fn: entropy_of_mine").replace("epochs: 3", "epochs: 300")
    (tmp_path / "tiny.yaml").write_text(f"{text}  jobs: 2\n")
    call = [sys.executable, "-m", "flowconf", "train"]
    killed = subprocess.Popen([*call, "tiny.yaml", "-m", "sweep.trials=3"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(tmp_path.glob("runs/tiny/*/checkpoints/last.safetensors"))) < 2:
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    while any(run.status == "running" for run in read_runs(the_sweep(tmp_path))):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert {run.status for run in read_runs(the_sweep(tmp_path))} <= {"interrupted", "died"}
    done = subprocess.run(
        [*call, "--resume", str(the_sweep(tmp_path))], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert {run.status for run in read_runs(the_sweep(tmp_path))} <= {"finished", "pruned"}
    assert len(read_runs(the_sweep(tmp_path))) == 3
    assert done.stdout.count("resuming after step") == 2
