"""Limits on the size of a graph, checked before it is built: parameters, and modules with all their copies."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from flowconf.graph.source.emit import copies_at
from flowconf.language.paths import join
from flowconf.language.plan import Applied, Chain, GraphPlan, Mount, Shared
from flowconf.report import Diagnostic, MachineError, Reporter

MOST_MODULES = 1_000_000
MOST_NUMBERS = 2**40
"""The maximum number of elements in a single parameter: four terabytes."""
BYTES = 4


def check_budget(plan: GraphPlan, parameters: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `ConfigError` (FC0202) for a graph that exceeds the limits."""
    reporter = Reporter()
    for name, shape in parameters.items():
        if math.prod(shape) > MOST_NUMBERS:
            path = name.rpartition(".")[0]
            message = f"`{path}` has a parameter of {math.prod(shape):,} elements, the maximum is {MOST_NUMBERS:,}"
            place = plan.step_at(path)
            reporter.error("FC0202", message, place.body_place if place else plan.place, path=path)
    _count(plan, 1, "", reporter)
    reporter.stop_on_errors()


def check_memory(plan: GraphPlan, parameters: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `MachineError` (FC0601) for a graph whose parameters exceed the memory of the machine."""
    needed = sum(math.prod(shape) * copies_at(plan, name) for name, shape in parameters.items()) * BYTES
    memory = _memory()
    if memory is not None and needed > memory:
        message = (
            f"the parameters of the graph require {needed / 1e9:,.1f} GB, but this machine has {memory / 1e9:,.1f} GB"
        )
        raise MachineError(Diagnostic("FC0601", message, plan.place))


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _count(plan: GraphPlan, copies: int, path: str, reporter: Reporter) -> int:
    """The number of modules in `copies` of a graph; the first step with too many is reported."""
    total = 0
    for step in plan.steps:
        here = sum(
            _modules(applied, copies * step.copy_count, join(path, step.path), reporter) for applied in step.applied()
        )
        if here > MOST_MODULES and not reporter.errors:
            place = step.repeat.place if step.repeat is not None else step.place
            message = f"`{join(path, step.path)}` has {here:,} modules with all copies, the maximum is {MOST_MODULES:,}"
            reporter.error("FC0202", message, place, path=join(path, step.path))
        total += here
    return total


def _modules(applied: Applied, copies: int, path: str, reporter: Reporter) -> int:
    match applied.module:
        case Shared():
            return 0
        case Mount(graph=graph):
            return copies + _count(graph, copies, path, reporter)
        case Chain(members=members):
            return sum(_modules(member, copies, path, reporter) for member in members)
    return copies
