"""`flowconf explain`: the page of an error code, with a wrong file, its output, and the fixed file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli.completion import codes
from flowconf.report import CODES

PACKAGE = Path(__file__).parent.parent


def explain(
    code: Annotated[
        str,
        typer.Argument(
            metavar="[CODE]", help="An error code such as FC0201. Default: list all codes.", autocompletion=codes
        ),
    ] = "",
) -> None:
    """Explain an error CODE with an example."""
    if not code:
        sys.stdout.write("".join(f"{known}  {meaning}\n" for known, meaning in CODES.items()))
        return
    wanted = code.strip().upper()
    wanted = f"FC{wanted}" if wanted.isdigit() else wanted
    if wanted not in CODES:
        raise typer.BadParameter(f"unknown code `{code}`; `flowconf explain` lists all codes", param_hint="CODE")
    sys.stdout.write((pages() / f"{wanted}.md").read_text(encoding="utf-8"))


def pages() -> Path:
    """The folder of the pages: inside the package if it is installed, next to the package in a checkout."""
    inside = PACKAGE / "errors"
    return inside if inside.is_dir() else PACKAGE.parent / "docs" / "errors"
