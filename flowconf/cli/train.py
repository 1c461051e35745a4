"""`flowconf train`: train what a config describes, and first what it needs weights from."""

from __future__ import annotations

from typing import Annotated

import typer

from flowconf.cli.arguments import Overrides
from flowconf.cli.imports import import_torch


def train(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", show_default=False, help="A training config; none with --resume.")
    ] = None,
    overrides: Overrides = None,
    multirun: Annotated[
        bool, typer.Option("-m", "--multirun", help="One run for each combination: key=a,b and Hydra's sweepers.")
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="RUN", help="Go on with the run in this folder, or the newest run below it."),
    ] = None,
) -> None:
    """Train the model that FILE describes, and before it every config whose weights it needs."""
    from flowconf.train.stopping import interruptible

    with interruptible():
        _train(file, overrides or [], multirun, resume)


def _train(file: str | None, words: list[str], multirun: bool, resume: str | None) -> None:
    if resume is not None:
        if multirun:
            raise typer.BadParameter("a run that goes on is one run: leave out -m")
        import_torch()
        from flowconf.train.commands.train import resume as go_on

        go_on(resume, words if file is None else [file, *words])
        return
    if file is None:
        raise typer.BadParameter("name a training config, or a run to go on with by --resume", param_hint="FILE")
    if multirun:
        import_torch()
        from flowconf.train.commands.sweep import sweep

        sweep(file, words)
        return
    from flowconf.train.checks import road
    from flowconf.train.team.launch import given

    task = given()
    walk = road.begin(file, words, trained=True).to(road.BEFORE_TORCH) if task is None else task.walk
    import_torch()
    from flowconf.train.commands import train as training

    if task is None:
        training.train_checked(walk)
    else:
        training.take_part(task)
