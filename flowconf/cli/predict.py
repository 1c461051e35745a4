"""`flowconf predict`: values of a run's graph for arrays in a file."""

from __future__ import annotations

from typing import Annotated

import typer

from flowconf.cli.arguments import RunArgument, TrustOption, trust_project_of


def predict(
    run: RunArgument,
    source: Annotated[
        str, typer.Option("--input", "-i", metavar="FILE", help="Arrays by input name: `.npz` or `.safetensors`.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The file for the results: `.npz` or `.safetensors`.")
    ],
    values: Annotated[
        list[str] | None,
        typer.Option("--value", metavar="REFERENCE", help="A value of the graph (default: its outputs); repeatable."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rows per forward pass.")] = 256,
    last: Annotated[bool, typer.Option("--last", help="Use the last weights instead of the best.")] = False,
    trust: TrustOption = False,
) -> None:
    """Compute the outputs or other values of a run's graph for the rows of FILE."""
    trust_project_of(run, trust)
    from flowconf.train.commands.predict import predict_file

    found = predict_file(run, source, output, values or [], batch_size, last)
    for name, tensor in found.items():
        print(f"{name}  {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}")
