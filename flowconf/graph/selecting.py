"""Selectors on modules: the parameters and modules that a selector means, and the kinds of parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from torch import nn

from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan
from flowconf.language.selectors import Selector, SelectorError, Tree, parse
from flowconf.report import NOWHERE, Diagnostic, PathError

NORM = re.compile(r"norm(\dd)?$", re.IGNORECASE)
EMBEDDING = re.compile(r"embed", re.IGNORECASE)
BIAS = re.compile(r"^bias|bias$")


@dataclass(frozen=True)
class Selection:
    """The parameters of a graph by name, and what selectors mean among them."""

    parameters: Mapping[str, nn.Parameter]
    """Under all of their names, if modules share them."""
    kinds: Mapping[str, frozenset[str]]
    tree: Tree

    @classmethod
    def of(cls, module: nn.Module, plan: GraphPlan) -> Selection:
        """The parameters of a module that `plan` describes."""
        named = dict(module.named_parameters(remove_duplicate=False))
        return cls(named, kinds_of(module), Tree(plan, named))

    def select(self, text: str) -> dict[str, nn.Parameter]:
        """The parameters that a selector means, by name, each once. Raises `PathError` if there are none."""
        selector = parsed(text)
        found = {self.parameters[name]: name for name in reversed(self.tree.select(selector, self.kinds))}
        if not found:
            advice = self.tree.instead(selector, self.kinds)
            raise PathError(Diagnostic("FC0701", f"`{text}` selects no parameters", NOWHERE, text, advice=advice))
        return {name: parameter for parameter, name in reversed(found.items())}


def parts_of(
    module: nn.Module, plan: GraphPlan, text: str, at: Callable[[str], list[tuple[str, nn.Module]]]
) -> tuple[list[nn.Module], list[nn.Parameter]]:
    """What a selector means: modules as a whole, and parameters of other modules.

    `at` gives the modules at a path, and raises `PathError` if there are none. A kind means a module as a whole if it
    means all of its parameters. Raises `PathError`.
    """
    selector, unknown = parsed(text), None
    if selector.is_path:
        try:
            return [found for _, found in at(text)], []
        except PathError as problem:
            unknown = problem
    elif selector.kind is None:
        modules = dict(module.named_modules(remove_duplicate=False))
        if paths := Tree(plan, modules).paths(selector):
            return [modules[path] for path in paths], []
    try:
        parameters = set(Selection.of(module, plan).select(text).values())
    except PathError as problem:
        raise unknown or problem from None
    whole = [] if unknown is not None else [owner for owner in module.modules() if _is_within(owner, parameters)]
    rest = parameters.difference(parameter for owner in whole for parameter in owner.parameters())
    return whole, [parameter for parameter in module.parameters() if parameter in rest]


def parameters_by(
    module: nn.Module, plan: GraphPlan, at: Callable[[str], list[tuple[str, nn.Module]]]
) -> Callable[[str], list[nn.Parameter]]:
    """What gives the parameters that each of many selectors means; the names are gathered once, and only for patterns.

    `at` gives the modules at a path, and raises `PathError` if there are none, as does what is returned.
    """
    selection = cache(lambda: Selection.of(module, plan))

    def select(text: str) -> list[nn.Parameter]:
        unknown = None
        if parsed(text).is_path:
            try:
                return [parameter for _, found in at(text) for parameter in found.parameters()]
            except PathError as problem:
                unknown = problem
        try:
            return list(selection().select(text).values())
        except PathError as problem:
            raise unknown or problem from None

    return select


def _is_within(owner: nn.Module, parameters: set[nn.Parameter]) -> bool:
    """Whether a module without members has parameters, and only such."""
    own = list(owner.parameters())
    return bool(own) and parameters.issuperset(own) and not any(owner.children())


def parsed(text: str) -> Selector:
    """The selector of a text. Raises `PathError`."""
    try:
        return parse(text)
    except SelectorError as problem:
        raise PathError(Diagnostic("FC0701", problem.message, NOWHERE, text, advice=problem.advice)) from None


def kinds_of(module: nn.Module) -> dict[str, frozenset[str]]:
    """Parameter -> its kinds, for all parameters of a module, under all of their names.

    `norm`: the class of the module that owns it has a name such as `LayerNorm`, `BatchNorm2d` or `RMSNorm`.
    `embedding`: this class or the parameter has `embed` in its name. `bias`: the name of the parameter begins or ends
    with `bias`. `matrix`: two or more dimensions, and none of these kinds. A shared parameter has the kinds of all its
    owners.
    """
    kinds: dict[nn.Parameter, set[str]] = {}
    named: dict[str, nn.Parameter] = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                named[join(path, name)] = parameter
                kinds.setdefault(parameter, set()).update(_kinds(type(owner).__name__, name))
    for parameter, found in kinds.items():
        if not found and parameter.ndim > 1:
            found.add("matrix")
    return {name: frozenset(kinds[parameter]) for name, parameter in named.items()}


@cache
def _kinds(owner: str, name: str) -> frozenset[str]:
    found = {"bias"} if BIAS.search(name) else set()
    if NORM.search(owner):
        found.add("norm")
    if EMBEDDING.search(owner) or EMBEDDING.search(name):
        found.add("embedding")
    return frozenset(found)
