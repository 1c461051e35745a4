"""Runs as the data of a report: records, settings with their origins, curves, phases, and weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowconf.graph.weights.sources import RECORD, find_run_folder
from flowconf.report import Diagnostic, bytes_in_words, shown_path
from flowconf.text.write import inline
from flowconf.train.runs.curves import Logged
from flowconf.train.runs.listing import Listed, compared, listed, time_taken
from flowconf.train.runs.lock import LINES
from flowconf.train.runs.log_reader import parsed, text_of
from flowconf.train.runs.predictions import read_predictions
from flowconf.train.runs.statistic_overlays import overlays_of

VERSION = 1
PLACE = re.compile(r"command line, (?P<word>`.*?`)|(?P<file>[^`]+?):(?P<line>\d{1,9}):\d+")


def report_data(
    folders: Sequence[Path], graphs: Mapping[Path, Mapping[str, Any]]
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """The data of the runs in some folders, and warnings about what cannot be read.

    `graphs` has the data of pictures by folder, as far as they are known. Raises `ConfigError` if a folder is no run.
    """
    warnings: list[Diagnostic] = []
    found = [listed(find_run_folder(folder) / RECORD, warnings) for folder in folders]
    runs = compared([run for run in found if run is not None])
    shown = [_run(run, graphs.get(run.folder), name) for run, name in zip(runs, names(runs), strict=True)]
    return {
        "format": "flowconf report",
        "version": VERSION,
        "runs": shown,
        "differs": compared_settings(runs),
    }, warnings


def _run(run: Listed, graph: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    logged = Logged(run.folder / LINES)
    logged.read_all()
    curves = {name: curve.points() for name, curve in logged.curves.items()}
    overlays = {**(graph or {}).get("overlays", {}), **overlays_of(logged.moments.all())}
    return {
        **description(run, name),
        **progress(logged),
        "curves": curves,
        "media": logged.media.as_data(run.folder),
        "graph": graph and {**graph, "accounts": _accounts(run), "overlays": overlays},
    }


def _accounts(run: Listed) -> dict[str, list[str]]:
    """What each load of weights did, by the path that it loaded into: the parts of `weights.txt`, in their order."""
    parts: list[list[str]] = []
    for line in _weights(run):
        if not parts or not line.startswith(" "):
            parts.append([])
        parts[-1].append(line)
    paths = run.record.get("weights", {})
    return dict(zip(paths, parts, strict=True)) if len(paths) == len(parts) else {}


def _weights(run: Listed) -> list[str]:
    return _read(run.folder / "weights.txt").splitlines()


def description(run: Listed, name: str) -> dict[str, Any]:
    """The data of a report about a run, besides its log and its graph."""
    return {
        "name": name,
        "status": run.record["status"],
        "facts": _facts(run),
        "metrics": {key: value for key, value in run.record["metrics"].items() if math.isfinite(value)},
        "settings": _settings(run),
        "weights": _weights(run),
        "predictions": read_predictions(run.folder),
        "environment": _environment(run.record),
    }


def progress(logged: Logged) -> dict[str, Any]:
    """The data of a report about the log of a run, besides its curves."""
    return {
        "step": logged.step,
        "thinned": logged.is_thinned,
        "has_more_curves": logged.has_more_curves,
        "phases": logged.phases,
        "steps_per_epoch": logged.steps_per_epoch,
    }


def compared_settings(runs: Sequence[Listed]) -> list[dict[str, Any]]:
    """The settings in which runs differ, with the value of each run as text."""
    keys = dict.fromkeys(key for run in runs for key in run.differs)
    return [{"key": key, "values": [_text(run.differs, key) for run in runs]} for key in keys]


def names(runs: Sequence[Listed]) -> list[str]:
    """The folder of each run, after that of its config if there are several configs."""
    several = len({run.folder.parent for run in runs}) > 1
    return [f"{run.folder.parent.name}/{run.folder.name}" if several else run.folder.name for run in runs]


def _facts(run: Listed) -> list[tuple[str, str]]:
    record = run.record
    found = [("config", shown_path(record["config"])), ("status", record["status"])]
    found += [("with", " ".join(record["overrides"]))] if record.get("overrides") else []
    found += [
        ("started", str(record.get("started") or "")[:19].replace("T", " ")),
        ("took", time_taken(record) or ""),
        ("seed", str(record.get("seed", ""))),
    ]
    found += _resources(record.get("resources", {}))
    git = record.get("git") or {}
    if git.get("commit"):
        found.append(("commit", str(git["commit"])[:12] + (", with changes" if git.get("changed") else "")))
    return [(name, text) for name, text in found if text]


def _resources(taken: Mapping[str, float]) -> list[tuple[str, str]]:
    """The resources that a finished run took, in words."""
    found = []
    if {"rows_per_second", "steps_per_second"} <= taken.keys():
        rows, steps = (f"{_digits(taken[f'{name}_per_second'])} {name}" for name in ("rows", "steps"))
        speeds = f"{rows} and {steps} per second"
        found.append(("throughput", speeds))
    if "processors" in taken:
        found.append(("processors", f"{taken['processors']:.3g} in use"))
    memory = {"memory": "memory", "device_memory": "device memory"}
    return found + [(name, f"at most {bytes_in_words(taken[key])}") for key, name in memory.items() if key in taken]


def _digits(number: float) -> str:
    """A number with at least four digits, and none after the point if it is large."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"


def _environment(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment of a run as names and texts."""
    flat = {"host": record.get("host"), **record.get("environment", {})}
    flat |= flat.pop("packages", None) or {}
    command = flat.pop("command", None)
    flat["command"] = " ".join(map(str, command)) if isinstance(command, list) else command
    return [(str(name), inline(value)) for name, value in flat.items() if value not in (None, [], "")]


def _settings(run: Listed) -> list[tuple[str, str, str]]:
    """The settings with where they were written."""
    origins = origins_of(run.folder)
    rows = [(key, inline(value), str(origins.get(key, ""))) for key, value in run.settings.items()]
    return [(key, value, "" if value.startswith("{") and not origin else origin) for key, value, origin in rows]


def origins_of(folder: Path) -> dict[str, str]:
    """Where each setting of a run was written, as text."""
    found = parsed(_read(folder / "origins.json"))
    return found if isinstance(found, dict) else {}


def written_place(text: str) -> dict[str, Any]:
    """The place of a text of `origins.json`: a file and line, or a word of the command line; empty for others."""
    place = PLACE.match(str(text))
    if place is None:
        return {}
    line = int(place["line"] or 0)
    return {"word": place["word"]} if place["word"] else {"file": shown_path(place["file"]), "line": line}


def _text(values: Mapping[str, Any], key: str) -> str:
    return inline(values[key]) if key in values else ""


def _read(file: Path) -> str:
    """The text of a file of a run; empty if it has none. A link is not followed: it may lead to any file."""
    try:
        return text_of(file)
    except OSError:
        return ""
