"""The optimizer of a run: which parameters it gets, in which groups, and their learning rates over the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn, optim

from flowconf.diagnostics import ConfigError, Diagnostic, PathError, Place
from flowconf.train.schedules import factor_at

NamedParametersAt = Callable[[str], Iterable[tuple[str, nn.Parameter]]]


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    groups: Mapping[str, Mapping[str, Any]],
    at: NamedParametersAt,
    place: Callable[[str], Place],
) -> list[dict[str, Any]]:
    """The parameters that are trained, as optimizer groups: first those without a path, then one group for each path.

    The nearest path above a parameter wins. A path with nothing to train below it gives no group. Raises `ConfigError`
    for a path that names nothing (FC0405), and when nothing at all is left to train (FC0403).
    """
    owner: dict[int, str] = {}
    unknown = []
    for path in sorted(groups, key=lambda path: path.count(".")):
        try:
            owner.update((id(parameter), path) for _, parameter in at(path))
        except PathError as problem:
            help_text = problem.diagnostics[0].help
            message = f"the optimizer group `{path}` names nothing in the graph"
            unknown.append(Diagnostic("FC0405", message, place(path), path, help=help_text))
    if unknown:
        raise ConfigError(*unknown)
    members: dict[str, list[nn.Parameter]] = {path: [] for path in ("", *groups)}
    for _, parameter in named:
        if parameter.requires_grad:
            members[owner.get(id(parameter), "")].append(parameter)
    found = [{"params": tensors, **groups.get(path, {})} for path, tensors in members.items() if tensors]
    if not found:
        message = "nothing is left to train: every parameter is frozen, or the graph has none"
        raise ConfigError(Diagnostic("FC0403", message, help="thaw a part with `frozen: false`"))
    return found


class LearningRate:
    """Sets every group's learning rate before each step: its own `lr` times the schedule's factor."""

    def __init__(self, optimizer: optim.Optimizer, shape: Callable[[float], float], warmup: int, total: int) -> None:
        self.optimizer = optimizer
        self.shape = shape
        self.warmup = warmup
        self.total = total
        self.base = [float(group["lr"]) for group in optimizer.param_groups]

    def set(self, step: int) -> None:
        """Prepare `step` (the first is 0)."""
        factor = factor_at(step, self.total, self.warmup, self.shape)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor
