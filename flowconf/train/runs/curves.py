"""The curves of a run from its log, thinned to what a chart can show."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import ItemsView, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from flowconf.train.runs.log_reader import LogReader, sampled
from flowconf.train.runs.logged_media import LoggedMedia
from flowconf.train.runs.moments import Moments
from flowconf.train.runs.resources import RESOURCES

MOST_RANGES = 750
"""The number of ranges of steps of a curve: a chart is hardly wider in pixels."""
MOST_CURVES = 5000
"""The number of curves of a run that are shown."""
MOST_PHASES = 1000
MOST_NUMBERS = 20_000
"""About the number of statistics that are kept of all steps."""
MOST_MOMENTS = 60
"""The number of steps that statistics are kept of."""
NOT_CURVES = ("step", "epoch", "phase")
LARGEST = sys.float_info.max
TITLES = {
    "rows_per_second": ("resources/rows per second", 1),
    "processors": ("resources/processors in use", 1),
    "memory": ("resources/memory, MB", 1e6),
    "device_memory": ("resources/device memory, MB", 1e6),
}
"""A key in the log of resources -> its curve, and the unit."""


class Curve:
    """The smallest and the largest value of each range of steps, with the steps that have them.

    Ranges are one step wide until there would be more than `MOST_RANGES`; then they are twice as wide, and so on. They
    begin at multiples of their width, so those of several curves align, and do not depend on how often the log was
    read. `change` numbers the reads: `points` can give what changed after one of them.
    """

    def __init__(self, change: int = 0) -> None:
        self.width = 1
        self._indices: list[int] = []
        self._ranges: list[_Range] = []
        self._restarted = change

    def add(self, step: int, value: float, change: int = 0) -> None:
        index = step // self.width
        position = bisect_left(self._indices, index)
        is_known = position < len(self._indices) and self._indices[position] == index
        if position < len(self._indices) - is_known:
            self._restarted = change
        if is_known and self.width > 1:
            self._ranges[position].take(step, value, change)
            return
        if is_known:
            self._ranges[position] = _Range(step, value, change)
            return
        self._indices.insert(position, index)
        self._ranges.insert(position, _Range(step, value, change))
        if len(self._indices) > MOST_RANGES:
            self._widen(change)

    def points(self, since: int = -1) -> dict[str, Any]:
        """Steps and values that changed after `since`; `whole` if they replace all points before."""
        whole = self._restarted > since
        first = 0 if whole else self._first_after(since)
        points = [point for one in self._ranges[first:] for point in one.points()]
        found = {"steps": [at for at, _ in points], "values": [float(f"{value:.6g}") for _, value in points]}
        return found | {"width": self.width, "whole": whole}

    def _first_after(self, since: int) -> int:
        """The position of the first range that changed after `since`."""
        position = len(self._ranges)
        while position and self._ranges[position - 1].change > since:
            position -= 1
        return position

    def _widen(self, change: int) -> None:
        self.width *= 2
        self._restarted = change
        indices: list[int] = []
        ranges: list[_Range] = []
        for index, one in zip(self._indices, self._ranges, strict=True):
            if indices and indices[-1] == index // 2:
                ranges[-1].join(one)
            else:
                indices.append(index // 2)
                ranges.append(one)
        self._indices, self._ranges = indices, ranges
        if len(indices) > MOST_RANGES:
            self._widen(change)


class _Range:
    """The smallest and the largest value of a range, and the number of the read that changed it last."""

    __slots__ = ("change", "high", "high_at", "low", "low_at")

    def __init__(self, step: int, value: float, change: int) -> None:
        self.low_at = self.high_at = step
        self.low = self.high = value
        self.change = change

    def take(self, step: int, value: float, change: int) -> None:
        if value < self.low:
            self.low_at, self.low, self.change = step, value, change
        elif value > self.high:
            self.high_at, self.high, self.change = step, value, change

    def join(self, later: _Range) -> None:
        self.take(later.low_at, later.low, later.change)
        self.take(later.high_at, later.high, later.change)
        self.change = max(self.change, later.change)

    def points(self) -> list[tuple[int, float]]:
        return sorted({(self.low_at, self.low), (self.high_at, self.high)})


class Logged:
    """The contents of the log of a run: its curves, its phases, and where the run is."""

    def __init__(self, file: Path) -> None:
        self.log = LogReader(file)
        self._restart(0)

    def read(self, change: int = 0) -> bool:
        """Read the next lines of the log. Returns whether there were any, or the log was started again."""
        restarts, lines = self.log.read()
        if restarts:
            self._restart(change)
        for line in lines:
            self._take(line, change)
        _, resources = self.resources.read()
        for line in resources:
            for name, value in line.items():
                if name in TITLES and _is_finite(value) and value >= 0:
                    title, unit = TITLES[name]
                    self._point(title, line["step"], value / unit, change)
        return restarts or bool(lines or resources)

    def sketch(self, change: int) -> None:
        """Take some lines from all over the log, instead of reading it."""
        self._restart(change)
        for line in sampled(self.log.file):
            self._take(line, change)

    def read_all(self) -> None:
        while self.read():
            pass

    @property
    def is_thinned(self) -> bool:
        return any(curve.width > 1 for curve in self.curves.values())

    @property
    def steps_per_epoch(self) -> float:
        """Steps of an epoch, by the last line that has an epoch; 0 if none has."""
        return round(self._last_epoch[0] / self._last_epoch[1], 3) if self._last_epoch[1] else 0.0

    def _restart(self, change: int) -> None:
        self.restarted = change
        self.curves: dict[str, Curve] = {}
        self.has_more_curves = False
        self.statistics: dict[str, dict[str, dict[str, float]]] = {}
        """Kind -> path -> name -> the latest value, such as `gradient`, `stem.weight`, `norm`."""
        self._statistics = 0
        self.moments = Moments()
        """The statistics of some steps."""
        self.resources = LogReader(self.log.file.with_name(RESOURCES))
        self.phases: list[dict[str, Any]] = []
        self.media = LoggedMedia()
        self.step = 0
        self._last_epoch = 0, 0.0

    def _take(self, line: Mapping[str, Any], change: int) -> None:
        step = line["step"]
        for name, value in line.items():
            if name not in NOT_CURVES and _is_finite(value):
                self._point(name, step, value, change)
        self.media.take(line, change)
        if "phase" in line and isinstance(line["phase"], str | None):
            self._phase(line["phase"], step)
        for kind, path, name, value in _statistics_in(line):
            self._statistic(kind, path, name, value)
        if "statistics" in line and self._statistics:
            self.moments.add(step, self.statistics, min(MOST_MOMENTS, MOST_NUMBERS // self._statistics))
        epoch = line.get("epoch")
        if _is_finite(epoch) and epoch >= 0.01:
            self._last_epoch = step, float(epoch)
        self.step = step

    def _point(self, name: str, step: int, value: float, change: int) -> None:
        curve = self.curves.get(name)
        if curve is None:
            if len(self.curves) >= MOST_CURVES:
                self.has_more_curves = True
                return
            curve = self.curves[name] = Curve(change)
        curve.add(step, value, change)

    def _statistic(self, kind: str, path: str, name: str, value: float) -> None:
        latest = self.statistics.setdefault(kind, {}).setdefault(path, {})
        if name not in latest:
            if self._statistics >= MOST_CURVES:
                return
            self._statistics += 1
        latest[name] = value

    def _phase(self, name: object, step: int) -> None:
        """Note which phase is active up to a step, from the step before on."""
        if not self.phases or (self.phases[-1]["name"] != name and len(self.phases) < MOST_PHASES):
            self.phases.append({"name": name, "from": self.step, "to": step})
        self.phases[-1]["to"] = step


def _statistics_in(line: Mapping[str, Any]) -> Iterator[tuple[str, str, str, float]]:
    """The kind, path, name and value of each finite number of `trainer.statistics`."""
    for kind, paths in _items(line.get("statistics")):
        for path, values in _items(paths):
            for name, value in _items(values):
                if _is_finite(value):
                    yield kind, path, name, value


def _is_finite(value: Any) -> TypeGuard[float]:
    """Whether a value of the log is a finite number."""
    return type(value) in (float, int) and abs(value) <= LARGEST


def _items(value: Any) -> ItemsView[str, Any]:
    return value.items() if isinstance(value, dict) else {}.items()
