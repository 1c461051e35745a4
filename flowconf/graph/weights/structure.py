"""The structural hash of a graph: equal for graphs that compute the same thing in the same way.

Verbs, calls, their arguments, references and counts enter it. Labels of the whole, how a number was written, weights,
and what is frozen do not.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from flowconf.language.plan import (
    Applied,
    Argument,
    Call,
    Chain,
    GraphPlan,
    Hole,
    Instance,
    Literal,
    Module,
    Mount,
    Sequence,
    Shared,
    Step,
)
from flowconf.language.registry import modules
from flowconf.report import ConfigError, Diagnostic


def structural_hash(graph: GraphPlan) -> str:
    """A SHA-256 digest. Raises `ConfigError` for a graph that holds a module made outside of its document."""
    return hashlib.sha256(json.dumps(_graph(graph)).encode()).hexdigest()


def _graph(graph: GraphPlan) -> list[Any]:
    inputs = [[given.name, given.shape, given.dtype] for given in graph.inputs]
    outputs = [[name if graph.fields else "", str(value)] for name, value in graph.outputs]
    return [inputs, [_step(step) for step in graph.steps], outputs, list(graph.shares)]


def _step(step: Step) -> list[Any]:
    merge = _applied(step.merge) if isinstance(step.merge, Applied) else step.merge
    counts = [literal and literal.value for literal in (step.times, step.repeat, step.slices)]
    parts = [[name, _applied(applied)] for name, applied in step.parts]
    extras = [applied and _applied(applied) for applied in (step.skip, step.router, step.condition)]
    rest = [step.take, step.dim, step.batched, step.halt]
    return [step.name, step.verb, str(step.stream), parts, extras, merge, counts, rest]


def _applied(applied: Applied) -> list[Any]:
    return [_module(applied.module), [[name, f"{value}{'/' * value.sliced}"] for name, value in applied.using]]


def _module(module: Module) -> Any:
    match module:
        case Call():
            return _argument(module)
        case Chain(members):
            return ["chain", [_applied(member) for member in members]]
        case Mount():
            return ["graph", _graph(module.graph)]
        case Shared():
            return ["shared", module.path]
        case Instance():
            message = "a graph that holds a module made outside of its document has no structural hash"
            raise ConfigError(
                Diagnostic("FC0146", message, module.place, advice="register the module's class and call it")
            )


def _argument(argument: Argument) -> Any:
    match argument:
        case Literal(value=value):
            return value
        case Hole():
            return "_"
        case Sequence(items):
            return [_argument(item) for item in items]
        case Call():
            names = modules.class_source(argument.name).init.positional
            named, rest = zip(names, argument.args, strict=False), argument.args[len(names) :]
            kwargs = sorted((name, _argument(value)) for name, value in (*named, *argument.kwargs))
            return [argument.name, [_argument(value) for value in rest], kwargs]
