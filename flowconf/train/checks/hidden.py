"""Warnings for layers and parameters that a module keeps where torch does not find them: in a list, or as a tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from flowconf.language.plan import GraphPlan
from flowconf.report import NOWHERE, Label, Place, Reporter, listing

REGISTERED = frozenset(vars(nn.Module()))
"""Attributes in which torch itself keeps modules, parameters and hooks."""


def check_hidden(modules: Mapping[str, nn.Module], plan: GraphPlan, reporter: Reporter) -> None:
    """Report attributes whose parameters are neither trained nor saved, once for each class."""
    kinds: set[type] = set()
    for path, module in modules.items():
        for inner in module.modules():
            kind = type(inner)
            if kind in kinds or kind.__module__.partition(".")[0] == "torch":
                continue
            kinds.add(kind)
            found = dict(_hidden(inner))
            if found:
                step, code = plan.step_at(path), getattr(kind.__init__, "__code__", None)
                labels = () if code is None else (Label("made here", Place(code.co_filename, code.co_firstlineno)),)
                names = listing(list(found))
                message = (
                    f"torch does not find what {names} of `{kind.__name__}` holds: it is neither trained nor saved"
                )
                advice = "make " + ", ".join(f"`{name}` an `nn.{form}`" for name, form in found.items())
                place = NOWHERE if step is None else step.place
                reporter.warn("FC0408", message, place, path=path, labels=labels, advice=advice)


def _hidden(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The attributes of a module with modules or parameters that it has not registered, and what they should be."""
    known: set[Any] = {*module.modules(), *module.parameters()}
    for name, value in vars(module).items():
        if name in REGISTERED:
            continue
        items = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        found = [
            item for item in items if isinstance(item, nn.Module) or (isinstance(item, Tensor) and item.requires_grad)
        ]
        if any(item not in known for item in found):
            holds = "Module" if isinstance(found[0], nn.Module) else "Parameter"
            form = "Dict" if isinstance(value, dict) else "List" if isinstance(value, list | tuple) else ""
            yield name, f"{holds}{form}"
