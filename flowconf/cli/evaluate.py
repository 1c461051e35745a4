"""`flowconf eval`: the weights of a run, evaluated on its data or on other data."""

from __future__ import annotations

from typing import Annotated

import typer

from flowconf.cli.arguments import (
    Form,
    FormOption,
    LastOption,
    Overrides,
    RunArgument,
    StepOption,
    TrustOption,
    trust_project_of,
)


def evaluate(
    run: RunArgument,
    overrides: Overrides = None,
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="SPLIT",
            help="The split to evaluate: train, val, test or a set of `data.evaluate`; repeatable. "
            "Default: all but train, and test unless `trainer.test` is false.",
        ),
    ] = None,
    last: LastOption = False,
    step: StepOption = None,
    form: FormOption = Form.TEXT,
    trust: TrustOption = False,
) -> None:
    """Evaluate the losses and metrics of a run. Nothing is written."""
    trust_project_of(run, trust)
    from flowconf.graph.weights.sources import chosen
    from flowconf.report import json_line
    from flowconf.report.columns import aligned
    from flowconf.train.commands.evaluate import evaluate_run
    from flowconf.train.screen import number

    found = evaluate_run(run, overrides or [], splits or [], chosen(last, step))
    if form is Form.JSON:
        print(json_line(found))
        return
    print("\n".join(aligned([(name, number(value)) for name, value in found.items()])))
