"""Console output of a run: plain lines, and a progress bar below them if the output is a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from flowconf.report import drawn, printable_lines, why_not

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

REFRESH = 0.1
"""Seconds between two redraws of the bar."""
WIDE = 60
"""Columns of a terminal that has room for a bar beside the numbers."""
SILENCE = 20.0
"""Seconds without output after which a run without a progress bar prints its progress."""


class Screen:
    """Lines and a progress bar on one stream.

    An error while writing to the stream (closed pipe or terminal, full disk) does not end the run: it is reported once
    on standard error, and the run continues without output. `verbose`: print all of a run's header.
    """

    def __init__(self, stream: TextIO | None = None, bar: bool = True, verbose: bool = False) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.wants_bar = bar and self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.verbose = verbose
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._drawn = 0.0
        self._spoke = time.monotonic()

    def say(self, text: str = "") -> None:
        """Print a line, above the bar if there is one."""
        self._spoke = time.monotonic()
        line = printable_lines(text)
        with self._speaking():
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
            else:
                self.stream.write(line + "\n")
                self.stream.flush()

    def start(self, total: int, done: int = 0) -> None:
        """Start the progress bar at `done` of `total` steps."""
        self._spoke = time.monotonic()
        if not self.wants_bar:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=drawn(self.stream))
        bar = [BarColumn()] if console.width >= WIDE else []
        columns = (*bar, MofNCompleteColumn(), TextColumn("{task.description}", markup=False), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, auto_refresh=False, transient=True)
        self._task = self._bar.add_task("", total=total, completed=done)
        with self._speaking():
            self._bar.start()

    def step(self, step: int) -> None:
        """Update the bar after a step; redraws at most ten times per second."""
        if self._bar is None or self._task is None:
            return
        now = time.monotonic()
        if now - self._drawn >= REFRESH:
            self._drawn = now
            with self._speaking():
                self._bar.update(self._task, completed=step, refresh=True)

    def reading(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Show the latest training values: in the bar, or as a line if nothing was printed for a while."""
        text = shown(values)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text)
        elif time.monotonic() - self._spoke > SILENCE:
            self.say(f"  step {step:,} of {total:,}: {text}")

    def close(self) -> None:
        """Remove the bar; lines may follow."""
        with self._speaking():
            if self._bar is not None:
                self._bar.stop()
        self._bar = self._task = None

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            self._bar = self._task = None
            self.wants_bar = False
            with suppress(OSError, ValueError):
                words = f"flowconf: cannot write to the output ({why_not(problem)}); the run continues without it\n"
                sys.stderr.write(words)
            silence(self.stream)


def silence(stream: TextIO) -> None:
    """Redirect a stream to the null device, including its unwritten buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def headline(found: Mapping[str, float]) -> dict[str, float]:
    """The printed results of an evaluation: the loss, metrics, and means of vectors. The rest is only in the logs."""
    several: dict[str, list[float]] = {}
    for name, value in found.items():
        split, metric, *part = name.split("/", 2)
        if not part:
            several[name] = [value]
        elif metric != "loss" and "/" not in part[0]:
            several.setdefault(f"mean {split}/{metric}", []).append(value)
    return {name: sum(values) / len(values) for name, values in several.items()}


def shown(values: Mapping[str, float]) -> str:
    """Named numbers on one line."""
    return "  ".join(f"{name} {number(value)}" for name, value in values.items())


def number(value: float) -> str:
    """A number with four decimals, or four significant digits where that is unreadable."""
    return f"{value:.4f}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"
