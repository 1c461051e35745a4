"""Runs side by side: the settings in which they differ beside how they ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from flowconf.diagnostics import ConfigError, Diagnostic, FlowconfError, Place, shown_path, suggest
from flowconf.graph.weights.sources import CONFIG, RECORD, record
from flowconf.language.check_training import ERRORS
from flowconf.text import read
from flowconf.train.screen import number

IGNORED = ("trainer.runs", "trainer.progress", "trainer.tensorboard", "loggers")
"""Settings that change no result."""
LONGEST = 32


@dataclass
class Listed:
    """One run: its folder, its record, and its settings by their dotted keys."""

    folder: Path
    record: dict[str, Any]
    settings: dict[str, Any]
    differs: dict[str, Any] = field(default_factory=dict)
    """The settings that are not the same in all runs of the group."""

    @property
    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = self.record.get("metrics", {})
        return {name: value for name, value in found.items() if name.count("/") == 1}

    def as_data(self) -> dict[str, Any]:
        """Everything about the run as plain data."""
        return {"folder": str(self.folder), **self.record, "differs": self.differs}


@dataclass
class Group:
    """The runs of one config file."""

    config: str
    runs: list[Listed]


def list_runs(folder: str | Path, sort: str | None = None) -> list[Group]:
    """The runs below `folder` by config, oldest first, or the best of the value `sort` first.

    Raises `ConfigError` when there is no such folder, or no run has that value.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(Diagnostic("FC0301", f"the folder `{folder}` does not exist", Place(str(folder))))
    groups: dict[str, list[Listed]] = {}
    for file in sorted([*root.glob(f"*/{RECORD}"), *root.glob(f"*/*/{RECORD}")]):
        run = _listed(file.parent)
        groups.setdefault(run.record.get("config", ""), []).append(run)
    found = [Group(config, _compared(runs)) for config, runs in groups.items()]
    if sort is not None:
        _sort(found, sort)
    return found


def table(group: Group) -> str:
    """The runs of a config as aligned columns."""
    keys = list(dict.fromkeys(key for run in group.runs for key in run.differs))
    metrics = list(dict.fromkeys(name for run in group.runs for name in run.metrics))
    rows = [["run", "status", "took", *keys, *metrics]]
    for run in group.runs:
        settings = [_short(run.differs.get(key, "-")) for key in keys]
        values = [number(run.metrics[name]) if name in run.metrics else "-" for name in metrics]
        rows.append([run.folder.name, str(run.record.get("status", "unknown")), _took(run), *settings, *values])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"{shown_path(group.config)}  ({shown_path(str(group.runs[0].folder.parent))})", *lines])


def _listed(run: Path) -> Listed:
    try:
        settings = dict(_flat(read(run / CONFIG).data, ""))
    except FlowconfError:
        settings = {}
    return Listed(run, record(run), settings)


def _compared(runs: list[Listed]) -> list[Listed]:
    keys = dict.fromkeys(key for run in runs for key in run.settings if not _is_ignored(key))
    for key in keys:
        values = [run.settings.get(key) for run in runs]
        if any(value != values[0] for value in values):
            for run in runs:
                run.differs[key] = run.settings.get(key)
    return runs


def _is_ignored(key: str) -> bool:
    return any(key == ignored or key.startswith(f"{ignored}.") for ignored in IGNORED)


def _flat(data: object, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, data


def _sort(groups: list[Group], value: str) -> None:
    known = {name for group in groups for run in group.runs for name in run.metrics}
    if value not in known:
        message = f"no run has the value `{value}`"
        raise ConfigError(Diagnostic("FC0402", message, help=suggest(value, sorted(known), "values")))
    for group in groups:
        name = value.partition("/")[2]
        settings = group.runs[0].settings
        smaller = name == "loss" or settings.get(f"metrics.{name}.fn") in ERRORS
        group.runs.sort(key=lambda run: _rank(run, value, smaller))


def _rank(run: Listed, value: str, smaller: bool) -> tuple[bool, float]:
    """Runs without the value come last."""
    found = run.metrics.get(value)
    if found is None or found != found:
        return True, 0.0
    return False, found if smaller else -found


def _took(run: Listed) -> str:
    started, ended = run.record.get("started"), run.record.get("ended")
    if not started or not ended:
        return "-"
    seconds = int((datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds())
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02}:{seconds % 60:02}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
