"""`flowconf export`: a graph as a program that runs without Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli.arguments import (
    AtOption,
    Described,
    MergeOption,
    Overrides,
    TrustOption,
    WeightsOption,
    trust_project_of,
    with_weights,
)


def export(
    file: Described,
    overrides: Overrides = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="A .pt2 (torch.export) or .onnx file to write.")
    ] = Path("model.pt2"),
    at: AtOption = "",
    weights: WeightsOption = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="NAME=NUMBER", help="Fix a symbolic size of the inputs; repeatable."),
    ] = None,
    merge: MergeOption = False,
    trust: TrustOption = False,
) -> None:
    """Write the graph for torch.export or ONNX, with dynamic sizes.

    The outputs of the program are compared with those of the graph.
    """
    trust_project_of(file, trust)
    from flowconf.api import build
    from flowconf.graph.exchange.export import export as write

    closed = dict(_size(text) for text in sizes or [])
    config, weights = with_weights(file, weights)
    graph = build(config, overrides or [], weights=weights is None)
    if weights is not None:
        print(graph.load(weights))
    elif all(setting.checkpoint is None for _, setting in graph.plan.all_settings()):
        print("the weights are initial values; use --weights for trained ones")
    if merge:
        from flowconf.graph.exchange.merging import merged

        graph = merged(graph)
    print(write(graph.subgraph(at), output, closed))


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not (name and number.isdecimal() and int(number) > 0):
        raise typer.BadParameter(f"expected NAME=NUMBER, got `{text}`", param_hint="'--size'")
    return name, int(number)
