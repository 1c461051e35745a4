"""The latest statistics of a run (`trainer.statistics`) as overlays of its graph, by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flowconf.draw.levels import drawn, paths_above

Latest = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Kind -> path -> name -> value."""
Values = Mapping[str, float]
"""Path -> value."""


def overlays_of(statistics: Latest) -> dict[str, dict[str, Any]]:
    """Norms of gradients, weights and updates with all parameters inside, and norms and zeros of activations."""
    norms = {kind: _norms(statistics.get(kind, {})) for kind in ("gradient", "weight", "update")}
    moved = {
        path: value / norms["weight"][path] for path, value in norms["update"].items() if norms["weight"].get(path)
    }
    activations = statistics.get("activation", {})
    found = {
        "gradient": _overlay("norm of the gradient", norms["gradient"]),
        "weight": _overlay("norm of the weights", norms["weight"]),
        "update": _overlay("norm of the update", norms["update"]),
        "moved": _overlay("update, relative to the weights", moved),
        "activation": _overlay("norm of the activations", _of_members(activations, "norm")),
        "zeros": _overlay("zeros among the activations", _of_members(activations, "zeros"), "{:.1%}".format, 1.0),
    }
    return {name: overlay for name, overlay in found.items() if overlay["values"]}


def _norms(parameters: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The norm of all parameters inside of each path."""
    squares: dict[str, float] = {}
    for name, values in parameters.items():
        for path in paths_above(drawn(name)):
            squares[path] = squares.get(path, 0.0) + values.get("norm", 0.0) ** 2
    return {path: square**0.5 for path, square in squares.items()}


def _of_members(activations: Mapping[str, Mapping[str, float]], name: str) -> dict[str, float]:
    """A statistic of the output of each member, which is that of the last module of a chain."""
    return {path: values[name] for path, values in activations.items() if name in values and path == drawn(path)}


def _overlay(
    title: str, values: Values, text: Callable[[float], str] = "{:.3g}".format, most: float = 0.0
) -> dict[str, Any]:
    largest = most or max(values.values(), default=0.0) or 1.0
    shown = {path: [round(value / largest, 4), text(value)] for path, value in values.items()}
    return {"title": title, "group": "statistics", "values": shown}
