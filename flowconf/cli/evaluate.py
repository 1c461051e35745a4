"""`flowconf eval`: the weights of a run, evaluated on its data or on other data."""

from __future__ import annotations

from typing import Annotated

import typer

from flowconf.cli.arguments import Overrides, RunArgument, TrustOption, trust_project_of


def evaluate(
    run: RunArgument,
    overrides: Overrides = None,
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            help="The split to evaluate: train, val, test or a set of `data.evaluate`; repeatable. "
            "Default: all but train, and test unless `trainer.test` is false.",
        ),
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="Use the last weights instead of the best.")] = False,
    step: Annotated[
        int | None, typer.Option("--step", min=1, help="Use the weights that `trainer.keep` has kept of this step.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    trust: TrustOption = False,
) -> None:
    """Evaluate the losses and metrics of a run. Nothing is written."""
    trust_project_of(run, trust)
    from flowconf.graph.weights.sources import chosen
    from flowconf.report import json_line
    from flowconf.train.commands.evaluate import evaluate_run
    from flowconf.train.screen import number

    if form not in ("text", "json"):
        raise typer.BadParameter(f"expected text or json, got `{form}`", param_hint="'--format'")
    found = evaluate_run(run, overrides or [], splits or [], chosen(last, step))
    if form == "json":
        print(json_line(found))
        return
    width = max((len(name) for name in found), default=0)
    for name, value in found.items():
        print(f"{name.ljust(width)}  {number(value)}")
