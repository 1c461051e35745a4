"""Where a mistake of the shape check is marked: at the call, or at the number that a person would change."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from flowconf.diagnostics import Place
from flowconf.language.plan import Applied, Call, Chain, Literal, Module, Mount, Step


def says(mount: Mount, size: int | str | None) -> Place:
    """Where a mount gives its graph this size, or else where the graph is named."""
    return next((given.place for _, given in mount.params if given.value == size), mount.place)


def number_in(module: Module, size: int) -> Place | None:
    """Where the number is written by which a module gives this size: in the last call that says it."""
    match module:
        case Chain(members=members):
            found = (number_in(member.target, size) for member in reversed(members))
            return next((place for place in found if place is not None), None)
        case Mount(graph=graph):
            step = graph.step(graph.outputs[0][1].member) if len(graph.outputs) == 1 else None
            for _ in graph.steps:  # backwards along the stream
                place = number_in(step.body.target, size) if step is not None else None
                if place is not None or step is None:
                    return place
                step = graph.step(step.stream.member)
        case Call(args=args, kwargs=kwargs):
            numbers = [*args, *(argument for _, argument in kwargs)]
            places = [n.place for n in numbers if isinstance(n, Literal) and n.value == size]
            return next((place for place in reversed(places) if place.line or place.word), None)
    return None


def place_of(applied: Applied, step: Step) -> Place:
    return call_place(applied.module, step)


def call_place(module: Module, step: Step) -> Place:
    if isinstance(module, Chain):
        return call_place(module.members[-1].module, step)
    place = getattr(module, "place", None)
    return place if isinstance(place, Place) and (place.line or place.word) else step.body_place


def end_of(applied: Applied, step: Step) -> Place:
    """Where the last thing that a body does is written; for a graph of another file, where the step is."""
    module = applied.target
    if isinstance(module, Mount):
        last = module.graph.steps[-1] if module.graph.source_name is None and module.graph.steps else None
        is_call = last is not None and len(last.parts) == 1 and isinstance(last.body.target, Call | Chain)
        return step.place if last is None else call_place(last.body.target, last) if is_call else last.place
    return call_place(module, step)


def changed_in(step: Step, got: Any, gives: Any) -> Place:
    """Where a body says the one size that it gives instead of another, or else its end."""
    if isinstance(got, Tensor) and isinstance(gives, Tensor) and got.dim() == gives.dim():
        sizes = [new for old, new in zip(got.shape, gives.shape, strict=True) if old != new]
        if len(sizes) == 1:
            return number_in(step.body.target, sizes[0]) or end_of(step.body, step)
    return end_of(step.body, step)
