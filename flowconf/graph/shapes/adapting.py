"""Adapters in the shape check: they extend modules as they will in the graph, and must keep the shapes of weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from flowconf.graph.runtime import adapted
from flowconf.graph.shapes.findings import Poisoned, ShapeFindings
from flowconf.graph.shapes.sizes import first_line
from flowconf.graph.source.demand import without_copies
from flowconf.language.plan import GraphPlan
from flowconf.language.registry import adapters
from flowconf.language.settings import Adapter
from flowconf.report import Diagnostic, Reporter, raised_here


def by_path(plan: GraphPlan | None) -> dict[str, Adapter]:
    """Path of a module -> its adapter; equal copies have one path."""
    found: dict[str, Adapter] = {}
    for adapter in plan.all_adapters() if plan is not None else ():
        for path in adapter.paths:
            assert plan is not None
            found.setdefault(without_copies(plan, path, of="equal"), adapter)
    return found


def extended(module: nn.Module, adapter: Adapter | None, path: str, findings: ShapeFindings) -> nn.Module:
    """The module with its adapters. Notes what they refuse, and raises `Poisoned`."""
    if adapter is None:
        return module
    try:
        adapted(module, adapters.load(adapter.name), **{name: value.value for name, value in adapter.args})
        for part in module.modules():
            kind = getattr(type(part), "adapter", None)
            for name in part._modules[kind]._modules if isinstance(kind, str) else ():  # type: ignore[union-attr]
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


def check_adapted(plan: GraphPlan, parameters: Mapping[str, object], reporter: Reporter) -> None:
    """Report selectors of modules of which none has a weight that adapters extend; `parameters` are all, by path."""
    for adapter in plan.all_adapters():
        homes = tuple(f"{without_copies(plan, path, of='equal')}." for path in adapter.paths)
        changed = (name for name in parameters if f".{adapter.name}." in name and name.startswith(homes))
        if homes and next(changed, None) is None:
            message = f"`{adapter.selector}` selects nothing that `{adapter.name}` can adapt"
            advice = "adapters extend linear maps, convolutions and attentions"
            reporter.error("FC0405", message, adapter.place, path=adapter.path, advice=advice)
