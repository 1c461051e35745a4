"""Adapters in the shape check: they extend modules as they will in the graph, and must keep the shapes of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from flowconf.graph.runtime import adapted, adapted_parts
from flowconf.graph.shapes.findings import Poisoned, ShapeFindings
from flowconf.graph.source.demand import without_copies
from flowconf.language.paths import by_path, join
from flowconf.language.plan import GraphPlan
from flowconf.language.registry import adapters
from flowconf.language.selectors import Tree, parse
from flowconf.language.settings import Adapter
from flowconf.report import Advice, Diagnostic, Reporter, first_line, raised_here


def of_modules(plan: GraphPlan) -> dict[str, Adapter]:
    """Path of a module -> its adapter; equal copies have one path."""
    found: dict[str, Adapter] = {}
    for adapter in plan.all_adapters():
        for path in homes(plan, adapter.paths):
            found.setdefault(path, adapter)
    return found


def inside_modules(plan: GraphPlan) -> dict[str, list[Adapter]]:
    """Path of a module -> the adapters that may extend modules inside of it; equal copies have one path."""
    found: dict[str, list[Adapter]] = {}
    for adapter in plan.all_adapters():
        for path in homes(plan, adapter.inside):
            found.setdefault(path, []).append(adapter)
    return found


def homes(plan: GraphPlan, paths: Iterable[str]) -> list[str]:
    """Paths without the numbers of equal copies."""
    return list(dict.fromkeys(without_copies(plan, path, of="equal") for path in paths))


def selected_inside(module: nn.Module, adapter: Adapter, path: str) -> list[str]:
    """The modules inside of the module at a path that the selector of an adapter means, the outermost ones."""
    above = path.removeprefix(adapter.path).strip(".")
    names = {join(above, name): name for name, _ in module.named_modules()}
    return [names[found] for found in Tree(NO_PLAN, names).paths(parse(adapter.selector)) if found in names]


NO_PLAN = GraphPlan("", (), (), (), ())
"""The names inside of a module are those of its attributes."""


def extended(module: nn.Module, adapter: Adapter | None, path: str, findings: ShapeFindings) -> nn.Module:
    """The module with its adapters. Notes what they refuse, and raises `Poisoned`."""
    if adapter is None:
        return module
    try:
        adapted(module, adapters.load(adapter.name), **{name: value.value for name, value in adapter.args})
        for _, part, kind in adapted_parts(module):
            for name in part._modules[kind]._modules:  # type: ignore[union-attr]
                before, after = part._parameters[name], getattr(part, name)
                if before is not None and before.shape != after.shape:
                    raise ValueError(
                        f"it changes the shape of `{name}` from {list(before.shape)} to {list(after.shape)}"
                    )
    except Exception as problem:  # noqa: BLE001 - an adapter may raise anything
        message = f"`{adapter.name}` cannot adapt `{path}`: {first_line(problem)}"
        findings.add(Diagnostic("FC0202", message, adapter.name_place, path, raised_here(problem)))
        raise Poisoned from None
    return module


def check_adapted(
    plan: GraphPlan,
    parameters: Mapping[str, object],
    adapted: Mapping[tuple[str, str], Sequence[str]],
    reporter: Reporter,
) -> None:
    """Report selectors of modules of which none has a weight that adapters extend; `parameters` are all, by path."""
    extended = list(plan.all_adapters())
    below = by_path(parameters if extended else ())
    for adapter in extended:
        paths = homes(plan, (*adapter.paths, *adapter.inside))
        if not paths or any(f".{adapter.name}." in name for path in paths for name in below.get(path, ())):
            continue
        selected = adapter.paths or any(adapted.get((path, adapter.selector)) for path in homes(plan, adapter.inside))
        message = f"`{adapter.selector}` selects nothing that `{adapter.name}` can adapt"
        advice: Advice | None = "adapters extend linear maps, convolutions and attentions"
        if not selected:
            message = f"`{adapter.selector}` selects no module of `{adapter.path}`"
            advice = Tree(NO_PLAN, _names_inside(plan, adapter, parameters)).instead(parse(adapter.selector))
        reporter.error("FC0405", message, adapter.place, path=adapter.path, advice=advice)


def _names_inside(plan: GraphPlan, adapter: Adapter, parameters: Iterable[str]) -> list[str]:
    """The modules with parameters below the path of an adapter, in modules with their own `forward`."""
    starts = tuple(f"{path}." for path in homes(plan, adapter.inside))
    below = (name.removeprefix(adapter.path).strip(".") for name in parameters if name.startswith(starts))
    return list(dict.fromkeys(name.rpartition(".")[0] for name in below))
