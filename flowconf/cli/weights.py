"""`flowconf weights`: the tensors of a checkpoint, read from its header."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowconf.cli.arguments import AtOption
from flowconf.report import counted, shortened
from flowconf.report.columns import aligned

if TYPE_CHECKING:
    from flowconf.graph.weights.listing import Listing, StoredTensor

HEADER = ("path", "shape", "type", "numbers", "size")
UNITS = ("B", "kB", "MB", "GB", "TB")
LONGEST = 100
HIDDEN = ("graph", "state", "digests", "digest")
"""Texts of a file that are for programs; `flowconf show` prints graphs."""
TensorRow = tuple[str, str, str, str, str]


def weights(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A weights file, a checkpoint folder, or a run folder.")],
    at: AtOption = "",
) -> None:
    """List the tensors of a checkpoint: path, shape, dtype, size. Reads only the header."""
    from flowconf.graph.weights.listing import list_weights
    from flowconf.graph.weights.sources import skipped_runs
    from flowconf.report import Place

    found = list_weights(file, Place(word=file))
    for line in skipped_runs(file, found.file):
        print(line, file=sys.stderr)
    sys.stdout.write(text(found.below(at) if at else found))


def text(listing: Listing) -> str:
    """The listing as text: the file, its metadata, and a tree of paths with their sizes."""
    entries = listing.entries
    numbers = sum(entry.numbers for entry in entries)
    lines = [f"{listing.file}: {counted(len(entries), 'tensor')}, {numbers:,} numbers, {readable(total(entries))}"]
    lines += [f"  {name}: {value}" for name, value in _metadata(listing)]
    if listing.state:
        lines.append(f"  training state: {counted(len(listing.state), 'tensor')}, {readable(total(listing.state))}")
    rows: list[TensorRow] = [HEADER, *_rows(sorted(entries, key=_branches), "", 0)]
    header, *table = aligned(rows, right=[HEADER.index("numbers"), HEADER.index("size")])
    return "\n".join([*lines, "", header, "-" * len(header), *table]) + "\n"


def _branches(entry: StoredTensor) -> tuple[tuple[int, int | str], ...]:
    """A key that sorts paths by their parts, and numbers by value."""
    parts = entry.name.split(".")
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)


def _metadata(listing: Listing) -> Iterator[tuple[str, str]]:
    """The metadata of the file; of its graph only the label."""
    if listing.label is not None:
        yield "label", listing.label
    for name, value in listing.metadata.items():
        if name not in HIDDEN:
            yield name, shortened(" ".join(value.split()), LONGEST)


def _rows(entries: list[StoredTensor], prefix: str, depth: int) -> Iterator[TensorRow]:
    """A row for each path below `prefix`: the sum of the tensors below it, or the tensor itself."""
    groups: dict[str, list[StoredTensor]] = {}
    for entry in entries:
        groups.setdefault(entry.name.removeprefix(prefix).split(".")[0], []).append(entry)
    for name, group in groups.items():
        shown = "  " * depth + name
        numbers, size = f"{sum(e.numbers for e in group):,}", readable(total(group))
        if group[0].name == prefix + name:
            entry = group[0]
            yield shown, f"[{', '.join(map(str, entry.shape))}]", entry.dtype, numbers, size
        else:
            yield shown, "", "", numbers, size
            yield from _rows(group, f"{prefix}{name}.", depth + 1)


def total(entries: Sequence[StoredTensor]) -> int:
    """The total number of bytes."""
    return sum(entry.size for entry in entries)


def readable(size: int) -> str:
    """A number of bytes with a unit: `3.2 kB`."""
    value, unit = float(size), 0
    while value >= 999.95 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.1f} {UNITS[unit]}"
