"""Signals that ask a run to end, from a user or from the scheduler of a cluster, and what becomes of the run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

Handler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """The run was asked to end, and everything is saved."""


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """A block in which `handler` is called for all of `SIGNALS`, but for those that this process was told to ignore.

    Outside of the main thread, where Python takes no signals, nothing changes.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        known = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: known[number] for number in SIGNALS if known[number] not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def interruptible() -> AbstractContextManager[None]:
    """A block that any of `SIGNALS` ends at once, by `KeyboardInterrupt`."""
    return handled(_interrupt)


def uninterrupted() -> AbstractContextManager[None]:
    """A block that none of `SIGNALS` ends: what it does takes a moment, and must be done."""
    return handled(lambda number, frame: None)


@contextmanager
def signals_later() -> Iterator[None]:
    """A block at whose end the first of the signals is delivered that come within it.

    What is forked in it starts with all of them blocked. Blocking is not enough here: another thread may take a signal.
    """
    heard: list[int] = []
    try:
        with handled(lambda number, frame: heard.append(number)):
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        if heard:
            signal.raise_signal(heard[0])


def leave_signals_to_the_parent() -> None:
    """In a process that was forked in `signals_later`: the process that forked it says when it ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # those that have come are forgotten
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Stop:
    """Within the block a signal only sets `asked`; a second one ends the run where it is.

    `parent` is the process without which this one is to end, too.
    """

    def __init__(self, told: Callable[[], None] = lambda: None, parent: int | None = None) -> None:
        self.told = told
        self.parent = parent
        self._asked = False
        self._block = ExitStack()

    @property
    def asked(self) -> bool:
        return self._asked or (self.parent is not None and os.getppid() != self.parent)

    def __enter__(self) -> Stop:
        self._block.enter_context(handled(self._heard))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.close()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self.told()
