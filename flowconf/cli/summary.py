"""`flowconf summary`: the tree of a graph with its shapes, parameters, frozen marks and checkpoint sources."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flowconf.cli.arguments import File, Overrides

if TYPE_CHECKING:
    from flowconf.graph.tree import Row

HEADER = ("path", "what", "gives", "parameters", "frozen", "weights from")
NUMBERS = ("parameters",)


def summary(file: File, overrides: Overrides = None) -> None:
    """Print the tree: shapes, parameters, frozen parts, weights."""
    from flowconf.api import build, load

    graph = build(load(file, overrides or []).model, weights=False)
    sys.stdout.write(table(graph.summary()))


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned columns, each path indented below its parent's, and the totals in a last line."""
    cells = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    lines = [_line(row, widths) for row in cells]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, "", *_totals(rows)]) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    depth = row.path.count(".")
    name = "  " * depth + row.path.rpartition(".")[2]
    return (name, row.kind, row.shape or "", f"{row.parameters:,}", row.frozen or "", row.checkpoint or "")


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (
        text.rjust(width) if name in NUMBERS else text.ljust(width)
        for text, width, name in zip(row, widths, HEADER, strict=True)
    )
    return "  ".join(aligned).rstrip()


def _totals(rows: Sequence[Row]) -> Iterator[str]:
    top = [row for row in rows if "." not in row.path]
    parameters = sum(row.parameters for row in top)
    trainable = sum(row.trainable for row in top)
    yield f"{parameters:,} parameters, {trainable:,} trainable, {parameters - trainable:,} frozen"
