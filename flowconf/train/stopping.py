"""Handling of signals that stop a run, from a user or from the scheduler of a cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

ENDING = "ending"
"""In a sweep's folder: a file that ends the runs of its other processes."""
SWEEP = "FLOWCONF_SWEEP"
"""The environment variable with the process of a sweep, and the file that it makes to end the runs of its launcher."""

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


@contextmanager
def ending_together(file: Path, alone: Callable[[], bool]) -> Iterator[None]:
    """Within the block, a signal makes `file`, which ends the runs that a launcher trains in other processes.

    They finish their step and save. A second signal raises `KeyboardInterrupt`, and so does the first one if the runs
    are trained `alone`, in this process, or if there are none yet. Raises `KeyboardInterrupt` at the end if the file
    was made.
    """

    def heard(number: int, frame: FrameType | None) -> None:
        if alone() or file.exists() or not file.parent.is_dir():
            raise KeyboardInterrupt
        file.touch()

    os.environ[SWEEP] = f"{os.getpid()} {file}"
    try:
        with handled(heard):
            yield
    except Exception as problem:
        if file.exists():  # a process of the launcher that trained nothing may have been killed by the same signal
            raise KeyboardInterrupt from problem
        raise
    finally:
        del os.environ[SWEEP]
        asked = file.exists()
        file.unlink(missing_ok=True)
    if asked:
        raise KeyboardInterrupt


def survive_signals() -> None:
    """From now on, let signals do nothing in this process of a launcher, except within other blocks."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Stop:
    """Within `listening`, a signal only sets `asked`; a second one ends the run immediately.

    `asked` is also set when the process `parent` has exited, or the sweep that this process belongs to is ending.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None, parent: int | None = None) -> None:
        self.on_first = on_first
        sweep, _, file = os.environ.get(SWEEP, "").partition(" ")
        self.parent = os.getppid() if sweep == str(os.getppid()) else parent
        self.file = Path(file) if file else None
        self._asked = False

    @property
    def asked(self) -> bool:
        return (
            self._asked
            or (self.parent is not None and os.getppid() != self.parent)
            or (self.file is not None and self.file.exists())
        )

    def listening(self) -> AbstractContextManager[None]:
        """A block in which signals are heard."""
        return handled(self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self.on_first()
