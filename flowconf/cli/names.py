"""`flowconf list`: the names that a config can use, with their arguments."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowconf.cli.arguments import Form
from flowconf.report import json_line

if TYPE_CHECKING:
    from flowconf.language.catalogue import CatalogueEntry, Shelf


class TableName(StrEnum):
    """The tables of names."""

    MODULES = "modules"
    LOSSES = "losses"
    METRICS = "metrics"
    OPTIMIZERS = "optimizers"
    SCHEDULES = "schedules"
    DATA = "data"
    LOGGERS = "loggers"
    ADAPTERS = "adapters"
    CALLBACKS = "callbacks"
    AUGMENTATIONS = "augmentations"


def list_names(
    table: Annotated[
        TableName | None,
        typer.Argument(metavar="[TABLE]", help=f"One of {', '.join(TableName)}. Default: count the names of each."),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="The output format; json is one object per line.")] = Form.TEXT,
) -> None:
    """List the names that a config can use, with those of this project."""
    from flowconf.language.catalogue import SHELVES
    from flowconf.language.projects import import_project

    import_project(Path.cwd())
    if form is Form.JSON:
        for name in [table] if table else TableName:
            for entry in SHELVES[name].entries():
                print(json_line({"table": name, **entry.as_data()}))
    elif table is None:
        print(_overview(SHELVES))
    else:
        print(_listed(SHELVES[table].entries()))


def _overview(shelves: dict[str, Shelf]) -> str:
    width = max(map(len, shelves))
    lines = [f"{name:<{width}}  {len(shelf.entries()):>3}  {shelf.use}" for name, shelf in shelves.items()]
    return "\n".join([*lines, "", "`flowconf list TABLE` prints the names of one of them, with their arguments."])


def _listed(entries: list[CatalogueEntry]) -> str:
    from flowconf.language.catalogue import ranges

    names = [f"{entry.call}\n    {entry.summary}".rstrip() for entry in entries]
    kinds = [f"{kind}: {meaning}" for kind, meaning in ranges(entries).items()]
    return "\n".join([*names, *([""] if kinds else []), *kinds])
