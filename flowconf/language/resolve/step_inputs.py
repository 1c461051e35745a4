"""Checks that the inputs of a step match what its modules take."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from flowconf.language.arguments import Call
from flowconf.language.plan import Applied, Chain, GraphPlan, Instance, Mount, Record, Step, Value
from flowconf.language.registry import modules
from flowconf.language.resolve.draft import Draft
from flowconf.report import Advice, Label, Place, Reporter, Suggestion, nearest


@dataclass
class Given:
    """A value under the key `using` or `over` of a step, and the argument that it fills."""

    key: str
    name: str
    value: Value
    place: Place
    is_taken: bool = False
    """Whether a module takes it."""


def taken(given: Iterable[Given], takes: Callable[[str], bool]) -> tuple[tuple[str, Value], ...]:
    """The values that a module takes, by the names of its arguments."""
    found = [one for one in given if takes(one.name)]
    for one in found:
        one.is_taken = True
    return tuple((one.name, one.value) for one in found)


def check_taken(step: Step, given: Sequence[Given], reporter: Reporter) -> None:
    """Report values that no module takes as an argument."""
    names = [one.name for one in given]
    for one in given:
        if one.is_taken:
            continue
        reader, name, value, key = step.reader, one.name, one.value, one.key
        offered = _arguments(reader)
        free = [argument for argument in offered if argument not in names]
        message = f"`{reader.target}` takes no argument `{name}`"
        advice = "it takes only its stream; `from` selects another value, and `Concat` concatenates several"
        if offered:
            listed = ", ".join(f"`{argument}`" for argument in offered)
            meant = nearest(name, offered) or (free or offered)[0]
            advice = f"write `{key}: {{{meant}: {value}}}`; available arguments: {listed}"
        if reader is step.body and len(step.parts) > 1:
            message = f"no branch of `{step.path}` takes an argument `{name}`"
        elif name == _stream_of(reader):
            message = f"`{name}` of `{reader.target}` is set twice: by the stream, and by `{key}`"
            advice = f"write `from: {value}` beside the verb, or remove `{name}`"
        reporter.error("FC0143", message, one.place, path=step.path, advice=advice)


def check_extras(step: Step, reporter: Reporter) -> None:
    """Report names of a step's further modules that are also names in its nested graph."""
    module = step.body.module if step.parts else None
    if len(step.parts) != 1 or not isinstance(module, Mount):
        return
    graph = module.graph
    own = {name: value.place for name, value in graph.outputs}
    for extra in step.modules_beside:
        member = graph.step(extra)
        if extra in own or member is not None:
            message = f"duplicate path `{step.path}.{extra}`"
            labels = (Label(f"`{extra}` of the body", member.place if member is not None else own[extra]),)
            advice = f"rename `{extra}` in the body"
            reporter.error("FC0142", message, step.place, path=step.path, labels=labels, advice=advice)


def check_filled(step: Step, draft: Draft, reporter: Reporter) -> None:
    """Report inputs of mounted graphs that neither the stream nor `using` sets."""
    if step.stream_record is None and _is_silent(draft.step(step.stream.member)) and not step.collects:
        return  # it may have named elements, which the shape check knows
    for applied in step.applied():
        for name in unfilled(applied, step.stream_record.names if step.stream_record is not None else None):
            graph = applied.target.graph if isinstance(applied.target, Mount) else None
            declared = graph.input(name) if graph is not None else None
            labels = [Label("declared here", declared.place)] if declared is not None else []
            giver = draft.step(step.stream.member)
            if step.stream_record is not None and giver is not None:
                held = ", ".join(f"`{field}`" for field in step.stream_record.names)
                labels.append(Label(f"the stream `{step.stream}` has {held}", giver.place))
            message = f"the input `{name}` of `{applied.path}` has no value"
            place: Place = step.place
            advice: Advice = to_fill(name)
            giving = giver.body.target if giver is not None and len(giver.parts) == 1 else None
            wrong = misnamed(giving.graph, name, graph) if isinstance(giving, Mount) and graph is not None else None
            if wrong is not None:
                labels = [*labels[:1], Label("read here", place)]
                place, advice = wrong, Suggestion(name)
            reporter.error("FC0147", message, place, path=step.path, labels=tuple(labels), advice=advice)


def misnamed(giver: GraphPlan, name: str, reader: GraphPlan) -> Place | None:
    """The place of an output of a graph that was probably meant for the input `name` of another one, or None."""
    taken = [given.name for given in reader.inputs]
    free = {output: place for output, place in giver.output_places if output not in taken}
    return free.get(nearest(name, free) or "") or (next(iter(free.values())) if len(free) == 1 else None)


def to_fill(name: str, module: str | None = None) -> str:
    """The advice for an argument or input without a value."""
    if module is not None and modules.locations.get(module) == "torch.nn.modules.loss":
        return "a loss is not a step: move it to the `loss` of a training config, with its `input` and `target`"
    return f"add `using: {name}`, or `using: {{{name}: ...}}`"


def _is_silent(step: Step | None) -> bool:
    """Whether the output of a step may have named elements that are unknown before it runs."""
    if step is None or len(step.parts) != 1 or step.take is not None:
        return False
    module = step.body.target
    last = module.members[-1].target if isinstance(module, Chain) else module
    return isinstance(last, Instance) or (isinstance(last, Call) and modules.class_source(last.name).silent)


def record(step: Step) -> Record | None:
    """The named elements in the output of the body, if known from the outputs of a graph or a NamedTuple."""
    module = step.body.target
    if len(step.parts) > 1:
        return None
    if isinstance(module, Mount):
        return Record(module.graph.fields) if module.graph.fields is not None else None
    last = module.members[-1].target if isinstance(module, Chain) else module
    names = modules.class_source(last.name).gives if isinstance(last, Call) else None
    return Record(names, named=True) if names is not None else None


def unfilled(applied: Applied, held: Collection[str] | None) -> list[str]:
    """The inputs of a mounted graph without a value; `held` are the names in the stream, None for a single value."""
    if not isinstance(applied.target, Mount):
        return []
    own = [given.name for given in applied.target.graph.inputs if not given.captured]
    by_name = held is not None and len(own) > 1
    filled = {name for name, _ in applied.using} | set(held or () if by_name else own[:1])
    return [name for name in own if name not in filled]


def _stream_of(applied: Applied) -> str | None:
    """The argument of a module to which the stream is passed."""
    module = applied.target
    return next(iter(modules.class_source(module.name).forward.names), None) if isinstance(module, Call) else None


def _arguments(applied: Applied) -> list[str]:
    """The arguments of a module besides the stream."""
    module = applied.target
    if isinstance(module, Call):
        return modules.class_source(module.name).forward.names[1:]
    if isinstance(module, Mount):
        return [given.name for given in module.graph.inputs[1:] if not given.captured]
    return []
