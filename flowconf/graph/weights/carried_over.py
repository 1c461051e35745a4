"""The effect of a change of the graph on shapes and weights, without building either graph."""

from __future__ import annotations

from dataclasses import dataclass

from flowconf.graph.shapes.inference import Inference

Shape = tuple[int, ...]


@dataclass(frozen=True)
class CarriedOver:
    """Changed shapes (path, before, after), and the parameters that are kept, resized, new or dropped."""

    shapes: tuple[tuple[str, str, str], ...]
    kept: tuple[str, ...]
    resized: tuple[tuple[str, Shape, Shape], ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]


def carry_over(old: Inference, new: Inference) -> CarriedOver:
    """Compare the shape checks of two graphs, by path."""
    shapes = tuple(
        (path, old.shapes[path], shape)
        for path, shape in new.shapes.items()
        if path in old.shapes and old.shapes[path] != shape
    )
    common = [name for name in new.parameters if name in old.parameters]
    return CarriedOver(
        shapes=shapes,
        kept=tuple(name for name in common if old.parameters[name] == new.parameters[name]),
        resized=tuple(
            (name, old.parameters[name], new.parameters[name])
            for name in common
            if old.parameters[name] != new.parameters[name]
        ),
        new=tuple(name for name in new.parameters if name not in old.parameters),
        dropped=tuple(name for name in old.parameters if name not in new.parameters),
    )
