"""Every ending is an ending: wherever a signal comes, the run says so, nothing is left behind, and it can go on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import flowconf
from flowconf.cli.main import main
from flowconf.graph.weights import files
from flowconf.train import loop, prepare
from flowconf.train.commands import train as command
from flowconf.train.runs.listing import list_runs
from flowconf.train.runs.lock import is_held, take
from flowconf.train.runs.state import saved_step
from flowconf.train.screen import Screen
from flowconf.train.stopping import SIGNALS, Stop, interruptible, signals_later
from tests.train.conftest import TEXT, assert_same, go_on, killed

SLOW = pytest.mark.slow
MANY = [SIGNALS[0], *(pytest.param(number, marks=SLOW) for number in SIGNALS[1:])]


def sending(number, call, when=lambda *args: True):
    """`call`, which this process gets a signal in the middle of, once."""
    sent = []

    def heard(*args, **kwargs):
        if not sent and when(*args):
            sent.append(number)
            os.kill(os.getpid(), number)
        return call(*args, **kwargs)

    return heard


@pytest.mark.parametrize("number", SIGNALS)
def test_while_data_are_made(folder, monkeypatch, number):
    monkeypatch.setattr(prepare, "make_data", sending(number, prepare.make_data))
    assert main(["train", folder.write(TEXT)]) == 130
    assert not (folder.path / "runs").exists()


PLACES = {
    "while the folder is made": (command, "create_run", lambda *args: True),
    "before the first step": (command, "header", lambda *args: True),
    "in an evaluation": (loop, "evaluate", lambda job, feed, split: split == "val"),
    "in a save": (files, "write_atomically", lambda file, *parts: file.name == "last.safetensors"),
    "in the save of the best weights": (
        files,
        "write_atomically",
        lambda file, *parts: file.name == "best.safetensors",
    ),
    "in the last test": (loop, "evaluate", lambda job, feed, split: split == "test"),
}


@pytest.mark.parametrize("number", MANY)
@pytest.mark.parametrize("place", PLACES)
def test_anywhere_else_in_a_run(folder, whole, monkeypatch, capsys, place, number):
    owner, name, when = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, sending(number, getattr(owner, name), when))
        assert main(["train", folder.write(TEXT)]) == 130
    (run,) = folder.runs()
    assert f"to resume: flowconf train --resume {run.relative_to(folder.path)}" in capsys.readouterr().out
    assert folder.run(run).record["status"] == "interrupted"
    assert not is_held(run)
    assert_same(go_on(folder, run), whole)


@pytest.mark.parametrize("place", ["while data are made", "in the last test"])
def test_in_a_run_that_goes_on(folder, monkeypatch, place):
    killed(lambda: folder.train(text=TEXT), 10)
    run = folder.runs()[0]
    before = (run / "run.json").read_bytes()
    with monkeypatch.context() as patch:
        if place == "while data are made":
            patch.setattr(prepare, "make_data", sending(signal.SIGTERM, prepare.make_data))
        else:
            patch.setattr(loop, "evaluate", sending(signal.SIGTERM, loop.evaluate, PLACES["in the last test"][2]))
        assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 130
    if place == "while data are made":
        assert (run / "run.json").read_bytes() == before
    else:
        assert folder.run(run).record["status"] == "interrupted"


def test_signals_wait_that_another_thread_takes():
    idle, reached = threading.Event(), []

    def asked_to_end():
        with interruptible(), signals_later():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            reached.append(True)

    other = threading.Thread(target=idle.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            asked_to_end()
    finally:
        idle.set()
        other.join()
    assert reached


def test_signals_that_are_ignored_stay_ignored(folder, monkeypatch):
    """As `nohup` does it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(
            Screen, "step", lambda self, step: os.kill(os.getpid(), signal.SIGHUP) if step == 7 else None
        )
        assert folder.train(text=TEXT).record["status"] == "finished"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back(folder):
    before = [signal.getsignal(number) for number in SIGNALS]
    assert main(["train", folder.write(TEXT)]) == 0
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_process_of_a_team_ends_with_the_one_that_watches_over_it():
    assert not Stop(parent=os.getppid()).asked
    assert not Stop().asked
    assert Stop(parent=-1).asked


def test_runs_that_died_are_listed_as_such(folder, monkeypatch, capsys):
    killed(lambda: folder.train(text=TEXT), 10)
    run = folder.runs()[0]
    assert main(["runs"]) == 0
    assert f"{run.name}  died" in capsys.readouterr().out
    assert main(["runs", "--where", "status=died", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "died"
    with contextlib.closing(take(run)):
        assert is_held(run)
        # A lock belongs to an open file, so that this process sees its own as that of another.
        ((group,), _) = list_runs("runs")
        assert group.runs[0].record["status"] == "running"
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "host": "elsewhere"}))
    ((group,), _) = list_runs("runs")
    assert group.runs[0].record["status"] == "running"


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(flowconf.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
SLOWLY = """
import time, torch, flowconf
from torch.utils.data import Dataset

class Rows(Dataset):
    def __len__(self): return 64
    def __getitem__(self, row):
        time.sleep(0.005)
        return {"image": torch.full((8,), row / 64), "label": row % 4}

@flowconf.register_dataset
def slowly():
    return flowconf.Splits(Rows(), Rows())
"""


def started(folder, *words, text=TEXT):
    """The command in a session of its own, after its step 20."""
    (folder.path / "pyproject.toml").write_text("[tool.flowconf]\nmodules = ['slowly']\n")
    (folder.path / "slowly.py").write_text(SLOWLY)
    file = folder.write(text.replace("epochs: 2", "epochs: 4000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "flowconf", "train", file, *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**ENVIRONMENT, "FLOWCONF_TEST": str(folder.path)},
    )  # fmt: skip
    said = []
    while not said or "step 20 " not in said[-1]:
        said.append(process.stdout.readline())
        assert said[-1], "".join(said)
    return process


def members(folder):
    """The processes that are alive of those that were started in a folder: process -> what it knows of its place."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            known = dict(text.split("=", 1) for text in (process / "environ").read_text().split("\0") if "=" in text)
            if known.get("FLOWCONF_TEST") == str(folder.path):
                found[int(process.name)] = known
    return found


def assert_ended(process, folder, code=130):
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    end = time.monotonic() + 60
    while members(folder) and time.monotonic() < end:
        time.sleep(0.1)
    assert members(folder) == {}
    (run,) = folder.runs()
    assert folder.run(run).record["status"] == "interrupted", said
    assert "Traceback" not in said
    assert "worker" not in said
    more = saved_step(run / "checkpoints" / "last.safetensors") + 3
    command = [sys.executable, "-m", "flowconf", "train", "--resume", str(run), f"trainer.steps={more}"]
    again = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert again.returncode == 0, again.stderr
    assert folder.run(run).record["status"] == "finished"
    return said


STREAMED = TEXT.replace("{name: synthetic, shape: [8], classes: 4, rows: 320, batch_size: 32}",
                        "{name: slowly, batch_size: 8, workers: 2}")  # fmt: skip


@SLOW
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_a_process_group_with_workers_that_make_data(folder, number):
    process = started(folder, text=STREAMED)
    os.killpg(process.pid, number)
    assert "interrupted; to resume" in assert_ended(process, folder)


@SLOW
@pytest.mark.parametrize(
    ("to", "number"),
    [
        ("parent", signal.SIGTERM),
        ("parent", signal.SIGUSR1),
        ("group", signal.SIGINT),
        ("0", signal.SIGHUP),
        ("1", signal.SIGTERM),
        ("1", signal.SIGUSR2),
    ],
)
def test_a_signal_to_a_team(folder, to, number):
    process = started(folder, "trainer.devices=2")
    ranks = {known["RANK"]: member for member, known in members(folder).items() if "RANK" in known}
    if to == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(ranks.get(to, process.pid), number)
    assert "interrupted; to resume" in assert_ended(process, folder)


@SLOW
@pytest.mark.parametrize(
    ("to", "number"),
    [
        ("parent", signal.SIGTERM),
        ("group", signal.SIGINT),
        ("parent", signal.SIGUSR1),
        ("one job", signal.SIGTERM),
        ("parent", signal.SIGKILL),
    ],
)
def test_a_signal_to_a_sweep_with_parallel_jobs(folder, to, number):
    """All jobs finish their step and save; those that have not started do not start."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    folder.write(TEXT.replace("epochs: 2", "epochs: 4000"))
    words = ["seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    words = ["seed=0,1", *words[1:], "trainer.epochs=400"] if to == "one job" else words
    process = subprocess.Popen(
        [sys.executable, "-m", "flowconf", "train", "tiny.yaml", "-m", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=folder.path,
        env={**ENVIRONMENT, "FLOWCONF_TEST": str(folder.path)},
    )  # fmt: skip
    said = []
    while len(list(folder.path.glob("runs/tiny/*/checkpoints/last.safetensors"))) < 2:
        said.append(process.stdout.readline())
        assert said[-1], "".join(said)
    jobs = [member for member in members(folder) if "popen_loky" in Path(f"/proc/{member}/cmdline").read_text()]
    if to == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(jobs[0] if to == "one job" else process.pid, number)
    with process.stdout as said:  # it ends when no process is left that could write
        more = "".join(said)
    assert process.wait() == (-9 if number == signal.SIGKILL else 130), more
    assert "Traceback" not in more
    runs = [folder.run(file.parent) for file in folder.path.glob("runs/tiny/*/run.json")]
    assert len(runs) == 2
    assert sorted(run.record["status"] for run in runs) == (
        ["finished", "interrupted"] if to == "one job" else ["interrupted"] * 2
    )
    assert not any(is_held(run.folder) for run in runs)
    assert list(folder.path.glob("runs/tiny/*/ending")) == []
    interrupted = next(run for run in runs if run.record["status"] == "interrupted")
    steps = saved_step(interrupted.folder / "checkpoints" / "last.safetensors") + 3
    assert main(["train", "--resume", str(interrupted.folder), f"trainer.steps={steps}"]) == 0


@SLOW
def test_ranks_end_when_their_parent_is_killed(folder):
    process = started(folder, "trainer.devices=2")
    os.kill(process.pid, signal.SIGKILL)
    assert_ended(process, folder, -signal.SIGKILL)
