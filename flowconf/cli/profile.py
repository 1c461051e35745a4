"""`flowconf profile`: the cost of a training step, by path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli.arguments import Form, FormOption, Overrides, TrustOption, trust_project_of
from flowconf.cli.completion import sources


def profile(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A training config, or a run folder.", autocompletion=sources)
    ],
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="The folder for the report.", show_default=False),
    ] = None,
    form: FormOption = Form.TEXT,
    trust: TrustOption = False,
) -> None:
    """Measure some training steps: time, memory and operations by path.

    It also writes a trace, and a drawing that is coloured by time. `trainer.profile={wait: 10, warmup: 2, active: 5}`
    selects the steps. The trained weights are discarded.
    """
    trust_project_of(source, trust)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the profiler warns about memory allocated before its start
    from flowconf.report import json_line, shown_path
    from flowconf.train.commands.profile import profile as measure
    from flowconf.train.insight.profile import TABLE

    folder, found = measure(source, overrides or [], output)
    if form is Form.JSON:
        print(json_line(found))
        return
    print((folder / TABLE).read_text(encoding="utf-8"))
    print(f"trace, numbers and drawing in {shown_path(folder)}")
