"""Replaces a nested graph in a built graph."""

from __future__ import annotations

from dataclasses import replace

from flowconf.graph.shapes.check import infer
from flowconf.graph.source.emit import emit
from flowconf.graph.source.program import CompiledProgram, run
from flowconf.graph.tree import GraphTree, attach, mounted
from flowconf.language.paths import join
from flowconf.language.plan import Applied, GraphPlan, Mount, Shared, Step
from flowconf.language.settings import Link
from flowconf.report import ConfigError, Diagnostic, listing

ONE_STEP = 'build one: `flowconf.build({"inputs": {"x": ["B", 8]}, "flow": {"one": "Linear(8, 5)"}})`'


def swapped_plan(plan: GraphPlan, path: str, other: GraphPlan) -> GraphPlan:
    """`plan` with `other` instead of the graph at `path`. Raises `ConfigError` if the interfaces differ."""
    steps = tuple(_swapped_step(step, path, other) for step in plan.steps)
    if steps == plan.steps:
        message = f"there is no graph at `{path}` in `{plan.label}`"
        raise ConfigError(Diagnostic("FC0701", message, plan.place, path))
    prefix = f"{path}."
    settings = tuple(setting for setting in plan.settings if not setting.path.startswith(prefix))
    return replace(plan, steps=steps, settings=settings)


def _swapped_step(step: Step, path: str, other: GraphPlan) -> Step:
    if step.copies:
        return step  # a graph in only some of the copies would need a separate class
    return step.with_modules(lambda applied: _swapped(applied, path, other))


def _swapped(applied: Applied, path: str, other: GraphPlan) -> Applied:
    module = applied.module
    if not isinstance(module, Mount):
        return applied
    if path.startswith(f"{applied.path}."):
        inner = swapped_plan(module.graph, path.removeprefix(f"{applied.path}."), other)
        return replace(applied, module=replace(module, graph=inner))
    if path != applied.path:
        return applied
    _check_interface(path, module, other)
    names = {given.name for given in other.inputs}
    using = tuple((name, value) for name, value in applied.using if name in names)
    return replace(applied, module=Mount(other, place=module.place), using=using)


def _check_interface(path: str, old: Mount, new: GraphPlan) -> None:
    """The new graph must have the same inputs and outputs as the old one."""
    wants = [given.name for given in old.graph.inputs if not given.captured]
    has = [given.name for given in new.inputs]
    problem = None
    if old.shares:
        problem = f"it shares `{old.shares[0][1]}` with the surrounding graph"
    elif len(wants) > 1 and wants != has:
        problem = f"expected the inputs {listing(wants)}, got {listing(has)}"
    elif len(wants) == 1 and len(has) != 1:
        problem = f"expected one input, got {listing(has)}"
    elif old.graph.fields != new.fields:
        given = [listing(fields) if fields else "a single value" for fields in (old.graph.fields, new.fields)]
        problem = f"expected {given[0]} as output, got {given[1]}"
    if problem is not None:
        raise ConfigError(Diagnostic("FC0206", f"`{path}` cannot be swapped: {problem}", new.place, path))


def swap(root: GraphTree, path: str, other: object) -> None:
    """Replace the graph at `path` below `root` by `other`, with its weights. Raises `ConfigError`."""
    if not isinstance(other, GraphTree):
        shown = f"the string `{other}`" if isinstance(other, str) else f"a `{type(other).__name__}`"
        message = f"`{path}` can only be swapped for a graph, got {shown}"
        raise ConfigError(Diagnostic("FC0206", message, root.plan.place, path, advice=ONE_STEP))
    target = root.module_at(path)
    shared = [name for name, module in root.named_modules(remove_duplicate=False) if module is target]
    linked: list[Link] = [*root.plan.all_ties(), *root.plan.all_follows()]
    tied = (tie for tie in linked for one in (tie.path, tie.home) if f"{one}.".startswith(f"{path}."))
    used_elsewhere = _reused(root.plan, path) or next((tie.path for tie in tied), None)
    if len(shared) > 1 or used_elsewhere:
        where = used_elsewhere or shared[1]
        message = f"`{path}` cannot be swapped: `{where}` uses the same module"
        raise ConfigError(Diagnostic("FC0206", message, root.plan.place, path))
    plan = swapped_plan(root.plan, path, other.plan)
    inference = infer(plan)
    inference.reporter.stop_on_errors()
    owner, _, name = path.rpartition(".")
    holder = root.module_at(owner)
    holder._modules[name] = other
    program = run(emit(plan, inference.sizes), root._program.bases)
    _change_classes(root, program, program.main.name, plan)
    root.__dict__["_sizes"] = inference.sizes
    attach(root, plan, inference.shapes)


def _reused(plan: GraphPlan, path: str, prefix: str = "") -> str | None:
    """A step that reuses the module at `path`, or one inside it."""
    for step in plan.steps:
        for applied in step.applied():
            module = applied.module
            home = join(prefix, applied.home)
            if isinstance(module, Shared) and (home == path or home.startswith(f"{path}.")):
                return join(prefix, step.path)
            if isinstance(module, Mount):
                inside = any(join(prefix, theirs).startswith(path) for _, theirs in module.shares)
                found = join(prefix, step.path) if inside else _reused(module.graph, path, join(prefix, applied.path))
                if found is not None:
                    return found
    return None


def _change_classes(graph: GraphTree, program: CompiledProgram, name: str, plan: GraphPlan) -> None:
    """Set the classes of a tree of graphs to those of a program, in place."""
    graph.__class__ = program.classes[name]  # type: ignore[assignment]
    children = program.children(name)
    for path, mount in plan.mounts():
        for child in mounted(graph, plan, path):
            _change_classes(child, program, children[path], mount.graph)
