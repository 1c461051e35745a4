"""Arguments shared by several commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli import completion

Described = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A training config, a graph document, a run folder, or a folder of runs (the newest run).",
        autocompletion=completion.sources,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[OVERRIDES]...", show_default=False, help="Hydra overrides: key=value, +key=value, ~key, group=option."
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust", help="Import the modules of the config's project even if called outside that project."),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run folder, or a folder of runs (the newest run).", autocompletion=completion.runs
    ),
]


LastOption = Annotated[bool, typer.Option("--last", help="Use the last weights instead of the best.")]
StepOption = Annotated[
    int | None,
    typer.Option("--step", min=1, metavar="N", help="Use the weights that `trainer.keep` has kept of this step."),
]
AtOption = Annotated[str, typer.Option("--at", metavar="PATH", help="Only what is at this path.")]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="SOURCE",
        help="A weights file, checkpoint folder or run with the weights of the whole graph; of a run as FILE, its best "
        "weights.",
    ),
]
MergeOption = Annotated[bool, typer.Option("--merge", help="Merge adapters into the weights that they change.")]


class Form(StrEnum):
    """The output format."""

    TEXT = "text"
    JSON = "json"


FormOption = Annotated[Form, typer.Option("--format", help="The output format.")]


def refuse_other_pictures(output: Path | None, *others: str) -> None:
    """Raise `BadParameter` for a file without a known suffix, before anything is computed; `others` are known too."""
    from flowconf.draw.svg import IMAGE_SUFFIXES, TEXT_SUFFIXES

    known = (*others, *TEXT_SUFFIXES, *IMAGE_SUFFIXES)
    if output is not None and output.suffix.lower() not in known:
        raise typer.BadParameter(f"expected a file that ends in {', '.join(known)}, got `{output}`", param_hint="'-o'")


def config_of(source: str) -> str:
    """The file itself, or the config of a run folder; for a folder of runs, that of the newest."""
    if not Path(source).is_dir():
        return source
    from flowconf.graph.weights.sources import CONFIG, find_run_folder

    return str(find_run_folder(source) / CONFIG)


def with_weights(source: str, weights: str | None) -> tuple[str, str | None]:
    """The file that describes a graph, and the source of its weights: the run itself, unless others are given."""
    file = config_of(source)
    return file, weights if weights is not None or not Path(source).is_dir() else str(Path(file).parent)


def trust_project_of(source: str, trust: bool) -> None:
    """Implement `--trust`: import the modules of the project of a config or run, wherever the command is called."""
    if trust:
        from flowconf.train.runs.trusting import trust_project

        trust_project(source, trust)
