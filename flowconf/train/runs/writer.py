"""Writes the checkpoints of a run in the background."""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable
from concurrent.futures import Future, wait


class Writer:
    """Writes one checkpoint at a time, in a thread. The error of a write is raised once, by the next call."""

    def __init__(self) -> None:
        self._writing: Future[None] | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Call `write` in a thread, once the checkpoint before is written."""
        self.wait()
        self._writing = Future()
        start_new_thread(_call, (write, self._writing))  # `Thread` would wait until it runs

    def check(self) -> None:
        """Raise the error of a write that has failed."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until everything is written. Raises its error."""
        error = self.end()
        if error is not None:
            raise error

    def end(self) -> BaseException | None:
        """Wait until everything is written, and return its error."""
        if self._writing is None:
            return None
        wait([self._writing])
        written, self._writing = self._writing, None
        return written.exception()


def _call(write: Callable[[], None], result: Future[None]) -> None:
    """Call `write`, and note its end or its error in `result`."""
    try:
        write()
    except BaseException as error:  # noqa: BLE001 - raised where the result is read
        result.set_exception(error)
    else:
        result.set_result(None)
