"""`flowconf draw`: a picture of a graph."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from flowconf.cli.arguments import (
    AtOption,
    Described,
    Overrides,
    TrustOption,
    config_of,
    refuse_other_pictures,
    trust_project_of,
)
from flowconf.report import json_line
from flowconf.report.garbage import uncollected_to_the_end

if TYPE_CHECKING:
    from flowconf.draw.members import Member


class PictureForm(StrEnum):
    """The form of a picture."""

    DOT = "dot"
    HTML = "html"
    JSON = "json"
    MERMAID = "mermaid"
    TEXT = "text"


SUFFIXES = {
    ".html": PictureForm.HTML,
    ".htm": PictureForm.HTML,
    ".json": PictureForm.JSON,
    ".mmd": PictureForm.MERMAID,
    ".txt": PictureForm.TEXT,
}
"""The forms of files, besides DOT and what is rendered from it (`draw/svg.py`)."""


@uncollected_to_the_end()
def draw(
    file: Described,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A .html page, a .svg, .png or .pdf image, or .dot, .mmd, .json, .txt.",
        ),
    ] = None,
    form: Annotated[
        PictureForm | None,
        typer.Option("--format", show_default=False, help="Default: by the suffix of -o; text on standard output."),
    ] = None,
    heat: Annotated[
        Path | None,
        typer.Option("--heat", metavar="PROFILE", help="Show the time, memory and operations in a profile or run."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=1, metavar="N", help="Draw N levels of graphs; each deeper graph is one node."),
    ] = None,
    at: AtOption = "",
    trust: TrustOption = False,
) -> None:
    """Draw the graph in FILE."""
    trust_project_of(file, trust)
    if form is None:
        form = PictureForm.TEXT if output is None else SUFFIXES.get(output.suffix.lower())
    if form is None:
        refuse_other_pictures(output, *SUFFIXES)
    from flowconf.draw.levels import part_at, picture
    from flowconf.draw.secrets import with_references
    from flowconf.draw.svg import write
    from flowconf.graph.build import accounts_of
    from flowconf.graph.facts import facts_of
    from flowconf.train.checks import road

    walk = road.begin(config_of(file), overrides or []).to("sizes")
    plan, inference, origins = walk.resolved, walk.inferred, walk.reporter.origins
    runs = "runs" if walk.config is None else walk.config.training.trainer.runs
    opened = form in (PictureForm.HTML, PictureForm.JSON)
    facts = facts_of(plan, inference, accounts_of(plan, inference, runs), source=opened)
    whole = with_references(part_at(picture(plan, facts, opened), at), origins)
    if opened:
        from flowconf.draw.data import as_data
        from flowconf.draw.heat import read_overlays
        from flowconf.draw.page.assemble import graph_page

        data = as_data(whole, facts, read_overlays(heat) if heat is not None else None, depth, origins=origins)
        text = graph_page(data) if form is PictureForm.HTML else json_line(data) + "\n"
    else:
        text = _text(whole, form, heat, depth, fits_terminal=output is None and sys.stdout.isatty())
    if output is None:
        sys.stdout.write(text)
    else:
        write(text, output)


def _text(whole: Member, form: PictureForm | None, heat: Path | None, depth: int | None, fits_terminal: bool) -> str:
    """The picture in a form of text; DOT for images. Prints what it leaves out."""
    from flowconf.draw import heat as profiles
    from flowconf.draw.dot import dot
    from flowconf.draw.folding import folded
    from flowconf.draw.mermaid import mermaid
    from flowconf.draw.outline import WIDTH, outline

    shown = profiles.read(heat) if heat is not None else None
    if form is PictureForm.TEXT:
        return outline(whole, depth, shown, get_terminal_size().columns if fits_terminal else WIDTH)
    text = mermaid(whole, depth, shown) if form is PictureForm.MERMAID else dot(whole, heat=shown, depth=depth)
    if caption := folded(whole, depth).caption:
        print(f"{caption}; `--depth N` draws N levels in full", file=sys.stderr)
    return text
