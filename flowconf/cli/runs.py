"""`flowconf runs`: what was run, with what changes, and how well it went."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer


def runs(
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="A folder of runs, or of one config's.")] = "runs",
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="METRIC", help="The best of this value first (default: by time).")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="KEY=VALUE", help="Only runs of this status, config or setting; repeatable."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """List runs: the settings in which they differ beside their final metrics."""
    from flowconf.report import render_text, wants_colour
    from flowconf.train.runs.listing import list_runs, table

    if form not in ("text", "json"):
        raise typer.BadParameter(f"`{form}` is neither text nor json", param_hint="'--format'")
    groups, warnings = list_runs(folder, sort, where or [])
    if warnings:
        print(f"{render_text(warnings, wants_colour())}\n", file=sys.stderr)
    if form == "json":
        for group in groups:
            for run in group.runs:
                print(json.dumps(run.as_data(), default=str))
        return
    print("\n\n".join(table(group) for group in groups) or _nothing(folder, where))


def _nothing(folder: str, where: list[str] | None) -> str:
    return " ".join(["no runs in", folder, *(["with", " and ".join(where)] if where else ())])
