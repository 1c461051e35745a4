"""Whether what a step is given and what its modules take fit together."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flowconf.language.arguments import Call
from flowconf.language.plan import Applied, Chain, GraphPlan, Instance, Mount, Record, Step, Value
from flowconf.language.registry import modules
from flowconf.language.resolve.draft import Draft
from flowconf.report import Advice, Label, Place, Reporter, Suggestion, nearest

Using = list[tuple[str | None, Value]]
"""What `using` names: the argument, where the document says it, and the value."""


def check_taken(
    step: Step, using: Using, taken: Collection[int], places: Sequence[Place], reporter: Reporter, key: str = "using"
) -> None:
    """Every reference under `key` must be an argument of something; `taken` holds the positions of those that are."""
    for index, (given, value) in enumerate(using):
        if index in taken:
            continue
        reader, name = step.reader, given or value.name
        offered = _arguments(reader)
        free = [argument for argument in offered if argument not in [given for given, _ in using]]
        message = f"`{reader.target}` takes no argument `{name}`"
        advice = "it takes nothing but its stream; `from` reads another one, and `Concat` joins two"
        if offered:
            listed = ", ".join(f"`{argument}`" for argument in offered)
            meant = nearest(name, offered) or (free or offered)[0]
            advice = f"write `{key}: {{{meant}: {value}}}`; the arguments are {listed}"
        if reader is step.body and len(step.parts) > 1:
            message = f"no branch of `{step.path}` takes an argument `{name}`"
        elif name == _stream_of(reader):
            message = f"`{name}` of `{reader.target}` is the stream, and is given by `{key}` as well"
            advice = f"write `from: {value}` beside the verb, or leave `{name}` out"
        reporter.error("FC0143", message, places[index], path=step.path, advice=advice)


def check_extras(step: Step, reporter: Reporter) -> None:
    """What stands below a step's path must not meet a member of the graph that stands at it."""
    module = step.body.module if step.parts else None
    if len(step.parts) != 1 or not isinstance(module, Mount):
        return
    graph = module.graph
    own = {name: value.place for name, value in graph.outputs}
    for extra in step.modules_beside:
        member = graph.step(extra)
        if extra in own or member is not None:
            message = f"`{step.path}.{extra}` would stand for two things"
            labels = (Label("the body's own", member.place if member is not None else own[extra]),)
            advice = f"give the `{extra}` of the body another name"
            reporter.error("FC0142", message, step.place, path=step.path, labels=labels, advice=advice)


def check_filled(step: Step, draft: Draft, reporter: Reporter) -> None:
    """Every input of a mounted graph must be filled by the stream, or by `using`."""
    if step.stream_record is None and _is_silent(draft.step(step.stream.member)) and not step.collects:
        return  # it may hold names: the shape check knows
    for applied in step.applied():
        for name in unfilled(applied, step.stream_record.names if step.stream_record is not None else None):
            graph = applied.target.graph if isinstance(applied.target, Mount) else None
            declared = graph.input(name) if graph is not None else None
            labels = [Label("declared here", declared.place)] if declared is not None else []
            giver = draft.step(step.stream.member)
            if step.stream_record is not None and giver is not None:
                held = ", ".join(f"`{field}`" for field in step.stream_record.names)
                labels.append(Label(f"the stream `{step.stream}` holds {held}", giver.place))
            message = f"nothing fills the input `{name}` of `{applied.path}`"
            place: Place = step.place
            advice: Advice = to_fill(name)
            wrong = _misnamed(giver, name, graph)
            if wrong is not None:
                labels = [*labels[:1], Label("read here", place)]
                place, advice = wrong, Suggestion(name)
            reporter.error("FC0147", message, place, path=step.path, labels=tuple(labels), advice=advice)


def _misnamed(giver: Step | None, name: str, reader: GraphPlan | None) -> Place | None:
    """Where a step that gives several values names one otherwise than the graph that reads them."""
    body = giver.body.target if giver is not None and len(giver.parts) == 1 else None
    if not isinstance(body, Mount) or reader is None:
        return None
    return body.graph.misnamed(name, [given.name for given in reader.inputs])


def to_fill(name: str, module: str | None = None) -> str:
    """What to write where nothing fills an argument or an input."""
    if module is not None and modules.locations.get(module) == "torch.nn.modules.loss":
        return "a loss is no step: the `loss` of a training config names it, with its `input` and `target`"
    return f"add `using: {name}`, or `using: {{{name}: ...}}`"


def _is_silent(step: Step | None) -> bool:
    """Whether what a step gives may hold names that nothing tells of before it runs."""
    if step is None or len(step.parts) != 1 or step.take is not None:
        return False
    module = step.body.target
    last = module.members[-1].target if isinstance(module, Chain) else module
    return isinstance(last, Instance) or (isinstance(last, Call) and modules.class_source(last.name).silent)


def record(step: Step) -> Record | None:
    """The names that what the body gives holds, where that is told: by a graph's outputs, or a NamedTuple."""
    module = step.body.target
    if len(step.parts) > 1:
        return None
    if isinstance(module, Mount):
        return Record(module.graph.fields) if module.graph.fields is not None else None
    last = module.members[-1].target if isinstance(module, Chain) else module
    names = modules.class_source(last.name).gives if isinstance(last, Call) else None
    return Record(names, named=True) if names is not None else None


def unfilled(applied: Applied, held: Collection[str] | None) -> list[str]:
    """The inputs of a mounted graph that nothing fills; `held` are the names in the stream, None for one value."""
    if not isinstance(applied.target, Mount):
        return []
    own = [given.name for given in applied.target.graph.inputs if not given.captured]
    by_name = held is not None and len(own) > 1
    filled = {name for name, _ in applied.using} | set(held or () if by_name else own[:1])
    return [name for name in own if name not in filled]


def _stream_of(applied: Applied) -> str | None:
    """The argument of a module that the stream fills."""
    module = applied.target
    return next(iter(modules.class_source(module.name).forward.names), None) if isinstance(module, Call) else None


def _arguments(applied: Applied) -> list[str]:
    """What a module takes besides the stream."""
    module = applied.target
    if isinstance(module, Call):
        return modules.class_source(module.name).forward.names[1:]
    if isinstance(module, Mount):
        return [given.name for given in module.graph.inputs[1:] if not given.captured]
    return []
