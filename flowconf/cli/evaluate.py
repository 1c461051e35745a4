"""`flowconf eval`: a run's weights on its data, or on other data."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from flowconf.cli.arguments import Overrides, RunArgument


class Part(StrEnum):
    """A split of a data set."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def evaluate(
    run: RunArgument,
    overrides: Overrides = None,
    splits: Annotated[
        list[Part] | None, typer.Option("--split", help="What to evaluate (default: val and test); may be repeated.")
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="The last weights, not the best ones.")] = False,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """Evaluate the weights of a run: its losses and metrics. Nothing is written."""
    from flowconf.train.commands.evaluate import evaluate_run
    from flowconf.train.screen import number

    if form not in ("text", "json"):
        raise typer.BadParameter(f"`{form}` is neither text nor json", param_hint="'--format'")
    found = evaluate_run(run, overrides or [], [part.value for part in splits or ()], last)
    if form == "json":
        print(json.dumps(found))
        return
    width = max((len(name) for name in found), default=0)
    for name, value in found.items():
        print(f"{name.ljust(width)}  {number(value)}")
