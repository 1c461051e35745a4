"""Exact resume: whatever ends a run, going on gives what never ending would have given, bit by bit."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from safetensors.torch import load_file

import flowconf
from flowconf.api import load
from flowconf.cli.main import main
from flowconf.graph.weights import files
from flowconf.graph.weights.sources import find_run_folder
from flowconf.report import ConfigError, RunError
from flowconf.train.commands.train import resume
from flowconf.train.screen import Screen
from flowconf.train.stopping import SIGNALS
from tests.train.conftest import TEXT, TINY, assert_same, go_on, killed

SLOW = pytest.mark.slow


@pytest.mark.parametrize("step", [1, 4, 5, 8, 13, *(pytest.param(n, marks=SLOW) for n in (2, 3, 6, 7, 9, 10, 11, 12))])
def test_killed_at_any_step(folder, whole, step):
    killed(lambda: folder.train(text=TEXT), step)
    assert folder.run(folder.runs()[0]).record["status"] == "running"
    again = go_on(folder)
    assert again.record["status"] == "finished"
    assert len(again.record["resumed"]) == 1
    assert_same(again, whole)


def test_killed_again_and_again(folder, whole):
    killed(lambda: folder.train(text=TEXT), 5)
    for step in (4, 7, 8, 11, 16):
        killed(lambda: go_on(folder), step)
    assert_same(go_on(folder), whole)


@pytest.mark.parametrize("save", [1, 3, 4, *(pytest.param(n, marks=SLOW) for n in (2, 5, 6, 7))])
def test_killed_in_the_middle_of_a_save(folder, whole, monkeypatch, save):
    count = 0
    replace = Path.replace

    def stop(self, target):
        nonlocal count
        if target.suffix == ".safetensors":
            count += 1
            if count == save:
                os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        killed(lambda: folder.train(text=TEXT), 17)
    assert_same(go_on(folder), whole)
    assert {file.name for file in (folder.runs()[0] / "checkpoints").iterdir()} == {
        "last.safetensors", "best.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(folder, whole, monkeypatch, capsys, number):
    with monkeypatch.context() as patch:
        patch.setattr(Screen, "step", lambda self, step: os.kill(os.getpid(), number) if step == 7 else None)
        assert main(["train", folder.write(TEXT)]) == 130
    said = capsys.readouterr().out
    assert f"interrupted; to resume: flowconf train --resume {folder.runs()[0].relative_to(folder.path)}" in said
    run = folder.run(folder.runs()[0])
    assert run.record["status"] == "interrupted"
    assert signal.getsignal(number) is not None
    assert main(["train", "--resume", str(run.folder)]) == 0
    assert "resuming after step 7" in capsys.readouterr().out
    assert_same(folder.run(run.folder), whole)


def test_a_second_signal_ends_at_once(folder, monkeypatch):
    def impatient(self, step):
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    monkeypatch.setattr(Screen, "step", impatient)
    assert main(["train", folder.write(TEXT)]) == 130
    assert folder.run(folder.runs()[0]).record["status"] == "interrupted"


def test_a_full_disk_loses_no_earlier_checkpoint_and_says_so(folder, whole, monkeypatch, capsys):
    write, count = files.write_atomically, 0

    def full(file, *parts):
        nonlocal count
        count += 1
        if count == 3:
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (sum(map(len, parts)) // 2, limits[1]))
            try:
                write(file, *parts)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        else:
            write(file, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", full)
        assert main(["train", folder.write(TEXT)]) == 1
    said = capsys.readouterr().err
    assert "cannot save the checkpoint of step 5: file too large" in said
    assert "go on from step 5" in said
    assert folder.run(folder.runs()[0]).record["status"] == "failed"
    assert_same(go_on(folder), whole)


@pytest.mark.usefixtures("permissions_count")
def test_a_folder_that_becomes_unwritable(folder, monkeypatch):
    def lock(self, step):
        if step == 4:
            (folder.runs()[0] / "checkpoints").chmod(0o500)

    monkeypatch.setattr(Screen, "step", lock)
    with pytest.raises(RunError, match=r"cannot save the checkpoint of step [35]: permission denied"):
        folder.train(text=TEXT)


def test_a_run_that_goes_on_is_not_started_twice(folder, whole, monkeypatch):
    def intrude(self, step):
        if step == 4:
            with pytest.raises(RunError, match="still running"):
                go_on(folder)

    monkeypatch.setattr(Screen, "step", intrude)
    assert_same(folder.train(text=TEXT), whole)


def test_a_finished_run_needs_more_to_do(folder):
    run = folder.train(text=TEXT)
    with pytest.raises(RunError, match="is finished"):
        go_on(folder, run.folder)
    longer = go_on(folder, run.folder, "trainer.epochs=3")
    assert longer.log[-1]["step"] in (20, 24)
    assert load(run.folder / "config.yaml").training.trainer.epochs == 3
    assert longer.record["resumed"][0]["overrides"] == ["trainer.epochs=3"]


def test_runs_are_found_by_their_config_too(folder):
    run = folder.train(text=TEXT)
    assert find_run_folder(folder.path / "runs" / "tiny") == run.folder
    with pytest.raises(ConfigError, match="is not a run folder") as caught:
        find_run_folder(folder.path / "runs" / "tinny")
    assert caught.value.diagnostics[0].help.endswith("runs/tiny`")
    with pytest.raises(ConfigError, match=r"is not a run folder(.|\n)*runs/tiny`"):
        find_run_folder(folder.path / "runs")
    (folder.path / "runs" / "tiny" / "sweep_begun").mkdir()
    with pytest.raises(ConfigError, match=r"contains no `run.json`; start a run or sweep again that was killed"):
        find_run_folder(folder.path / "runs" / "tiny" / "sweep_begun")


def test_the_config_of_a_run_means_the_same_from_its_folder(folder):
    folder.write("inputs: {image: [B, 8]}\nflow: {stem: 'Linear(8, 16)', hidden: ReLU}\n", "graph/part.yaml")
    text = TINY.replace("    stem: Linear(8, 16)\n    hidden: ReLU\n", "    part:\n      graph: part\n")
    folder.train(text=text, name="letter.yaml")
    source = "      graph: part\n      checkpoint: {config: letter.yaml, at: part}\n"
    word = folder.train(text=text.replace("      graph: part\n", source), name="word.yaml")
    (folder.path / "graph" / "part.yaml").unlink()
    (setting,) = [s.checkpoint for _, s in load(word.folder / "config.yaml").model.all_settings() if s.checkpoint]
    assert setting.config == str(folder.path / "letter.yaml")
    killed(lambda: folder.train(text=(word.folder / "config.yaml").read_text(), name="again.yaml"), 3)
    go_on(folder, folder.path / "runs" / "again")


def test_resume_takes_no_config_and_train_needs_one(folder, capsys):
    assert main(["train"]) == 2
    assert "expected a training config" in capsys.readouterr().err
    assert main(["train", "-m", "--resume", "x"]) == 2


def test_a_checkpoint_of_another_graph_is_refused(folder):
    killed(lambda: folder.train(text=TEXT), 9)
    with pytest.raises(ConfigError, match="has shape"):
        go_on(folder, None, "model.flow.stem=Linear(8, 17)", "model.flow.logits=Linear(17, 4)")


@SLOW
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_command_itself(folder, whole, number):
    file = folder.write(TEXT.replace("epochs: 2", "epochs: 4000"))
    command = [sys.executable, "-m", "flowconf", "train", file]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(flowconf.__file__).parents[1])},
    )
    while "step 55 " not in process.stdout.readline():
        pass
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    assert ("to resume: flowconf train --resume" in said) == (number == signal.SIGTERM)
    step = int(load_file(folder.runs()[0] / "checkpoints" / "last.safetensors")["@optimizer/stem.weight/step"])
    more = step + 7
    again = go_on(folder, None, f"trainer.steps={more}")
    folder.said = StringIO()
    unbroken = folder.train("trainer.epochs=4000", f"+trainer.steps={more}", text=TEXT)
    assert_same(again, unbroken)


def test_the_original_file_may_be_gone(folder, whole):
    killed(lambda: folder.train(text=TEXT), 9)
    (folder.path / "tiny.yaml").unlink()
    assert_same(go_on(folder), whole)


def test_loading_is_from_the_folder_alone(folder):
    run = folder.train(text=TEXT)
    assert load(run.folder / "config.yaml").training == load(folder.path / "tiny.yaml").training


@pytest.mark.parametrize(
    ("words", "anew"),
    [
        (["optimizer={name: sgd, lr: 0.01}"], True),
        (["optimizer={name: sgd, lr: 0.01, momentum: 0.9}"], True),
        (["optimizer.groups={stem: {lr: 0.1}}"], False),
        (["model.flow.stem={through: 'Linear(8, 16)', frozen: true}"], False),
        (["+schedule={name: cosine}"], False),
        (["optimizer.weight_decay=0.5"], False),
    ],
)
def test_the_optimizer_may_change(folder, words, anew):
    run = folder.train()
    folder.said.truncate(0)
    resume(str(run.folder), [*words, "trainer.epochs=3"], Screen(folder.said))
    assert ("optimizer state starts fresh" in folder.said.getvalue()) == anew
    assert folder.run(run.folder).record["status"] == "finished"
