"""The report of a run: a page in its folder, with what is known of the run so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flowconf.draw.data import as_data
from flowconf.draw.heat import NUMBERS, read_overlays
from flowconf.draw.levels import picture
from flowconf.draw.page.assemble import report_page
from flowconf.graph.facts import facts_of, facts_of_graph
from flowconf.graph.graph import Graph
from flowconf.graph.weights.sources import CONFIG
from flowconf.report import Diagnostic, FlowconfError
from flowconf.report.origins import Origins, dotted
from flowconf.text.output import write_atomically
from flowconf.train.objective.predictions import Predictions
from flowconf.train.runs.predictions import write_predictions
from flowconf.train.runs.report_data import origins_of, report_data, written_place

REPORT = "report.html"
SHARE = 0.0025
"""The share of a run's time that its reports may take, apart from the last one."""
FIRST = 0.02
"""The seconds that the first report is expected to take."""


@dataclass
class Reports:
    """Writes the report of a run at its evaluations.

    Each takes some milliseconds, so one is left out if they would take more than `SHARE` of the time of the run so far.
    """

    folder: Path
    graph: Graph
    origins: Origins
    say: Callable[[str], None]
    predictions: Predictions | None = None
    began: float = field(default_factory=time.monotonic)
    spent: float = 0.0
    _picture: dict[str, Any] | None = None

    def write(self, last: bool) -> None:
        """Write the report if it is due, or the `last` one. Raises `OSError`; another error is printed."""
        try:
            self._write(last)
        except OSError:
            raise
        except Exception as problem:  # noqa: BLE001 - a mistake in a report must not end the run
            self.say(f"no report: {type(problem).__name__}: {problem}")

    def _write(self, last: bool) -> None:
        start = time.monotonic()
        if not last and max(self.spent, FIRST) > SHARE * (start - self.began):
            return
        if self._picture is None:
            facts = facts_of_graph(self.graph)
            self._picture = as_data(picture(self.graph.plan, facts, opened=True), facts, origins=self.origins)
        self._picture["overlays"] = _overlays(self.folder)
        found = None if self.predictions is None else self.predictions.take()
        if found is not None:
            write_predictions(self.folder, found)
        data, _ = report_data([self.folder], {self.folder: self._picture})
        write_page(data, self.folder / REPORT)
        self.spent += time.monotonic() - start


def write_page(data: Mapping[str, Any], file: Path) -> None:
    """Write the page of a report, in place of the one before. Raises `OSError`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, report_page(data).encode())


def graph_of(folder: Path) -> tuple[dict[Path, dict[str, Any]], list[Diagnostic]]:
    """The data of the graph of a finished run, from its config, by its folder; or warnings why there is none."""
    from flowconf.train.checks import road

    try:
        walk = road.begin(folder / CONFIG).to("sizes")
    except FlowconfError as error:
        return {}, [replace(one, severity="warning") for one in error.diagnostics]
    facts, origins = facts_of(walk.resolved, walk.inferred), walk.reporter.origins
    shown = as_data(picture(walk.resolved, facts, opened=True), facts, _overlays(folder), origins=origins)
    _name_origins(shown["graph"], _first_written(origins, origins_of(folder)))
    return {folder: shown}, []


def _first_written(origins: Origins, written: Mapping[str, str]) -> dict[int, dict[str, Any]]:
    """Line of a composed config -> where what is on it was written first, as far as that is known."""
    found: dict[int, dict[str, Any]] = {}
    for path, node in origins.items():
        place = written_place(written.get(dotted(path), ""))
        for at in range(len(path)):
            above = origins.at(path[: at + 1])
            if place and above is not None and above.key.line:
                found.setdefault(above.key.line, place)
        if place:
            found.setdefault(node.place.line, place)
    return found


def _name_origins(member: dict[str, Any], first: Mapping[int, Mapping[str, Any]]) -> None:
    """Note at a member and all inside of it where its line was written before the config was composed."""
    line = member.get("place", {}).get("line")
    if line in first:
        member["origin"] = first[line]
    for inner in member.get("inside", {}).get("members", ()):
        _name_origins(inner, first)


def _overlays(folder: Path) -> dict[str, Any]:
    return read_overlays(folder) if (folder / "profile" / NUMBERS).is_file() else {}
