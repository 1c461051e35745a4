"""Processes that are started, watched and started anew: by `flowconf train`, by torchrun, on one machine and on two."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import flowconf
from tests.train.conftest import TINY, Folder, assert_same

pytestmark = pytest.mark.slow

DATA = '''
import os, signal, time

import torch

import flowconf
from flowconf.train.data.splits import Splits


class Rows:
    """The second process ends in its seventh batch by what DIES says, or sends the signal HEARS to those above it."""

    fields = {"image": ((8,), torch.float32), "label": ((), torch.int64)}

    def __init__(self, rows):
        self.image = torch.randn(rows, 8, generator=torch.Generator().manual_seed(rows))
        self.calls = 0

    def __len__(self):
        return len(self.image)

    def batch(self, rows, generator):
        self.calls += 1
        if self.calls == 7 and os.environ.get("RANK") == "1":
            if os.environ["TORCHELASTIC_RESTART_COUNT"] in os.environ.get("DIES", ""):
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ.get("HEARS") == "SIGINT":
                os.killpg(os.getpgid(os.getppid()), signal.SIGINT)
                time.sleep(1)
            if os.environ.get("HEARS") == "SIGTERM":
                os.kill(os.getppid(), signal.SIGTERM)
                time.sleep(1)
        image = self.image[rows]
        return {"image": image, "label": image.argmax(1) % 4}


@flowconf.register_dataset
def dying():
    return Splits(Rows(100), Rows(30), Rows(30))
'''
TEXT = TINY.replace("name: synthetic, shape: [8], classes: 4, rows: 320, batch_size: 32", "name: dying, batch_size: 10")
TEXT = TEXT.replace("devices: cpu", "devices: 2, checkpoint_every: 3, restarts: 1")


def project(path):
    (path / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["dying"]\n')
    (path / "dying.py").write_text(DATA)
    (path / "tiny.yaml").write_text(TEXT)
    return Folder(path)


def start(folder, *words, module="flowconf", **environment):
    """A command in the folder, in a session of its own, as a terminal would start it."""
    paths = [str(Path(flowconf.__file__).parents[1]), str(folder.path)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=folder.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**kept, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **environment},
    )


def ended(process):
    out, err = process.communicate(timeout=400)
    return SimpleNamespace(code=process.returncode, out=out, err=err)


def command(folder, *words, **environment):
    return ended(start(folder, *words, **environment))


@pytest.fixture
def here(tmp_path):
    return project(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run in which nothing happens."""
    folder = project(tmp_path_factory.mktemp("whole"))
    done = command(folder, "train", "tiny.yaml")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("run folder") == 1
    return folder.run(folder.runs()[0])


def test_a_process_that_dies_is_started_anew_from_the_checkpoint(here, whole):
    done = command(here, "train", "tiny.yaml", DIES="0")
    assert (done.code, done.err) == (0, "")
    assert "a process died: restart 1 of 1\n" in done.out
    assert "resuming after step 3\n" in done.out
    (run,) = here.runs()
    assert_same(here.run(run), whole)


def test_when_restarts_run_out_the_run_has_failed_and_can_go_on(here, whole):
    done = command(here, "train", "tiny.yaml", DIES="01")
    assert done.code == 1
    (run,) = here.runs()
    assert done.err == (
        "error[FC0702]: the process of rank 1 was killed by SIGKILL\n"
        f"  = help: to resume: flowconf train --resume {run.relative_to(here.path)}\n"
    )
    assert command(here, "train", "--resume", str(run)).code == 0
    assert_same(here.run(run), whole)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_finishes_the_step_everywhere(here, whole, name):
    done = command(here, "train", "tiny.yaml", HEARS=name)
    (run,) = here.runs()
    assert (done.code, done.err) == (130, "")
    assert f"interrupted; to resume: flowconf train --resume {run.relative_to(here.path)}\n" in done.out
    assert here.run(run).record["status"] == "interrupted"
    assert command(here, "train", "--resume", "runs/tiny").code == 0
    assert_same(here.run(run), whole)


def test_torchrun_does_the_same(here, whole):
    words = ["--nproc-per-node", "2", "--max-restarts", "2", "-m", "flowconf", "train", "tiny.yaml"]
    done = command(here, *words, module="torch.distributed.run", DIES="0")
    assert done.code == 0
    assert "a process died: restart 1 of 2\n" in done.out
    (run,) = here.runs()
    assert_same(here.run(run), whole)


def test_two_machines(here, whole):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = f"trainer.rendezvous=localhost:{free.getsockname()[1]}"
    words = ["train", "tiny.yaml", "trainer.nodes=2", "trainer.devices=1", meeting]
    both = [ended(process) for process in [start(here, *words), start(here, *words)]]
    assert [(done.code, done.err) for done in both] == [(0, "")] * 2
    assert sum(done.out.count("run folder") for done in both) == 1
    (run,) = here.runs()
    assert_same(here.run(run), whole)


def test_machines_need_a_place_to_meet(here):
    done = command(here, "train", "tiny.yaml", "trainer.nodes=2")
    assert done.code == 2
    assert "`trainer.nodes: 2` requires `trainer.rendezvous`" in done.err


def test_what_is_wrong_is_reported_once(here):
    done = command(here, "train", "tiny.yaml", "trainer.shares=[1,2,3]")
    assert done.code == 2
    assert done.err.count("error[") == 1
    assert signal.SIGKILL.name not in done.err
