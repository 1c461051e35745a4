"""`flowconf runs`: what was run, with what changes, and how well it went."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def runs(
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="A folder of runs, or of one config's.")] = "runs",
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="METRIC", help="The best of this value first (default: by time).")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """List runs: the settings in which they differ beside their final metrics."""
    from flowconf.train.runs.listing import list_runs, table

    if form not in ("text", "json"):
        raise typer.BadParameter(f"`{form}` is neither text nor json", param_hint="'--format'")
    groups = list_runs(folder, sort)
    if form == "json":
        for group in groups:
            for run in group.runs:
                print(json.dumps(run.as_data(), default=str))
        return
    print("\n\n".join(table(group) for group in groups) or f"no runs in {folder}")
