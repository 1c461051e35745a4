"""Whether what a step is given and what its modules take fit together."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flowconf.diagnostics import Collector, Label, Place
from flowconf.language.frame import Frame
from flowconf.language.plan import Applied, Call, Mount, Step, Value
from flowconf.language.registry import modules

Using = list[tuple[str | None, Value]]
"""What `using` names: the argument, where the document says it, and the value."""


def check_taken(
    step: Step, using: Using, taken: Collection[int], places: Sequence[Place], collector: Collector
) -> None:
    """Every reference in `using` must be an argument of something; `taken` holds the positions of those that are."""
    for index, (given, value) in enumerate(using):
        if index in taken:
            continue
        reader = step.router or step.body
        offered = _arguments(reader)
        advice = None
        if offered:
            listed = ", ".join(f"`{argument}`" for argument in offered)
            advice = f"write `using: {{{offered[0]}: {value}}}`; the arguments are {listed}"
        message = f"`{reader.target}` takes no argument `{given or value.name}`"
        collector.error("FC0143", message, places[index], path=step.path, help=advice)


def check_extras(step: Step, collector: Collector) -> None:
    """What stands below a step's path must not meet a member of the graph that stands at it."""
    module = step.body.module if step.parts else None
    if len(step.parts) != 1 or not isinstance(module, Mount):
        return
    for extra, applied in (("skip", step.skip), ("condition", step.condition)):
        member = module.graph.step(extra)
        if applied is not None and member is not None:
            message = f"`{step.path}.{extra}` would stand for two things"
            labels = (Label("the body's own member", member.place),)
            advice = f"give the member `{extra}` of the body another name"
            collector.error("FC0142", message, step.place, path=step.path, labels=labels, help=advice)


def check_filled(step: Step, frame: Frame, collector: Collector) -> None:
    """Every input of a mounted graph must be filled by the stream, or by `using`."""
    for applied in step.applied():
        for name in _unfilled(applied, step):
            graph = applied.target.graph if isinstance(applied.target, Mount) else None
            declared = graph.input(name) if graph is not None else None
            labels = [Label("declared here", declared.place)] if declared is not None else []
            giver = frame.step(step.stream.member)
            if step.stream_fields is not None and giver is not None:
                held = ", ".join(f"`{field}`" for field in step.stream_fields)
                labels.append(Label(f"the stream `{step.stream}` holds {held}", giver.place))
            message = f"nothing fills the input `{name}` of `{applied.path}`"
            advice = f"add `using: {name}`, or `using: {{{name}: ...}}`"
            collector.error("FC0147", message, step.place, path=step.path, labels=tuple(labels), help=advice)


def _unfilled(applied: Applied, step: Step) -> list[str]:
    """The inputs of a mounted graph that nothing fills."""
    if not isinstance(applied.target, Mount):
        return []
    own = [given.name for given in applied.target.graph.inputs if not given.captured]
    by_name = step.stream_fields is not None and len(own) > 1
    filled = {name for name, _ in applied.using} | set(step.stream_fields or () if by_name else own[:1])
    return [name for name in own if name not in filled]


def _arguments(applied: Applied) -> list[str]:
    """What a module takes besides the stream."""
    module = applied.target
    if isinstance(module, Call):
        return modules.class_source(module.name).forward.names[1:]
    if isinstance(module, Mount):
        return [given.name for given in module.graph.inputs[1:] if not given.captured]
    return []
