"""Handling of signals that stop a run, from a user or from the scheduler of a cluster."""

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
    """The run was interrupted, and everything is saved."""


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """A block in which `handler` is called for all of `SIGNALS`, except those that this process ignores.

    Does nothing outside of the main thread, where Python cannot handle signals.
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
    """A block in which any of `SIGNALS` raises `KeyboardInterrupt`."""
    return handled(_interrupt)


def uninterrupted() -> AbstractContextManager[None]:
    """A block in which all of `SIGNALS` are ignored, for short work that must be completed."""
    return handled(lambda number, frame: None)


@contextmanager
def signals_later() -> Iterator[None]:
    """A block that defers signals to its end, where the first of them is delivered.

    A process forked in it starts with the signals blocked. Another thread may still take a signal that is blocked here.
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
    """Ignore signals in a process forked in `signals_later`: its parent stops it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # discards pending signals
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Stop:
    """Within the block, a signal only sets `asked`; a second one ends the run immediately.

    `asked` is also set when the process `parent` has exited.
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
