"""A process of a team that does not respond: which one it is, and what it is doing.

When a process has waited too long for the others, it asks all of them over the store of the team. In each, a thread
answers with the line that the process is at, and ends it. A process that waits for the others itself does not count.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from flowconf.report import Diagnostic, RunError, shown_path
from flowconf.report.raised import is_own_file

GRACE = timedelta(seconds=10)
"""How long processes that wait for the same one may differ in when they give up."""
FOREVER = timedelta(days=10_000)
ASKED = "flowconf/asked"


class Watch:
    """Answers for this process, and asks the others."""

    def __init__(self, store: Store, rank: int, size: int, timeout: int) -> None:
        self.rank, self.size, self.timeout = rank, size, timeout
        self._store = store
        self._waits = threading.Event()
        listening: Any = store
        listening = listening.clone()  # another connection, because waiting occupies it
        threading.Thread(target=self._answer, args=(listening,), name="watch", daemon=True).start()

    def explained(self, problem: BaseException, resume: str | None) -> RunError | None:
        """The error that names the processes that do not respond, if `problem` is that this one has waited too long.

        `resume` is the command to resume the run.
        """
        if not _is_timeout(problem):
            return None
        self._waits.set()
        self._store.set(_answer_of(self.rank), "")
        self._store.set(ASKED, "")
        silent = [text for rank in range(self.size) if (text := self._asked(rank))]
        message = "; ".join(silent) or "the processes did not respond to each other"
        advice = "raise `trainer.timeout` if this is expected"
        advice += "" if resume is None else f"; to resume: {resume}"
        return RunError(Diagnostic("FC0702", message, path="trainer.timeout", advice=advice))

    def _asked(self, rank: int) -> str | None:
        """What the process `rank` is doing, in words; None if it waits."""
        key, silent = _answer_of(rank), f"the process of rank {rank} did not respond for {self.timeout:,} s"
        end = time.monotonic() + 2 * GRACE.total_seconds()
        while not self._store.check([key]):  # `wait` would print that it has waited in vain
            if time.monotonic() > end:
                return f"{silent}, and does not answer"
            time.sleep(0.1)
        doing = self._store.get(key).decode()
        return f"{silent}: it is at {doing}" if doing else None

    def _answer(self, store: Store) -> None:
        """Wait until this process is asked, and answer unless it waits as well."""
        with suppress(dist.DistError):  # the team has ended
            store.wait([ASKED], FOREVER)
            if not self._waits.wait(GRACE.total_seconds()):
                store.set(_answer_of(self.rank), _doing())
                time.sleep(GRACE.total_seconds())  # the one that asked reports it
                os._exit(1)


def _is_timeout(problem: BaseException) -> bool:
    text = str(problem).lower()
    return isinstance(problem, RuntimeError) and ("timed out" in text or "timeout" in text)


def _answer_of(rank: int) -> str:
    return f"flowconf/doing/{rank}"


def _doing() -> str:
    """The line that the main thread is at: the innermost one in the user's files, or else in any."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    frames = traceback.extract_stack(frame)
    found = next((one for one in reversed(frames) if is_own_file(one.filename)), frames[-1])
    return f"{shown_path(found.filename)}:{found.lineno}, in `{found.name}`"
