"""`flowconf report`: runs as a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli import completion
from flowconf.cli.arguments import TrustOption, trust_project_of


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, folders of runs (the newest run), or of sweeps (their runs).",
            autocompletion=completion.runs,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The page. Default: report.html in the run folder; of several runs, here.",
        ),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Write a page about one or several runs: curves, results, graph."""
    from flowconf.draw.page.assemble import report_page
    from flowconf.report import render_text, wants_colour, write_drawn
    from flowconf.text.output import write_output
    from flowconf.train.runs.report_data import report_data
    from flowconf.train.runs.report_page import REPORT, graph_of, write_page

    for run in runs:
        trust_project_of(run, trust)
    folders = list(dict.fromkeys(folder for run in runs for folder in _folders(run)))
    graphs, warnings = graph_of(folders[0])
    data, more = report_data(folders, graphs)
    if warnings or more:
        write_drawn(f"{render_text([*warnings, *more], wants_colour())}\n\n", sys.stderr)
    file = output or (folders[0] / REPORT if len(folders) == 1 else Path(REPORT))
    if output is None:
        write_page(data, file)
    else:
        write_output(file, report_page(data).encode())
    print(file)


def _folders(run: str) -> list[Path]:
    """The run folder that is meant, or those of the runs of a sweep. Raises `ConfigError` if there is none."""
    from flowconf.graph.weights.sources import find_run_folder
    from flowconf.report import ConfigError, Diagnostic, Place, shown_path
    from flowconf.train.runs.sweeps import is_sweep, read_runs

    if not is_sweep(run):
        return [find_run_folder(run)]
    found = [find_run_folder(one.folder) for one in read_runs(Path(run)) if one.folder and Path(one.folder).is_dir()]
    if not found:
        raise ConfigError(Diagnostic("FC0301", f"the sweep {shown_path(run)} has no runs yet", Place(run)))
    return found
