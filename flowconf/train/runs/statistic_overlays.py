"""The statistics of a run (`trainer.statistics`) as overlays of its graph, by path."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowconf.draw.levels import drawn
from flowconf.language.paths import parents

Latest = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Kind -> path -> name -> value."""
Values = Mapping[str, float]
"""Path -> value."""
OVERLAYS: dict[str, tuple[str, Callable[[float], str], float]] = {
    "gradient": ("norm of the gradient", "{:.3g}".format, 0.0),
    "weight": ("norm of the weights", "{:.3g}".format, 0.0),
    "update": ("norm of the update", "{:.3g}".format, 0.0),
    "moved": ("update, relative to the weights", "{:.3g}".format, 0.0),
    "activation": ("norm of the activations", "{:.3g}".format, 0.0),
    "zeros": ("zeros among the activations", "{:.1%}".format, 1.0),
}
"""Name -> title, how a value is shown, and the largest possible value if there is one."""


def overlays_of(moments: Sequence[tuple[int, Latest]]) -> dict[str, dict[str, Any]]:
    """Norms of gradients, weights and updates with all parameters inside, and norms and zeros of activations.

    They are the latest; `steps` and `history`, by path, are those of all moments.
    """
    found = [(step, _by_path(statistics)) for step, statistics in moments]
    overlays: dict[str, dict[str, Any]] = {}
    for name, (title, text, most) in OVERLAYS.items():
        latest = found[-1][1][name] if found else {}
        if latest:
            overlays[name] = _overlay(title, latest, text, most)
            known = [(step, values[name]) for step, values in found if values[name]]
            history = {path: [_short(values.get(path)) for _, values in known] for path in latest}
            overlays[name] |= {"steps": [step for step, _ in known], "history": history}
    return overlays


def _by_path(statistics: Latest) -> dict[str, dict[str, float]]:
    """The values of each overlay."""
    norms = {kind: _norms(statistics.get(kind, {})) for kind in ("gradient", "weight", "update")}
    weights = norms["weight"]
    activations = statistics.get("activation", {})
    return {
        **norms,
        "moved": {path: value / weights[path] for path, value in norms["update"].items() if weights.get(path)},
        "activation": _of_members(activations, "norm"),
        "zeros": _of_members(activations, "zeros"),
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _norms(parameters: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The norm of all parameters inside of each path."""
    norms: dict[str, float] = {}
    for name, values in parameters.items():
        for path in parents(drawn(name)):
            norms[path] = math.hypot(norms.get(path, 0.0), values.get("norm", 0.0))
    return norms


def _of_members(activations: Mapping[str, Mapping[str, float]], name: str) -> dict[str, float]:
    """A statistic of the output of each member, which is that of the last module of a chain."""
    return {path: values[name] for path, values in activations.items() if name in values and path == drawn(path)}


def _overlay(title: str, values: Values, text: Callable[[float], str], most: float) -> dict[str, Any]:
    largest = most or max(values.values(), default=0.0) or 1.0
    shown = {path: [round(value / largest, 4), text(value)] for path, value in values.items()}
    return {"title": title, "group": "statistics", "values": shown}
