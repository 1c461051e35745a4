"""Finds the place for an error of the shape check: the call, or the number to change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from flowconf.graph.shapes.fake_values import difference
from flowconf.graph.shapes.scope import Giver
from flowconf.graph.shapes.sizes import EXPECTS
from flowconf.language.arguments import Call, Literal
from flowconf.language.plan import Applied, Chain, GraphPlan, Input, Module, Mount, Step
from flowconf.language.registry import modules
from flowconf.report import Place

KEEPERS = (".activation", ".batchnorm", ".dropout", ".instancenorm", ".normalization")
"""Parts of torch whose modules preserve the shape."""


def size_in_mount(mount: Mount, size: int | str | None) -> Place | None:
    """Where a mount passes this size to its graph."""
    return next((given.place for _, given in mount.params if given.value == size), None)


def made_at(giver: Giver | None, size: int) -> Place | None:
    """Where the number that determines this size of a value is written."""
    match giver.by if giver is not None else None:
        case Step(parts=((_, applied),)):
            return number_in(applied.target, size)
        case Input(shape=tuple(shape), places=places):
            return next((place for one, place in zip(shape, places, strict=False) if one == size), None)
    return None


def number_in(module: Module, size: int) -> Place | None:
    """Where the number that determines this output size of a module is written: in the last call with it."""
    inside: Iterable[Module] = ()
    match module:
        case Chain(members=members):
            inside = (member.target for member in reversed(members))
        case Mount(graph=graph):
            inside = (step.body.target for step in backwards(graph))
        case Call(args=args, kwargs=kwargs):
            given = modules.class_source(module.name).init.bound(args, kwargs)
            equal = [(p.name, n) for p, n in given if isinstance(n, Literal) and _has_size(n.value, size)]
            places = [n.place for name, n in equal if name not in EXPECTS] or [n.place for _, n in equal]
            known = [place for place in places if place.line or place.word]
            return known[0] if len(known) == 1 else module.place if known else None
    return next((place for one in inside if (place := number_in(one, size)) is not None), None)


def backwards(graph: GraphPlan) -> Iterator[Step]:
    """The steps of a graph with a single output along its stream, the last one first."""
    step = graph.step(graph.outputs[0][1].member) if len(graph.outputs) == 1 else None
    for _ in graph.steps:
        if step is None:
            return
        yield step
        step = graph.step(step.stream.member)


def _has_size(value: object, size: int) -> bool:
    return value == size or (isinstance(value, tuple) and size in value)


def call_place(module: Module, step: Step) -> Place:
    """Where a module is called; for a chain, the last member that may change a shape."""
    if isinstance(module, Chain):
        members = [member.module for member in module.members]
        return call_place(next((one for one in reversed(members) if not _keeps(one)), members[-1]), step)
    place = getattr(module, "place", None)
    return place if isinstance(place, Place) and (place.line or place.word) else step.body_place


def _keeps(module: Module) -> bool:
    """Whether a module preserves the shape."""
    return isinstance(module, Call) and modules.locations.get(module.name, "").endswith(KEEPERS)


def end_of(applied: Applied, step: Step) -> Place:
    """Where the last module of a body is written; for a graph of another file, where that is named."""
    module = applied.target
    if not isinstance(module, Mount) or module.graph.source_name is not None:
        return call_place(module, step)
    outputs = {value.member for _, value in module.graph.outputs}
    last = next((inner for inner in reversed(module.graph.steps) if inner.name in outputs), None)
    if last is None:
        return call_place(module, step)
    return end_of(last.body, last) if len(last.parts) == 1 else last.place


def apart(one: Any, other: Any) -> list[int]:
    """The dimensions in which two tensors of the same rank differ; empty for other values."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.dim() != other.dim():
        return []
    return [dim for dim in range(one.dim()) if one.shape[dim] != other.shape[dim]]


def skip_is_odd(stream: Any, change: Any, kept: Any) -> bool:
    """Whether `skip` is at fault if `change` cannot be added to its output.

    If one keeps the shape of the stream, the other is at fault; if both change it, the one that keeps a size is.
    """
    if difference(change, stream) is None or difference(kept, stream) is None:
        return difference(change, stream) is None
    like_the_stream = isinstance(stream, Tensor) and isinstance(change, Tensor) and stream.dim() == change.dim()
    return not like_the_stream or bool(set(apart(change, kept)) & set(apart(change, stream)))
