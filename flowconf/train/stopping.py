"""Stopping a run by a signal: the current step is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The run was interrupted, and everything is saved."""


class Stop:
    """Within the block, SIGINT and SIGTERM only set `asked`; a second one ends the run immediately.

    Does nothing outside of the main thread, where Python cannot handle signals.
    """

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        self.asked = False
        self.told = told
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.told()
