"""Processes that train together, forked from the test: no start of Python, no agent, the same roads otherwise."""

from __future__ import annotations

import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore

from flowconf.api import load
from flowconf.train.commands.train import resume
from flowconf.train.screen import Screen
from tests.train.conftest import train

PATIENCE = 120
"""Seconds after which processes that wait for each other are ended."""
TOLERANCE = {"rtol": 0, "atol": 2e-5}


def environment(rank: int, size: int, port: int, restart: int = 0) -> dict[str, str]:
    """What torchrun tells a process of its place."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": str(restart),
    }


def together(call: Callable[[int], object], size: int = 2) -> list[int]:
    """`call(rank)` in `size` processes that are a team; gives how each ended: its exit code, or minus its signal."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    children = []
    for rank in range(size):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads that the child does not need
            child = os.fork()
        if child == 0:
            signal.alarm(PATIENCE)
            os.environ.update(environment(rank, size, store.port))
            try:
                code = call(rank)
            except BaseException:  # noqa: BLE001 - it ends here, for the child must not go on as a test
                traceback.print_exc()
                os._exit(1)
            os._exit(code if isinstance(code, int) else 0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def trained(run, name="last"):
    """What a checkpoint has of training, but for random numbers."""
    found = load_file(run.folder / "checkpoints" / f"{name}.safetensors")
    return {key: tensor for key, tensor in found.items() if not key.startswith("@random")}


def assert_alike(one, several):
    """Two runs that differ by rounding alone."""
    torch.testing.assert_close(trained(several), trained(one), **TOLERANCE)
    torch.testing.assert_close(trained(several, "best"), trained(one, "best"), **TOLERANCE)
    assert [line.keys() for line in several.log] == [line.keys() for line in one.log]
    for mine, theirs in zip(several.log, one.log, strict=True):
        assert mine.pop("phase", None) == theirs.pop("phase", None)
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert several.record["metrics"] == pytest.approx(one.record["metrics"], rel=1e-4, abs=1e-5)


def team(folder, text, *overrides, size=2):
    """A run by several processes."""
    config = load(folder.write(text), [*overrides, f"trainer.devices={size}"])
    before = len(folder.runs()) if (folder.path / "runs").is_dir() else 0

    def ends_with_threads(rank):
        train(config)
        return any(thread.name == "watch" for thread in threading.enumerate())

    assert together(ends_with_threads, size) == [0] * size
    assert len(folder.runs()) == before + 1
    return folder.run(folder.runs()[-1])


def dying(step, number=signal.SIGKILL, ranks=(0, 1)):
    """Lets the process of one of these ranks end when it has done a step."""

    def end(self, done):
        if done == step and int(os.environ["RANK"]) in ranks:
            os.kill(os.getpid(), number)

    Screen.step = end


def go_on_together(run):
    assert together(lambda rank: resume(str(run)) and None) == [0, 0]
