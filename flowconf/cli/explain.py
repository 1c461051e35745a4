"""`flowconf explain`: the page of a code, with a wrong file, what is told of it, and the mended file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flowconf.report import CODES

PACKAGE = Path(__file__).parent.parent


def explain(
    code: Annotated[
        str, typer.Argument(metavar="[CODE]", help="Such as FC0201; all codes are listed without it.")
    ] = "",
) -> None:
    """Explain the CODE of a diagnostic by an example."""
    if not code:
        sys.stdout.write("".join(f"{known}  {meaning}\n" for known, meaning in CODES.items()))
        return
    wanted = code.strip().upper()
    wanted = f"FC{wanted}" if wanted.isdigit() else wanted
    if wanted not in CODES:
        raise typer.BadParameter(f"there is no code `{code}`; `flowconf explain` lists them", param_hint="CODE")
    sys.stdout.write((pages() / f"{wanted}.md").read_text(encoding="utf-8"))


def pages() -> Path:
    """The folder of the pages: inside of an installed package, or beside the package in a checkout."""
    inside = PACKAGE / "errors"
    return inside if inside.is_dir() else PACKAGE.parent / "docs" / "errors"
