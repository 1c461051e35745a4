"""Where a mistake of the shape check is marked: at the call, or at the number that a person would change."""

from __future__ import annotations

from flowconf.diagnostics import Place
from flowconf.language.plan import Applied, Chain, Module, Mount, Step


def says(mount: Mount, size: int | str | None) -> Place:
    """Where a mount gives its graph this size, or else where the graph is named."""
    return next((given.place for _, given in mount.params if given.value == size), mount.place)


def place_of(applied: Applied, step: Step) -> Place:
    return call_place(applied.module, step)


def call_place(module: Module, step: Step) -> Place:
    if isinstance(module, Chain):
        return call_place(module.members[-1].module, step)
    place = getattr(module, "place", None)
    return place if isinstance(place, Place) and (place.line or place.word) else step.body_place
