"""`flowconf train`: train what a config describes, and first what it needs weights from."""

from __future__ import annotations

from typing import Annotated

import typer

from flowconf.cli.arguments import File, Overrides


def train(
    file: File,
    overrides: Overrides = None,
    multirun: Annotated[
        bool, typer.Option("-m", "--multirun", help="One run for each combination: key=a,b and Hydra's sweepers.")
    ] = False,
) -> None:
    """Train the model that FILE describes, and before it every config whose weights it needs."""
    from flowconf.train.command import sweep, train_file

    (sweep if multirun else train_file)(file, overrides or [])
