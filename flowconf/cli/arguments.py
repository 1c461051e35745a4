"""The arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
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


class Form(StrEnum):
    """How a report is printed: for people, or as JSON."""

    TEXT = "text"
    JSON = "json"


def refuse_other_pictures(output: Path | None) -> None:
    """Refuses a file that is no picture by its name, before anything is computed for it."""
    from flowconf.draw.svg import IMAGE_SUFFIXES, TEXT_SUFFIXES

    known = (*TEXT_SUFFIXES, *IMAGE_SUFFIXES)
    if output is not None and output.suffix.lower() not in known:
        raise typer.BadParameter(f"`{output}` ends in none of {', '.join(known)}", param_hint="'-o'")
