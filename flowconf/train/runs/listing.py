"""Lists runs: the settings in which they differ, and their results."""

from __future__ import annotations

import operator
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from flowconf.graph.weights.records import lacks, read_record
from flowconf.graph.weights.sources import CONFIG, RECORD, kept_steps
from flowconf.report import (
    ConfigError,
    Diagnostic,
    FlowconfError,
    Place,
    Suggestion,
    printable,
    shortened,
    shown_path,
    suggest,
)
from flowconf.report.columns import aligned
from flowconf.text.documents import read
from flowconf.text.near_files import near_path
from flowconf.text.write import inline
from flowconf.train.runs.lock import is_held
from flowconf.train.screen import number

IGNORED = (
    "trainer.runs",
    "trainer.progress",
    "trainer.tensorboard",
    "trainer.report",
    "trainer.keep",
    "trainer.statistics",
    "loggers",
    "callbacks",
)
"""Settings that do not affect results."""
LONGEST = 32
FEW = 8
"""How many steps are listed."""
DIED = "died"
"""The status of a running run whose process has died."""
ABSENT = object()
CONDITION = re.compile(r"(?P<key>[^=<>!]+)(?P<sign>[<>!]=|[=<>])(?P<value>.*)")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NO_SETTINGS = "the run's settings cannot be read, so it is not compared with others"


@dataclass
class Listed:
    """One run: its folder, its record, and its settings by their dotted keys."""

    folder: Path
    record: dict[str, Any]
    settings: dict[str, Any]
    differs: dict[str, Any] = field(default_factory=dict)
    """The settings that differ between runs of the group."""
    averaged: list[Path] = field(default_factory=list)
    """The folders of the runs whose mean this is, if it is one."""
    deviations: dict[str, float] = field(default_factory=dict)
    """The standard deviation of each metric between these runs."""

    @property
    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = self.record["metrics"]
        return {name: value for name, value in found.items() if name.count("/") == 1}

    @property
    def searched(self) -> dict[str, Any]:
        """The keys and values that a condition can match, and by which runs can be sorted."""
        record = self.record
        return {
            "config": Path(record["config"]).stem,
            "status": record["status"],
            **({"sweep": record["sweep"]} if "sweep" in record else {}),
            **self.settings,
            **record["metrics"],
        }

    def as_data(self) -> dict[str, Any]:
        """The run as plain data; `run` is its folder, `folder` the working directory it was started in.

        `kept` are the weights that it has kept beside the best and last ones, and what they are best of.
        """
        if self.averaged:
            return {
                "config": self.record["config"],
                "runs": [str(folder) for folder in self.averaged],
                "differs": self.differs,
                "metrics": self.record["metrics"],
                "deviations": self.deviations,
            }
        from flowconf.graph.weights.kept import described

        return {"run": str(self.folder), **self.record, "differs": self.differs, "kept": described(self.folder)}


@dataclass
class RunGroup:
    """The runs of one config file."""

    config: str
    runs: list[Listed]


def list_runs(
    folder: str | Path, sort: str | None = None, where: Sequence[str] = (), over: str | None = None
) -> tuple[list[RunGroup], list[Diagnostic]]:
    """The runs below `folder` by config, oldest first; and warnings.

    `sort` is a metric (best first), or a setting, `status` or `config` (ascending). Each item of `where` is a condition
    on one of these, such as `status=failed`, `seed!=0` or `val/accuracy>0.9`. `over` is a setting, such as `seed`: runs
    that differ in it alone are listed as one, with the mean of each metric. Raises `ConfigError` if the folder does not
    exist, or if no run has the key.
    """
    warnings: list[Diagnostic] = []
    runs = [run for file in records_below(Path(folder)) if (run := listed(file, warnings)) is not None]
    for condition in where:
        runs = _matching(runs, condition)
    if over is not None and runs:
        runs = _averaged(runs, over)
    if sort is not None and runs:
        runs = _sorted(runs, sort)
    groups: dict[str, list[Listed]] = {}
    for run in sorted(runs, key=lambda run: str(run.record["config"])):
        groups.setdefault(run.record["config"], []).append(run)
    return [RunGroup(config, compared(found)) for config, found in groups.items()], warnings


def _averaged(runs: list[Listed], over: str) -> list[Listed]:
    """The finished runs, those that differ in the setting `over` alone as one; of equal runs, the newest counts.

    Raises `ConfigError` if no run has the setting.
    """
    known = dict.fromkeys(key for run in runs for key in run.settings)
    if over not in known:
        place, message = Place(word=f"--over {over}"), f"no run has the setting `{over}`"
        raise ConfigError(Diagnostic("FC0402", message, place, advice=suggest(over, known, "settings")))
    sets: dict[str, dict[str, Listed]] = {}
    for run in sorted(runs, key=lambda run: str(run.record.get("started"))):
        if run.record["status"] == "finished":
            rest = {key: value for key, value in run.settings.items() if key != over and not is_ignored(key)}
            alike = sets.setdefault(inline([run.record["config"], rest]), {})
            alike[inline(run.settings.get(over))] = run
    return [_mean([*alike.values()], over) for alike in sets.values()]


def _mean(runs: Sequence[Listed], over: str) -> Listed:
    """Several runs as one, with the means of their metrics, and without the setting `over`."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.record["metrics"].items():
            found.setdefault(name, []).append(value)
    record = {**runs[0].record, "metrics": {name: fmean(values) for name, values in found.items()}}
    settings = {key: value for key, value in runs[0].settings.items() if key != over}
    deviations = {name: stdev(values) for name, values in found.items() if len(values) > 1}
    return Listed(runs[0].folder, record, settings, averaged=[run.folder for run in runs], deviations=deviations)


def table(group: RunGroup) -> str:
    """The runs of a config as aligned columns."""
    keys = list(dict.fromkeys(key for run in group.runs for key in run.differs))
    metrics = list(dict.fromkeys(name for run in group.runs for name in run.metrics))
    title = f"{printable(shown_path(group.config))}  ({shown_path(group.runs[0].folder.parent)})"
    if group.runs[0].averaged:
        means = [[str(len(run.averaged)), *_settings(run, keys), *_values(run, metrics)] for run in group.runs]
        return "\n".join([title, *aligned([["runs", *keys, *metrics], *means])])
    kept = [_steps(kept_steps(run.folder)) for run in group.runs]
    swept = any("sweep" in run.record for run in group.runs)
    keeps = any(steps != "-" for steps in kept)
    rows = [["run", *(["sweep"] if swept else []), "status", "took", *keys, *metrics, *(["kept"] if keeps else [])]]
    for run, steps in zip(group.runs, kept, strict=True):
        sweep = [run.record.get("sweep", "-")] if swept else []
        cells = [*_settings(run, keys), *_values(run, metrics), *([steps] if keeps else [])]
        rows.append([run.folder.name, *sweep, run.record["status"], time_taken(run.record) or "-", *cells])
    return "\n".join([title, *aligned(rows)])


def _settings(run: Listed, keys: Sequence[str]) -> list[str]:
    """The settings of a run as cells."""
    return [shortened(inline(run.differs[key]), LONGEST) if key in run.differs else "-" for key in keys]


def _values(run: Listed, metrics: Sequence[str]) -> list[str]:
    """The metrics of a run as cells, with their deviations if it is a mean."""
    cells = []
    for name in metrics:
        text = number(run.metrics[name]) if name in run.metrics else "-"
        if (deviation := run.deviations.get(name)) is not None:
            decimals = text.partition(".")[2]
            text += f" ± {deviation:.{len(decimals)}f}" if decimals.isdecimal() else f" ± {number(deviation)}"
        cells.append(text)
    return cells


def _steps(steps: Sequence[int]) -> str:
    """Steps as a cell of a table."""
    if len(steps) > FEW:
        return f"{len(steps)} steps up to {steps[-1]}"
    return ", ".join(map(str, steps)) or "-"


def records_below(root: Path) -> list[Path]:
    """The records of `root` itself, and of the folders one and two levels below it. Raises `ConfigError`."""
    if not root.exists():
        close = near_path(str(root))
        advice = None if close is None else Suggestion(close)
        raise ConfigError(Diagnostic("FC0301", f"the folder `{root}` does not exist", Place(str(root)), advice=advice))
    if not root.is_dir():
        raise ConfigError(Diagnostic("FC0301", f"expected a folder, but `{root}` is a file", Place(str(root))))
    os.scandir(root).close()  # an unreadable folder would seem to be empty
    return sorted(_records(root, levels=2))


def _records(folder: Path, levels: int) -> Iterator[Path]:
    """The records of a folder and of those below it; one that cannot be searched counts as a run."""
    file, inner = folder / RECORD, []
    try:
        is_run = file in folder.iterdir()
        if levels and not is_run:
            inner = [one for one in folder.iterdir() if one.is_dir()]
    except PermissionError:
        is_run = True
    if is_run:
        yield file
    for one in inner:
        yield from _records(one, levels - 1)


def listed(file: Path, warnings: list[Diagnostic]) -> Listed | None:
    """The run with the record `file`, or None, with a warning, if the record cannot be read."""
    found, wrong = read_record(file)
    wrong = wrong or lacks(found)
    if not wrong and has_died(file.parent, found):
        found["status"] = DIED
    if wrong:
        message = f"a run is not listed, because its record cannot be read: {wrong}"
        warnings.append(Diagnostic("FC0702", message, Place(str(file)), severity="warning"))
        return None
    try:
        settings = dict(flat(read(file.parent / CONFIG).data))
    except FlowconfError as error:
        settings = {}
        warnings += [replace(diagnostic, severity="warning", advice=NO_SETTINGS) for diagnostic in error.diagnostics]
    return Listed(file.parent, found, settings)


def has_died(run: Path, record: Mapping[str, Any]) -> bool:
    """Whether no process holds the lock of a running run; unknown, and False, for a run of another machine."""
    if record["status"] != "running" or record.get("host") != platform.node():
        return False
    try:
        return not is_held(run)
    except OSError:
        return False


def _matching(runs: list[Listed], condition: str) -> list[Listed]:
    """The runs that match a condition. Raises `ConfigError` for a key that no run has."""
    place = Place(word=f"--where {condition}")
    found = CONDITION.fullmatch(condition)
    if found is None:
        message = "expected a condition such as `status=failed`, `seed!=0` or `val/accuracy>0.9`"
        raise ConfigError(Diagnostic("FC0402", message, place))
    key, sign, value = (part.strip() for part in found.groups())
    known = dict.fromkeys(key for run in runs for key in run.searched)
    if known and key not in known:
        message = f"no run has the setting or value `{key}`"
        raise ConfigError(Diagnostic("FC0402", message, place, advice=suggest(key, known, "settings and values")))
    having = [run for run in runs if key in run.searched]
    if sign in COMPARISONS:
        try:
            limit = float(value)
        except ValueError:
            message = f"`{sign}` requires a number, got `{value}`"
            raise ConfigError(Diagnostic("FC0402", message, place)) from None
        numbers = [(run, run.searched[key]) for run in having]
        numbers = [(run, one) for run, one in numbers if isinstance(one, int | float) and not isinstance(one, bool)]
        return [run for run, one in numbers if COMPARISONS[sign](one, limit)]
    settings = [(run, run.searched[key]) for run in having]
    return [run for run, one in settings if (value in (str(one), inline(one))) == (sign == "=")]


def compared(runs: list[Listed]) -> list[Listed]:
    """Set `differs` of each run to the settings in which the runs differ."""
    known = [run for run in runs if run.settings]
    for key in dict.fromkeys(key for run in known for key in run.settings if not is_ignored(key)):
        values = [run.settings.get(key, ABSENT) for run in known]
        if any(value != values[0] for value in values):
            for run in known:
                if key in run.settings:
                    run.differs[key] = run.settings[key]
    return runs


def is_ignored(key: str) -> bool:
    """Whether a setting does not affect results."""
    return any(key == ignored or key.startswith(f"{ignored}.") for ignored in IGNORED)


def flat(data: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """The settings in plain data by their dotted keys."""
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, data


def _sorted(runs: list[Listed], value: str) -> list[Listed]:
    """The runs sorted by a metric, best first, or by a setting; which metrics are better if smaller says the config."""
    metrics = sorted({name for run in runs for name in run.record["metrics"]})
    known = dict.fromkeys([*metrics, *(key for run in runs for key in run.searched)])
    if value not in known:
        message = f"no run has the setting or value `{value}`"
        place = Place(word=f"--sort {value}")
        raise ConfigError(Diagnostic("FC0402", message, place, advice=suggest(value, known, "settings and values")))
    if value not in metrics:
        return sorted(runs, key=lambda run: _order(run.searched.get(value, ABSENT)))
    smaller = {run.record["config"] for run in runs if _direction(run, value) == "min"}
    return sorted(runs, key=lambda run: _rank(run, value, run.record["config"] in smaller))


def _direction(run: Listed, value: str) -> str | None:
    """`min` or `max`: which values are better, as the config of a run says; None if it does not."""
    if run.settings.get("trainer.best") == value and run.settings.get("trainer.mode") is not None:
        return str(run.settings["trainer.mode"])
    name = value.split("/")[1]
    from flowconf.language.sections.directions import of_function  # which takes longer than listing

    return "min" if name == "loss" else of_function(str(run.settings.get(f"metrics.{name}.fn")))


def _rank(run: Listed, value: str, smaller: bool) -> tuple[bool, float]:
    """Runs without the value come last."""
    found = run.record["metrics"].get(value)
    if found is None or found != found:
        return True, 0.0
    return False, found if smaller else -found


def _order(value: object) -> tuple[int, float, str]:
    """Numbers by size, then texts; runs without the value come last."""
    if isinstance(value, int | float):
        return 0, value, ""
    return 2 if value is ABSENT else 1, 0.0, str(value)


def time_taken(record: Mapping[str, Any]) -> str | None:
    """How long a run took, as `h:mm:ss`; None if it has not ended, or the clock was set back meanwhile."""
    started, ended = record.get("started"), record.get("ended")
    if not started or not ended:
        return None
    taken = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
    return None if taken < timedelta() else str(timedelta(seconds=int(taken.total_seconds())))
