"""The effect of a change of the graph on shapes and weights, without building either graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class CarriedOver:
    """Changed shapes (path, before, after), and the parameters that are kept, resized, new or dropped."""

    shapes: tuple[tuple[str, str, str], ...]
    kept: tuple[str, ...]
    resized: tuple[tuple[str, Shape, Shape], ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]


def carry_over(
    old: Mapping[str, str], new: Mapping[str, str], before: Mapping[str, Shape], after: Mapping[str, Shape]
) -> CarriedOver:
    """Compare two graphs by path: the shapes of their values (`old` and `new`), and of their parameters."""
    shapes = tuple((path, old[path], shape) for path, shape in new.items() if path in old and old[path] != shape)
    common = [name for name in after if name in before]
    return CarriedOver(
        shapes=shapes,
        kept=tuple(name for name in common if before[name] == after[name]),
        resized=tuple((name, before[name], after[name]) for name in common if before[name] != after[name]),
        new=tuple(name for name in after if name not in before),
        dropped=tuple(name for name in before if name not in after),
    )
