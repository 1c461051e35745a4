"""Adapters: `adapt: {"**.attend": {name: lora, rank: 8}}`, resolved to the modules that they extend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from flowconf.language import schema
from flowconf.language.arguments import Call, Literal
from flowconf.language.keys.arguments import Arguments
from flowconf.language.paths import join
from flowconf.language.plan import Applied, Chain, GraphPlan, Module, Mount, Step
from flowconf.language.references import is_opened
from flowconf.language.registry import adapters
from flowconf.language.resolve import parameters
from flowconf.language.resolve.calls import CallParser
from flowconf.language.resolve.draft import Draft
from flowconf.language.selectors import Selector, SelectorError, Tree, parse
from flowconf.language.settings import Adapter
from flowconf.report import Reporter
from flowconf.report.origins import Path


def add(model: schema.Settings, at: Path, path: str, draft: Draft, parser: CallParser) -> None:
    """Add the adapters of the graph at `path` to the draft, with their arguments; what they select is known later."""
    reporter = parser.reporter
    for selector, given in model.adapt.items():
        where, name = (*at, "adapt", selector), given.name
        place = reporter.value((*where, "name"))
        if name not in adapters:
            reporter.add(adapters.unknown(name, place, path))
            continue
        literals = dict(_literals(given, where, parser))
        values = {argument: literal.plain for argument, literal in literals.items()}
        arguments = Arguments(name, adapters.signature(name), values, where, reporter, adapters.passed(name), given)
        arguments.require(arguments.check(adapters.missing(name, given.args)), place, where)
        args = tuple(literals.items())
        draft.adapters.append(Adapter(path, selector, name, args, place=reporter.key(where), name_place=place))


def _literals(given: schema.Adapt, where: Path, parser: CallParser) -> Iterator[tuple[str, Literal]]:
    """The arguments of an adapter; texts for numbers are expressions of parameters."""
    types = {parameter.name: parameter.type for parameter in adapters.signature(given.name).parameters}
    for name, value in given.args.items():
        place = parser.reporter.value((*where, name))
        is_expression = isinstance(value, str) and not re.search("str|Literal", types.get(name, "str"))
        found = parser.value(str(value), place) if is_expression else parameters.literal(value, place)
        if found is not None:
            yield name, found


def resolve(draft: Draft, reporter: Reporter) -> None:
    """Find the modules that adapters select, now that all members are known."""
    found, taken = [], dict[str, Adapter]()
    for adapter in draft.adapters:
        step = draft.step(adapter.path.split(".")[0])
        if step is None or draft.is_broken(step.name):
            continue
        applied = _applied_at(step, adapter.path)
        if applied is not None and is_opened(applied.target):
            if _parsed(adapter, reporter) is not None:
                found.append(replace(adapter, inside=(adapter.path,)))
            continue
        if applied is None or not isinstance(applied.module, Mount):
            message = f"`adapt` requires a graph, but `{adapter.path}` is none"
            advice = "mount the module in a graph, or write `adapt` at the graph around it"
            reporter.error("FC0125", message, adapter.place, path=adapter.path, advice=advice)
            continue
        selector = _parsed(adapter, reporter)
        paths, inside = (
            _selected(adapter, selector, applied.module.graph, reporter) if selector is not None else ([], [])
        )
        left = tuple(path for path in paths if path not in taken)
        if paths and not left and not inside:
            message = f"`{adapter.selector}` has no effect: `{taken[paths[0]].selector}` adapts the same modules"
            reporter.error("FC0405", message, adapter.place, path=adapter.path, advice="remove one of them")
        taken |= dict.fromkeys(left, adapter)
        found.append(replace(adapter, paths=left, inside=tuple(path for path in inside if path not in taken)))
    draft.adapters[:] = found


def _applied_at(step: Step, path: str) -> Applied | None:
    """The module that a step, or one of its copies, has at a path."""
    every = (applied for copy in (step, *step.copies) for applied in copy.applied())
    return next((applied for applied in every if applied.path == path), None)


def _parsed(adapter: Adapter, reporter: Reporter) -> Selector | None:
    """The selector of an adapter; None after an error."""
    try:
        selector = parse(adapter.selector)
    except SelectorError as problem:
        reporter.error("FC0405", problem.message, adapter.place, path=adapter.path, advice=problem.advice)
        return None
    if selector.kind is not None:
        message = f"`:{selector.kind}` selects parameters, but adapters extend modules"
        advice = f"remove `:{selector.kind}`"
        reporter.error("FC0405", message, adapter.place, path=adapter.path, advice=advice)
        return None
    return selector


def _selected(
    adapter: Adapter, selector: Selector, graph: GraphPlan, reporter: Reporter
) -> tuple[list[str], list[str]]:
    """The paths of the modules that an adapter selects, and those inside of which it may select more.

    Neither after an error.
    """
    every = dict(_modules(graph))
    tree = Tree(graph, every)
    paths = [name for name in tree.select(selector) if name in every]
    inside = [name for name, module in every.items() if is_opened(module) and name not in paths]
    inside = [name for name in inside if _may_lead_to(selector, name)]
    if not paths and not inside:
        message = f"`{adapter.selector}` selects no module of `{adapter.path}`"
        reporter.error("FC0405", message, adapter.place, path=adapter.path, advice=tree.instead(selector))
    below = partial(join, adapter.path)
    return [*map(below, paths)], [*map(below, inside)]


def _may_lead_to(selector: Selector, path: str) -> bool:
    """Whether the names of a selector before its first wildcard lead to a module, or into it."""
    names = [name for name in path.split(".") if not name.isdigit()]
    head = [name for name in selector.head if not name.isdigit()]
    return names[: len(head)] == head[: len(names)]


def _modules(graph: GraphPlan, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The paths of all modules of a graph, with those of each copy, and the modules."""
    for local, module in (one for step in graph.steps for one in _modules_of(step)):
        path = join(prefix, local)
        if isinstance(module, Mount):
            yield from _modules(module.graph, path)
        elif isinstance(module, Chain):
            yield from ((join(path, str(number)), member.module) for number, member in enumerate(module.members))
        elif isinstance(module, Call):
            yield path, module


def _modules_of(step: Step) -> Iterator[tuple[str, Module]]:
    """The paths of the modules of a step, with those of each copy, and the modules."""
    if step.copies or step.repeat is None:
        yield from ((one.path, one.module) for copy in step.copies or (step,) for one in copy.applied())
        return
    for number in range(step.copy_count):
        yield from ((f"{step.path}.{number}{one.path[len(step.path) :]}", one.module) for one in step.applied())
