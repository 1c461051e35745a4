"""`flowconf eject`: a graph as a plain PyTorch file."""

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
from flowconf.report.garbage import uncollected_to_the_end


@uncollected_to_the_end()
def eject(
    file: Described,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The Python file to write.")] = Path(
        "model.py"
    ),
    at: AtOption = "",
    weights: WeightsOption = None,
    merge: MergeOption = False,
    trust: TrustOption = False,
) -> None:
    """Write the graph and its weights as plain PyTorch. The code does not import flowconf."""
    trust_project_of(file, trust)
    if output.suffix != ".py":
        raise typer.BadParameter(f"expected a file that ends in .py, got `{output}`", param_hint="'-o'")
    from flowconf.api import build
    from flowconf.graph.exchange.eject import eject as write

    config, weights = with_weights(file, weights)
    graph = build(config, overrides or [], weights=False)
    if weights is not None:
        print(graph.load(weights))
    if merge:
        from flowconf.graph.exchange.merging import merged

        graph = merged(graph)
    beside = write(graph.subgraph(at), output, weights is not None)
    print(f"wrote {output}" + (f" and {beside}" if beside is not None else " (without weights; use --weights)"))
