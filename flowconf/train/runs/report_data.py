"""Runs as the data of a report: records, settings with their origins, curves, phases, and weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from flowconf.graph.weights.sources import RECORD, find_run_folder
from flowconf.report import Diagnostic, shown_path
from flowconf.text.write import inline
from flowconf.train.runs.listing import Listed, compared, listed
from flowconf.train.runs.lock import LINES

VERSION = 1
MOST_POINTS = 1500
"""The number of points of a curve in a report; longer ones are thinned."""
NOT_CURVES = ("step", "epoch", "phase")


def report_data(
    folders: Sequence[Path], graphs: Mapping[Path, Mapping[str, Any]]
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """The data of the runs in some folders, and warnings about what cannot be read.

    `graphs` has the data of pictures by folder, as far as they are known. Raises `ConfigError` if a folder is no run.
    """
    warnings: list[Diagnostic] = []
    found = [listed(find_run_folder(folder) / RECORD, warnings) for folder in folders]
    runs = compared([run for run in found if run is not None])
    keys = dict.fromkeys(key for run in runs for key in run.differs)
    differs = [{"key": key, "values": [_text(run.differs, key) for run in runs]} for key in keys]
    shown = [_run(run, graphs.get(run.folder), _names(runs)[number]) for number, run in enumerate(runs)]
    return {"format": "flowconf report", "version": VERSION, "runs": shown, "differs": differs}, warnings


def _run(run: Listed, graph: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    lines = list(_lines(run.folder / LINES))
    curves, thinned = _curves(lines)
    return {
        "name": name,
        "status": run.record["status"],
        "facts": _facts(run),
        "metrics": {key: value for key, value in run.record["metrics"].items() if math.isfinite(value)},
        "curves": curves,
        "thinned": thinned,
        "phases": _phases(lines),
        "steps_per_epoch": _steps_per_epoch(lines),
        "settings": _settings(run),
        "weights": _read(run.folder / "weights.txt").splitlines(),
        "environment": _environment(run.record),
        "graph": graph,
    }


def _names(runs: Sequence[Listed]) -> list[str]:
    """The folder of each run, after that of its config if there are several configs."""
    several = len({run.folder.parent for run in runs}) > 1
    return [f"{run.folder.parent.name}/{run.folder.name}" if several else run.folder.name for run in runs]


def _facts(run: Listed) -> list[tuple[str, str]]:
    record = run.record
    found = [("config", shown_path(str(record["config"]))), ("status", str(record["status"]))]
    found += [("with", " ".join(map(str, record["overrides"])))] if record.get("overrides") else []
    found += [
        ("started", str(record["started"])[:19].replace("T", " ")),
        ("took", _took(record)),
        ("seed", str(record.get("seed", ""))),
    ]
    git = record.get("git")
    if isinstance(git, Mapping) and git.get("commit"):
        found.append(("commit", str(git["commit"])[:12] + (", with changes" if git.get("changed") else "")))
    return [(name, text) for name, text in found if text]


def _took(record: Mapping[str, Any]) -> str:
    started, ended = record.get("started"), record.get("ended")
    if not started or not ended:
        return ""
    return f"{(datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds():,.0f} s"


def _environment(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment of a run as names and texts."""
    found = record.get("environment")
    flat = {"host": record.get("host"), **(found if isinstance(found, Mapping) else {})}
    flat |= flat.pop("packages", None) or {}
    command = flat.pop("command", None)
    flat["command"] = " ".join(map(str, command)) if isinstance(command, list) else command
    return [(str(name), inline(value)) for name, value in flat.items() if value not in (None, [], "")]


def _settings(run: Listed) -> list[tuple[str, str, str]]:
    """The settings with where they were written."""
    try:
        origins = json.loads(_read(run.folder / "origins.json") or "{}")
    except ValueError:
        origins = {}
    rows = [(key, inline(value), str(origins.get(key, ""))) for key, value in run.settings.items()]
    return [(key, value, "" if value.startswith("{") and not origin else origin) for key, value, origin in rows]


def _text(values: Mapping[str, Any], key: str) -> str:
    return inline(values[key]) if key in values else ""


def _read(file: Path) -> str:
    """The text of a file of a run; empty if it has none."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log; the last one of a run that is being written, or was killed, may be part of one."""
    for text in _read(file).splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            yield line


def _curves(lines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], bool]:
    """Name -> steps and values, and whether any curve was thinned."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in NOT_CURVES and isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(name, []).append((line["step"], float(f"{value:.6g}")))
    thin = {name: _thinned(sorted(dict(curve).items())) for name, curve in points.items()}
    curves = {
        name: {"steps": [at for at, _ in curve], "values": [value for _, value in curve]}
        for name, curve in thin.items()
    }
    return curves, any(len(thin[name]) < len(dict(curve)) for name, curve in points.items())


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `MOST_POINTS` of a curve: the smallest and largest value of each of equal parts, so that peaks stay."""
    if len(points) <= MOST_POINTS:
        return points
    size = -(-len(points) // (MOST_POINTS // 2))
    parts = (points[first : first + size] for first in range(0, len(points), size))
    ends = ((min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])) for part in parts)
    return [point for pair in ends for point in sorted(set(pair))]


def _phases(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The phases in order: their name, and the steps between which they were active."""
    found: list[dict[str, Any]] = []
    before = 0
    for line in lines:
        if "phase" not in line:
            continue
        if not found or found[-1]["name"] != line["phase"]:
            found.append({"name": line["phase"], "from": before, "to": line["step"]})
        found[-1]["to"] = before = line["step"]
    return found


def _steps_per_epoch(lines: Sequence[Mapping[str, Any]]) -> float:
    """Steps of an epoch, by the last line that has an epoch; 0 if none has."""
    last = next((line for line in reversed(lines) if line.get("epoch")), None)
    return 0.0 if last is None else round(last["step"] / last["epoch"], 3)
