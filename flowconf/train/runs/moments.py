"""Snapshots at some steps of a run, evenly spread over it, however long it is."""

from __future__ import annotations

from copy import deepcopy
from typing import Any


class Moments:
    """The first entry of a log and every second, fourth, ... after it, and the latest one.

    Which ones are kept does not depend on how often the log is read.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[int, Any]] = []
        self._every, self._seen = 1, 0
        self._latest: tuple[int, Any] | None = None

    def add(self, step: int, value: Any, most: int) -> None:
        """Note what is known at a step, again if it is the same step; at most `most` entries are kept.

        Copies `value` if it is kept.
        """
        if self._latest is not None and self._latest[0] == step:
            if self._kept[-1][0] == step:
                self._kept[-1] = step, deepcopy(value)
            return
        if self._seen % self._every == 0:
            self._kept.append((step, deepcopy(value)))
        self._seen += 1
        self._latest = step, value
        while len(self._kept) > max(most, 1):
            self._kept, self._every = self._kept[::2], 2 * self._every

    def all(self) -> list[tuple[int, Any]]:
        """Steps and what was known then, in order."""
        if self._latest is None or self._kept[-1][0] == self._latest[0]:
            return self._kept
        return [*self._kept, self._latest]
