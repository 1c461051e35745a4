"""Processes that train together, forked from the test: no start of Python, no agent, the same roads otherwise."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable

from torch.distributed import TCPStore

PATIENCE = 120
"""Seconds after which processes that wait for each other are ended."""


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
