"""`flowconf draw`: a picture of a graph."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli.arguments import File, Overrides, TrustOption, refuse_other_pictures, trust_project_of
from flowconf.report import json_line


class PictureForm(StrEnum):
    """The form of a picture."""

    DOT = "dot"
    HTML = "html"
    JSON = "json"


SUFFIXES = {".html": PictureForm.HTML, ".htm": PictureForm.HTML, ".json": PictureForm.JSON}
"""Files that are written as they are; those of `draw/svg.py` are DOT, or rendered from it."""


def draw(
    file: File,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .html page, a .svg, .png or .pdf image, a .dot or .json file."),
    ] = None,
    form: Annotated[
        PictureForm | None,
        typer.Option("--format", show_default=False, help="Default: by the suffix of -o; DOT on standard output."),
    ] = None,
    heat: Annotated[
        Path | None,
        typer.Option("--heat", metavar="PROFILE", help="Show the time, memory and operations in a profile or run."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=1, metavar="N", help="Draw N levels of graphs; each deeper graph is one node."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Draw the graph in FILE."""
    trust_project_of(file, trust)
    if form is None and output is not None:
        form = SUFFIXES.get(output.suffix.lower())
    if form is None:
        refuse_other_pictures(output, *SUFFIXES)
    from flowconf.draw import heat as profiles
    from flowconf.draw.svg import write
    from flowconf.train.checks import road

    walk = road.begin(file, overrides or []).to("sizes")
    inference = walk.inference
    assert walk.plan is not None
    assert inference is not None
    if form in (PictureForm.HTML, PictureForm.JSON):
        from flowconf.draw.data import as_data
        from flowconf.draw.levels import picture
        from flowconf.draw.page.assemble import graph_page
        from flowconf.graph.build import accounts_of
        from flowconf.graph.facts import facts_of

        runs = "runs" if walk.config is None else walk.config.training.trainer.runs
        facts = facts_of(walk.plan, inference, accounts_of(walk.plan, inference, runs))
        overlays = profiles.read_overlays(heat) if heat is not None else None
        data = as_data(picture(walk.plan, facts), facts, overlays, depth)
        text = graph_page(data) if form is PictureForm.HTML else json_line(data) + "\n"
    else:
        from flowconf.draw.dot import dot

        shown = profiles.read(heat) if heat is not None else None
        text = dot(walk.plan, inference.shapes, heat=shown, depth=depth)
    if output is None:
        sys.stdout.write(text)
    else:
        write(text, output)
