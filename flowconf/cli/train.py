"""`flowconf train`: train a config, and before it the configs whose weights it requires."""

from __future__ import annotations

from typing import Annotated

import typer

from flowconf.cli.arguments import Overrides, TrustOption, trust_project_of
from flowconf.cli.completion import configs, runs


def train(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", show_default=False, help="A training config; omitted with --resume.", autocompletion=configs
        ),
    ] = None,
    overrides: Overrides = None,
    multirun: Annotated[
        bool,
        typer.Option(
            "-m",
            "--multirun",
            help="A sweep: one run for each combination of key=a,b, or a search, if FILE has `sweep`.",
        ),
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Resume the run or sweep in this folder, or the newest run below it.",
            autocompletion=runs,
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Print parameters by member, optimizer, memory and seed of a run.")
    ] = False,
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            metavar="SIZE",
            help="Print the largest batch for a memory such as 8GB, or auto: the free memory; nothing is trained.",
        ),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Train FILE, and before it all configs whose weights it requires."""
    from flowconf.train.stopping import interruptible

    with interruptible():
        source = file if resume is None else resume
        if source is not None:
            trust_project_of(source, trust)
        if fit is not None:
            _fit(file, overrides or [], fit, multirun or resume is not None)
            return
        _train(file, overrides or [], multirun, resume, verbose)


def _train(file: str | None, words: list[str], multirun: bool, resume: str | None, verbose: bool) -> None:
    if resume is not None:
        if multirun:
            raise typer.BadParameter("-m and --resume are mutually exclusive")
        from flowconf.train.commands.train import resume as go_on
        from flowconf.train.runs.sweeps import is_sweep

        if file is not None and file.endswith((".yaml", ".yml", ".toml")):
            raise typer.BadParameter(f"a run is resumed with its own config; remove `{file}`", param_hint="'--resume'")
        words = words if file is None else [file, *words]
        if is_sweep(resume):
            from flowconf.train.commands.sweep import resume_sweep

            resume_sweep(resume, words, verbose)
        else:
            go_on(resume, words, verbose=verbose)
        return
    if file is None:
        raise typer.BadParameter("expected a training config, or --resume with a run folder", param_hint="FILE")
    if multirun:
        from flowconf.train.commands.sweep import sweep

        sweep(file, words, verbose)
        return
    from flowconf.language.sections.sweeps import refuse_unused
    from flowconf.train.checks import road
    from flowconf.train.team.launch import given

    refuse_unused(words)
    task = given()
    walk = road.begin(file, words, trained=True).to(road.BEFORE_TORCH) if task is None else task.walk
    from flowconf.train.commands import train as training

    if task is None:
        training.train_checked(walk, verbose=verbose)
    else:
        training.take_part(task)


def _fit(file: str | None, words: list[str], size: str, others: bool) -> None:
    """Print the largest batch of a config."""
    if others or file is None:
        raise typer.BadParameter("requires a config, without -m and --resume", param_hint="'--fit'")
    from flowconf.train.checks import road
    from flowconf.train.commands import fit as fitting

    if size != "auto":
        try:
            fitting.bytes_of(size)
        except ValueError as problem:
            raise typer.BadParameter(str(problem), param_hint="'--fit'") from None
    walk = road.begin(file, words, trained=True).to(road.END)
    for line in fitting.fit(walk.checked, walk.inferred, size):
        print(line)
