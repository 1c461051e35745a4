"""Frozen parts: no gradients, and evaluation mode that `train` does not change.

The setting of a document or call is stored on the module; the settings of the modules below are computed from the root.
The nearest setting above a module takes precedence; a shared module uses its first path.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from flowconf.graph.runtime import adapted_parts
from flowconf.graph.tree import GraphTree

SETTING = "_flowconf_frozen"
INHERITED = "_flowconf_inherited"


def set_frozen(root: nn.Module, settings: Iterable[tuple[nn.Module, str]]) -> None:
    """Freeze ("all", "params") or thaw ("no") modules, which are parts of `root`."""
    for module, setting in settings:
        module.__dict__[SETTING] = setting
    _spread(root, root.__dict__.get(INHERITED), root.training, set())


def thaw_adapters(root: nn.Module) -> None:
    """Train all adapters, whatever is frozen above them."""
    for _, module, kind in adapted_parts(root):
        module._modules[kind].__dict__[SETTING] = "no"
    _spread(root, root.__dict__.get(INHERITED), root.training, set())


FrozenParts = tuple[list[tuple[nn.Module, dict[str, str | None]]], list[tuple[nn.Parameter, bool]]]
"""The frozen parts of a graph: the settings of its modules, and which parameters require gradients."""


def remember(root: nn.Module) -> FrozenParts:
    """The current frozen parts, for `restore`."""
    marks = [(module, {key: module.__dict__.get(key) for key in (SETTING, INHERITED)}) for module in root.modules()]
    return marks, [(parameter, parameter.requires_grad) for parameter in root.parameters()]


def restore(root: nn.Module, frozen: FrozenParts) -> None:
    """Restore the frozen parts of `root`."""
    marks, learning = frozen
    for module, settings in marks:
        for key, value in settings.items():
            if value is None:
                module.__dict__.pop(key, None)
            else:
                module.__dict__[key] = value
    for parameter, learns in learning:
        parameter.requires_grad_(learns)
    root.train(root.training)


def is_frozen(module: nn.Module) -> bool:
    """Whether no parameter of `module` requires gradients; without parameters, whether it stays in evaluation mode."""
    parameters = list(module.parameters())
    if parameters:
        return not any(parameter.requires_grad for parameter in parameters)
    return is_evaluating(module)


def is_evaluating(module: nn.Module) -> bool:
    """Whether `module` stays in evaluation mode, whatever the mode of the graph."""
    return _effective(module) == "all"


def set_mode(module: nn.Module, mode: bool) -> None:
    """Set training or evaluation mode for all parts that are not frozen, by `train` of a class that has its own."""
    if isinstance(module, GraphTree) or type(module).train is nn.Module.train:
        module.training = mode and _effective(module) != "all"
        for child in module._modules.values():
            if child is not None:
                set_mode(child, mode)
        return
    module.train(mode)
    for part in module.modules():
        if _effective(part) == "all":
            part.training = False
        elif SETTING in part.__dict__:
            part.training = mode


def _effective(module: nn.Module) -> str | None:
    return module.__dict__.get(SETTING) or module.__dict__.get(INHERITED)


def _spread(module: nn.Module, inherited: str | None, mode: bool, visited: set[int]) -> None:
    if id(module) in visited:
        return
    visited.add(id(module))
    was_evaluating = _effective(module) == "all"
    module.__dict__[INHERITED] = inherited
    setting = _effective(module)
    if setting is not None:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(setting == "no")
    if setting == "all":
        module.training = False
    elif was_evaluating or SETTING in module.__dict__:
        module.training = mode
    for child in module.children():
        _spread(child, setting, mode, visited)
