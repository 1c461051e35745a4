"""`flowconf predict`: values of a run's graph for a split of its data, or for rows of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli.arguments import LastOption, Overrides, RunArgument, StepOption, TrustOption, trust_project_of


def predict(
    run: RunArgument,
    overrides: Overrides = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="SPLIT", help="The rows: train, val, test or a set of `data.evaluate` of the run."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="Or arrays by input name, `.npz` or `.safetensors`; or a file that the run's data set reads: a table, "
            "texts, images.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="The results: `.npz`, `.safetensors`, `.csv` or `.jsonl`."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--value", metavar="REFERENCE", help="A value of the graph (default: its outputs); repeatable."),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="FIELD", help="A field of the data, or `row`, `file`: of each row; repeatable."),
    ] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(
            "--units",
            metavar="VALUE=FIELD",
            help="Write a value in the units of a field that is standardized, instead of standard deviations; "
            "repeatable.",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, metavar="ROWS", help="Rows per forward pass.")
    ] = 256,
    last: LastOption = False,
    step: StepOption = None,
    trust: TrustOption = False,
) -> None:
    """Compute the outputs of a run's graph for a split or a file.

    Without `-o`, what the run's data set reads in a file, such as the text in an image, is printed.
    """
    trust_project_of(run, trust)
    from flowconf.graph.weights.sources import chosen
    from flowconf.train.commands.predict import Prediction, names_of_classes
    from flowconf.train.data.builtin import has_arrays

    if (split is None) == (source is None):
        raise typer.BadParameter("expected one of `--split` and `--input`", param_hint="'--split'")
    if source is not None and overrides:
        raise typer.BadParameter("overrides apply only to `--split`", param_hint="'--input'")
    is_array = source is not None and has_arrays(source)
    if is_array and fields:
        raise typer.BadParameter("`--with` does not apply to arrays", param_hint="'--input'")
    if output is None and (split is not None or is_array or values or fields or units):
        words = "`--split`, arrays, `--value`, `--with` and `--units` require `-o FILE`"
        raise typer.BadParameter(words, param_hint="'--output'")
    pairs = dict(one.split("=", 1) for one in units or [] if "=" in one)
    if len(pairs) < len(units or []):
        raise typer.BadParameter("expected `VALUE=FIELD` for different values", param_hint="'--units'")
    asked = Prediction(run, values or [], fields or [], overrides or [], batch_size, chosen(last, step), pairs)
    inputs = split if source is None else Path(source)
    assert inputs is not None
    found = asked.read(inputs) if output is None else asked.write(inputs, output)
    for line in [*found, *names_of_classes(run, fields or [])]:
        print(line)
