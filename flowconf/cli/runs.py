"""`flowconf runs`: the runs, with their settings, status and metrics."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flowconf.cli import completion
from flowconf.cli.arguments import Form, FormOption


def runs(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="[FOLDER]", help="A folder of runs, or of the runs of one config.", autocompletion=completion.runs
        ),
    ] = "runs",
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort", metavar="KEY", help="Sort by a metric (best first) or a setting, instead of by start time."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Only these runs, by status, config, setting or metric: status=failed, val/accuracy>0.9; repeatable.",
        ),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(
            "--over",
            metavar="SETTING",
            help="The mean and standard deviation of finished runs that differ in this setting alone, such as seed.",
        ),
    ] = None,
    form: FormOption = Form.TEXT,
) -> None:
    """List runs: status, the settings in which they differ, metrics."""
    from flowconf.report import json_line, render_text, wants_colour, write_drawn
    from flowconf.train.runs.listing import list_runs, table

    groups, warnings = list_runs(folder, sort, where or [], over)
    if warnings:
        write_drawn(f"{render_text(warnings, wants_colour())}\n\n", sys.stderr)
    if form is Form.JSON:
        for group in groups:
            for run in group.runs:
                print(json_line(run.as_data()))
        return
    nothing = f"no runs in {folder}" + (f" with {' and '.join(where)}" if where else "")
    print("\n\n".join(table(group) for group in groups) or nothing)
