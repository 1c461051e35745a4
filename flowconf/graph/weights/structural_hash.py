"""The structural hash of a graph: equal for graphs that compute the same function in the same way.

It includes verbs, calls, their arguments, references and counts. It does not include the label of the graph, the
notation of numbers, weights, and `frozen`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from flowconf.language.arguments import Argument, Call, Literal, python_value
from flowconf.language.plan import Applied, Chain, GraphPlan, Instance, Module, Mount, Shared, Step, Value
from flowconf.language.registry import modules
from flowconf.report import ConfigError, Diagnostic


def structural_hash(graph: GraphPlan) -> str:
    """A SHA-256 digest. Raises `ConfigError` for a graph with a module from outside its document."""
    return hashlib.sha256(json.dumps(_graph(graph)).encode()).hexdigest()


def _graph(graph: GraphPlan) -> list[Any]:
    inputs = [[given.name, given.shape, given.dtype] for given in graph.inputs]
    outputs = [[name if graph.fields else "", str(value)] for name, value in graph.outputs]
    ties = sorted([tie.name, tie.other] for tie in graph.ties)
    added: list[Any] = [["tie", *ties]] if ties else []
    for adapter in graph.adapters:
        args = sorted((name, value.value) for name, value in adapter.args)
        inside = [adapter.selector, *sorted(adapter.inside)] if adapter.inside else []
        added.append(["adapt", adapter.name, args, sorted(adapter.paths), *inside])
    return [inputs, [_step(step) for step in graph.steps], outputs, list(graph.shares), *added]


def _step(step: Step) -> list[Any]:
    parts = [[name, _applied(applied)] for name, applied in step.parts]
    own = [[name, _of_verb(value)] for name, value in step.own.items() if value is not None]
    repeat, copies = step.repeat and step.repeat.value, [_step(copy) for copy in step.copies]
    return [step.name, step.verb, str(step.stream), parts, own, step.take, repeat, copies]


def _of_verb(value: object) -> Any:
    """A field that belongs to one verb."""
    match value:
        case Applied():
            return _applied(value)
        case Literal():
            return value.value
        case Value():
            return str(value)
    return value


def _applied(applied: Applied) -> list[Any]:
    return [_module(applied.module), [[name, f"{value}{'/' * value.sliced}"] for name, value in applied.using]]


def _module(module: Module) -> Any:
    match module:
        case Call():
            return _call(module)
        case Chain(members):
            return ["chain", [_applied(member) for member in members]]
        case Mount():
            return ["graph", _graph(module.graph)]
        case Shared():
            return ["shared", module.path]
        case Instance():
            message = "a graph with a module from outside its document has no structural hash"
            raise ConfigError(
                Diagnostic("FC0146", message, module.place, advice="register the class of the module and call it")
            )


def _call(call: Call) -> list[Any]:
    """A call with its arguments by name, as far as they have one."""
    names = modules.class_source(call.name).init.positional
    named, rest = zip(names, call.args, strict=False), call.args[len(names) :]
    kwargs = sorted((name, _argument(value)) for name, value in (*named, *call.kwargs))
    return [call.name, [_argument(value) for value in rest], kwargs]


def _argument(argument: Argument) -> Any:
    return python_value(argument, lambda hole: "_", _call)
