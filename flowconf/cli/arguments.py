"""The arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

File = Annotated[str, typer.Argument(metavar="FILE", help="A training config, or a graph document by itself.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[OVERRIDES]...",
        show_default=False,
        help="Changes in Hydra's grammar: key=value, +key=value, ~key, group=option.",
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or a folder of runs: the newest counts.")]
