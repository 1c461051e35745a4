"""A run folder is touched when the lock is held and the new state is whole; one that is gone ends the run."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from flowconf.cli.main import main
from flowconf.graph.weights import files
from flowconf.report import RunError
from flowconf.train.commands.train import resume
from flowconf.train.runs.folder import whole_lines
from flowconf.train.screen import Screen
from tests.train.conftest import TEXT, TINY, killed
from tests.train.test_checkpoints import in_state, last, snapshot


@pytest.fixture
def run(folder):
    """A run that was killed after step 9: `last` is of step 9, `best` of step 5."""
    killed(lambda: folder.train(text=TEXT), 10)
    return folder.runs()[0].relative_to(folder.path)


def test_a_second_resume_takes_nothing_from_the_run_that_goes_on(folder, monkeypatch):
    """It is refused before it removes what looks like a leftover, and is the other one's next checkpoint."""
    replace, refused = Path.replace, []

    def intrude(self, target):
        if self.suffix == ".tmp" and target.name == "last.safetensors":
            with pytest.raises(RunError, match="still running"):
                resume(str(folder.runs()[0]), (), Screen(folder.said))
            refused.append(self)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", intrude)
    folder.train(text=TEXT)
    assert len(refused) == 8


LOGS = {
    "shorter": (lambda data: data[: len(data) // 2], True),
    "empty": (lambda data: b"", True),
    "cut in a line": (lambda data: data[:-3], True),
    "longer": (lambda data: data + b'{"step": 10}\n', False),
    "without line ends": (lambda data: b"x" * len(data), True),
}


@pytest.mark.parametrize(("change", "lost"), LOGS.values(), ids=LOGS)
def test_a_log_that_is_not_as_long_as_the_checkpoint_remembers(folder, run, change, lost):
    log = run / "metrics.jsonl"
    log.write_bytes(change(log.read_bytes()))
    resume(str(run), (), Screen(folder.said))
    assert b"\0" not in log.read_bytes()
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines() if line.startswith("{")]
    assert {10, 12, 15, 16} <= set(steps)
    reported = re.search("`metrics.jsonl` had [0-9,]+ bytes when the checkpoint was saved, and", folder.said.getvalue())
    assert (reported is not None) == lost


def test_a_checkpoint_that_remembers_a_log_of_ten_terabytes(folder, run):
    in_state(lambda state: state["progress"].update(log=10**13))(last(run))
    resume(str(run), (), Screen(folder.said))
    assert (run / "metrics.jsonl").stat().st_size < 10_000
    assert "`metrics.jsonl` had 10,000,000,000,000 bytes" in folder.said.getvalue()


def test_a_log_that_is_gone(folder, run):
    (run / "metrics.jsonl").unlink()
    resume(str(run), (), Screen(folder.said))
    assert "and 0 of them are left" in folder.said.getvalue()


def test_whole_lines(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"a" * 70_000 + b"\n" + b"b" * 200_000)
    assert [whole_lines(file, size) for size in (0, 69_999, 70_000, 70_001, 70_002, 10**9)] == [0, 0, 0, *[70_001] * 3]


@pytest.mark.parametrize("gone", ["deleted", "moved", "moved and made anew"])
def test_a_run_folder_that_is_gone_ends_the_run(folder, monkeypatch, capsys, gone):
    def take(self, step):
        if step == 6:
            run = folder.runs()[0]
            run.rename(folder.path / "elsewhere")  # at once, so that a save finds all of it or nothing
            if gone == "deleted":
                shutil.rmtree(folder.path / "elsewhere")
            if gone == "moved and made anew":
                shutil.copytree(folder.path / "elsewhere", run)

    monkeypatch.setattr(Screen, "step", take)
    (folder.path / "runs" / "tiny").mkdir(parents=True)
    assert main(["train", folder.write(TEXT)]) == 1
    said = capsys.readouterr().err
    assert "was moved or deleted during the run" in said
    left = folder.runs()
    assert len(left) == (gone == "moved and made anew")
    if gone != "deleted":
        monkeypatch.undo()
        monkeypatch.chdir(folder.path)
        assert main(["train", "--resume", "elsewhere"]) == 0


def test_a_run_whose_folder_is_deleted_does_not_wait_for_its_next_log_or_save(folder, monkeypatch, capsys):
    steps = []

    def take(self, step):
        steps.append(step)
        if step == 6:
            folder.runs()[0].rename(folder.path / "elsewhere")

    monkeypatch.setattr("flowconf.train.runs.folder.BETWEEN_LOOKS", 0)
    monkeypatch.setattr(Screen, "step", take)
    text = TINY.replace("epochs: 2", "epochs: 2, checkpoint_every: 1000, evaluate_every: 1000, log_every: 1000")
    assert main(["train", folder.write(text)]) == 1
    assert "was moved or deleted during the run" in capsys.readouterr().err
    assert steps[-1] == 6


RECORDS = {
    "empty": "",
    "no JSON": "{",
    "deep": "[" * 100_000,
    "deep and valid": '{"a":' * 300 + "1" + "}" * 300,
    "a list": "[1]",
    "other types": '{"config": 3, "status": ["a"], "metrics": 1}',
    "a NUL": '{"config": "a\\u0000b", "status": "running", "metrics": {}}',
    "overrides": '{"config": "a", "status": "running", "metrics": {}, "overrides": [1]}',
    "a folder": '{"config": "a", "status": "running", "metrics": {}, "folder": 1}',
    "resumed": '{"config": "a", "status": "running", "metrics": {}, "resumed": 1}',
    "a huge number": '{"config": "a", "status": "finished", "metrics": {"val/loss": %s}}' % ("9" * 400),
    "a time": '{"config": "a", "status": "finished", "metrics": {}, "started": {"a": 1}}',
    "another time": '{"config": "a", "status": "finished", "metrics": {}, "ended": "2026-13-41"}',
}


@pytest.mark.parametrize("text", RECORDS.values(), ids=RECORDS)
def test_a_record_that_no_run_wrote_is_refused_in_every_command(folder, run, capsys, text):
    (run / "run.json").write_text(text)
    before = snapshot(run)
    reported = f"error[FC0301]: the record `{run}/run.json` of the run cannot be read"
    for command in (
        ["train", "--resume", str(run)],
        ["train", "--resume", str(run), "trainer.epochs=3"],
        ["eval", str(run)],
        ["predict", str(run), "-i", "in.npz", "-o", "out.npz"],
        ["profile", str(run)],
    ):
        assert main(command) == 2, command
        assert capsys.readouterr().err.startswith(reported), command
    assert main(["runs"]) == 0
    assert "warning[FC0702]: a run is not listed" in capsys.readouterr().err
    for command in (["weights", str(run)], ["diff", str(run), "tiny.yaml"], ["train", "--resume", "runs/tiny"]):
        assert main(command) in (0, 2)
        assert "Traceback" not in capsys.readouterr().err
    assert snapshot(run) == before


def test_what_a_run_needs_is_on_the_disk_before_it_is_relied_on(folder, monkeypatch):
    """Whatever a run needs to go on is synced before it takes its name."""
    sync, replace, synced, unsynced = os.fsync, Path.replace, set(), []

    def noted(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    def checked(self, target):
        if self.stat().st_ino not in synced:
            unsynced.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", checked)
    run = folder.train(text=TEXT).folder
    resume(str(run), ["trainer.epochs=3"], Screen(folder.said))
    assert unsynced == []
    for name in ("run.json", "config.yaml", "origins.json", "metrics.jsonl"):
        assert (run / name).stat().st_ino in synced


def test_a_full_disk_while_a_run_begins_again_says_so(folder, run, monkeypatch, capsys):
    write = files.write_atomically

    def full(file, data):
        if file.name == "config.yaml":
            raise OSError(28, "No space left on device")
        write(file, data)

    monkeypatch.setattr("flowconf.train.runs.folder.write_atomically", full)
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 1
    said = capsys.readouterr().err
    assert "error[FC0702]: cannot write into the run folder: no space left on device" in said
    assert f"to resume: flowconf train --resume {run}" in said
    monkeypatch.undo()
    monkeypatch.chdir(folder.path)
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 0
