"""`flowconf schema`: the JSON Schemas of configs, graphs and pivots, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def schema(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="The folder for the schemas.")
    ] = Path("schemas"),
) -> None:
    """Write JSON Schemas for editors, with the names of this project."""
    from flowconf.language.json_schema import schemas
    from flowconf.language.projects import import_project
    from flowconf.text.output import write_output

    import_project(Path.cwd())
    for name, content in schemas().items():
        write_output(output / name, f"{json.dumps(content, indent=1)}\n".encode())
        print(output / name)
