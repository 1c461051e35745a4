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
PAUSE = timedelta(seconds=1)
"""The time between two looks at whether this process is asked."""
ASKED = "flowconf/asked"


class Watch:
    """Answers for this process, and asks the others."""

    def __init__(self, store: Store, rank: int, size: int, timeout: int) -> None:
        self.rank, self.size, self.timeout = rank, size, timeout
        self._store = store
        self._is_silent = threading.Event()
        listening: Any = store
        listening = listening.clone()  # another connection, because waiting occupies it
        self._thread = threading.Thread(target=self._answer, args=(listening,), name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering.

        A thread that is in a call of the store while the interpreter shuts down would abort the process.
        """
        self._is_silent.set()
        self._thread.join(GRACE.total_seconds())

    def explained(self, problem: BaseException, resume: str | None) -> RunError | None:
        """The error that names the processes that do not respond, if `problem` is that this one has waited too long.

        `resume` is the command to resume the run.
        """
        words = str(problem).lower()
        if not isinstance(problem, RuntimeError) or not ("timed out" in words or "timeout" in words):
            return None
        self._is_silent.set()
        self._store.set(_answer_of(self.rank), "")
        self._store.set(ASKED, "")
        silent = [text for rank in range(self.size) if (text := self._asked(rank))]
        message = "; ".join(silent) or "the processes did not respond to each other"
        advice = "raise `trainer.timeout` if this is expected"
        advice += "" if resume is None else f"; to resume: {resume}"
        return RunError(Diagnostic("FC0702", message, path="trainer.timeout", advice=advice))

    def _asked(self, rank: int) -> str | None:
        """The activity of the process `rank`, in words; None if it waits."""
        key, silent = _answer_of(rank), f"the process of rank {rank} did not respond for {self.timeout:,} s"
        end = time.monotonic() + 2 * GRACE.total_seconds()
        while not self._store.check([key]):  # `wait` would print that it has waited in vain
            if time.monotonic() > end:
                return f"{silent}, and does not answer"
            time.sleep(0.1)
        doing = self._store.get(key).decode()
        return f"{silent}: it is at {doing}" if doing else None

    def _answer(self, store: Store) -> None:
        """Answer when this process is asked, unless it waits as well or has ended."""
        with suppress(dist.DistError):  # the team has ended
            while not store.check([ASKED]):  # `wait` could not be interrupted by `close`
                if self._is_silent.wait(PAUSE.total_seconds()):
                    return
            if not self._is_silent.wait(GRACE.total_seconds()):
                store.set(_answer_of(self.rank), _doing())
                time.sleep(GRACE.total_seconds())  # the one that asked reports it
                os._exit(1)


def _answer_of(rank: int) -> str:
    return f"flowconf/doing/{rank}"


def _doing() -> str:
    """The line that the main thread is at: the innermost one in the user's files, or else in any."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    frames = traceback.extract_stack(frame)
    found = next((one for one in reversed(frames) if is_own_file(one.filename)), frames[-1])
    return f"{shown_path(found.filename)}:{found.lineno}, in `{found.name}`"
