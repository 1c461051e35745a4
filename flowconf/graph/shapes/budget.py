"""How large a graph would be, before any of it is made: numbers in parameters, and modules with all their copies."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from flowconf.language.plan import Applied, Chain, GraphPlan, Mount, Shared, Step, join
from flowconf.report import Diagnostic, MachineError, Reporter

MOST_MODULES = 1_000_000
MOST_NUMBERS = 2**40
"""A single parameter has at most so many numbers: four terabytes."""
BYTES = 4


def check_budget(plan: GraphPlan, parameters: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `ConfigError` (FC0202) for a graph that no machine can hold."""
    reporter = Reporter()
    for name, shape in parameters.items():
        if math.prod(shape) > MOST_NUMBERS:
            path = name.rpartition(".")[0]
            message = (
                f"`{path}` makes a parameter of {math.prod(shape):,} numbers, at most {MOST_NUMBERS:,} are possible"
            )
            place = plan.step_at(path)
            reporter.error("FC0202", message, place.body_place if place else plan.place, path=path)
    _count(plan, 1, "", reporter)
    reporter.stop_on_errors()


def check_memory(plan: GraphPlan, parameters: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `MachineError` (FC0601) for a graph whose parameters the machine's memory cannot hold."""
    needed = sum(math.prod(shape) * _copies(plan, name) for name, shape in parameters.items()) * BYTES
    memory = _memory()
    if memory is not None and needed > memory:
        message = (
            f"the parameters of the graph need {needed / 1e9:,.1f} GB, and this machine has {memory / 1e9:,.1f} GB"
        )
        raise MachineError(Diagnostic("FC0601", message, plan.place))


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _repeats(step: Step) -> int:
    count = step.repeat.value if step.repeat is not None else 1
    return count if isinstance(count, int) else 1


def _count(plan: GraphPlan, copies: int, path: str, reporter: Reporter) -> int:
    """The modules of a graph of which there are `copies`; a step that makes too many of them is told once."""
    total = 0
    for step in plan.steps:
        here = sum(
            _modules(applied, copies * _repeats(step), join(path, step.path), reporter) for applied in step.applied()
        )
        if here > MOST_MODULES and not reporter.errors:
            place = step.repeat.place if step.repeat is not None else step.place
            message = (
                f"`{join(path, step.path)}` has {here:,} modules with all copies, at most {MOST_MODULES:,} are possible"
            )
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


def _copies(plan: GraphPlan, path: str) -> int:
    """How many copies there are of what stands at a path, by the repeats above it."""
    step = plan.step(path.partition(".")[0])
    if step is None:
        return 1
    for applied in step.applied():
        if isinstance(applied.module, Mount) and path.startswith(f"{applied.path}."):
            return _repeats(step) * _copies(applied.module.graph, path[len(applied.path) + 1 :])
    return _repeats(step)
