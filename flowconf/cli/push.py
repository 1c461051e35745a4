"""`flowconf push`: a run as a model of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli.arguments import RunArgument, TrustOption, trust_project_of


def push(
    run: RunArgument,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model of the hub, as `organisation/model`.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private model.")] = False,
    dry_run: Annotated[
        Path | None, typer.Option("--dry-run", metavar="FOLDER", help="Write the files to a folder instead.")
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Upload weights, config and a model card to the Hugging Face hub."""
    from flowconf.graph.weights.sources import find_run_folder
    from flowconf.train.commands.push import push as pushed

    trust_project_of(run, trust)
    print(pushed(find_run_folder(run), model, private=private, dry_run=dry_run))
