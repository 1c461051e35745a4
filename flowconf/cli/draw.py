"""`flowconf draw`: a drawing of a graph."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli.arguments import File, Overrides, TrustOption, refuse_other_pictures, trust_project_of


def draw(
    file: File,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .dot, .svg, .png or .pdf file. Default: DOT on standard output."),
    ] = None,
    heat: Annotated[
        Path | None,
        typer.Option("--heat", metavar="PROFILE", help="Colour the steps by their time in a profile or run."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=1, metavar="N", help="Draw N levels of graphs; each deeper graph is one node."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Draw the graph in FILE."""
    trust_project_of(file, trust)
    from flowconf.api import plan
    from flowconf.draw.dot import dot
    from flowconf.draw.heat import read
    from flowconf.draw.svg import write

    refuse_other_pictures(output)
    text = dot(plan(file, overrides or []), heat=read(heat) if heat is not None else None, depth=depth)
    if output is None:
        sys.stdout.write(text)
    else:
        write(text, output)
