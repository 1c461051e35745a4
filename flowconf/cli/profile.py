"""`flowconf profile`: what a training step costs, by path."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli.arguments import Overrides


def profile(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A training config, or a run folder.")],
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Where the report goes.", show_default=False)
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """Measure some training steps: time, memory and operations by path, a trace, and a picture of where the time goes.

    Which steps: `trainer.profile={wait: 10, warmup: 2, active: 5}`. Nothing is kept of what they learn.
    """
    if form not in ("text", "json"):
        raise typer.BadParameter(f"`{form}` is neither text nor json", param_hint="'--format'")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the profiler warns of memory from before it began
    from flowconf.report import shown_path
    from flowconf.train.commands.profile import profile as measure
    from flowconf.train.insight.profile import TABLE

    folder, found = measure(source, overrides or [], output)
    if form == "json":
        print(json.dumps(found))
        return
    print((folder / TABLE).read_text(encoding="utf-8"))
    print(f"trace, numbers and picture in {shown_path(str(folder))}")
