"""The parameter groups of the optimizer, and their learning rates over the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn, optim

from flowconf.report import ConfigError, Diagnostic, PathError, Place
from flowconf.train.optim.schedules import factor_at

NamedParametersAt = Callable[[str], Iterable[tuple[str, nn.Parameter]]]


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    groups: Mapping[str, Mapping[str, Any]],
    at: NamedParametersAt,
    place: Callable[[str], Place],
    scales: Sequence[Mapping[str, float]] = (),
) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """The trained parameters as optimizer groups: first those without a path, then those of each path.

    The nearest path above a parameter wins. A path without trained parameters has no group. Each of `scales` is
    path -> learning rate factor; groups are split so that each has a single factor for each of them, and these factors
    are returned with the groups. Raises `ConfigError` for an unknown path (FC0405), and if nothing is trained (FC0403).
    """
    unknown: list[Diagnostic] = []
    owners = _owners(groups, at, place, unknown)
    scaled = [_owners(scale, at, place, unknown) for scale in scales]
    if unknown:
        raise ConfigError(*unknown)
    order = ["", *groups]
    members: dict[tuple[int, tuple[str, ...]], list[nn.Parameter]] = {}
    for _, parameter in named:
        paths = tuple(owner.get(parameter, "") for owner in scaled)
        members.setdefault((order.index(owners.get(parameter, "")), paths), []).append(parameter)
    if not members:
        message = "nothing to train: every parameter is frozen, or the graph has none"
        raise ConfigError(Diagnostic("FC0403", message, advice="thaw a part with `frozen: false`"))
    keys = sorted(members, key=lambda key: key[0])
    factors = [[scale.get(path, 1.0) for scale, path in zip(scales, paths, strict=True)] for _, paths in keys]
    return [{"params": members[key], **groups.get(order[key[0]], {})} for key in keys], factors


def _owners(
    paths: Iterable[str], at: NamedParametersAt, place: Callable[[str], Place], unknown: list[Diagnostic]
) -> dict[nn.Parameter, str]:
    """Each parameter's nearest path above it."""
    found: dict[nn.Parameter, str] = {}
    for path in sorted(paths, key=lambda path: (path.count("."), bool(path))):
        try:
            found.update((parameter, path) for _, parameter in at(path))
        except PathError as problem:
            advice = problem.diagnostics[0].advice
            message = f"the optimizer group `{path}` does not exist in the graph"
            unknown.append(Diagnostic("FC0405", message, place(path), path, advice=advice))
    return found


class LearningRate:
    """Sets the learning rate of every group before each step: its `lr` times the factors of schedule and phase."""

    def __init__(self, optimizer: optim.Optimizer, shape: Callable[[float], float], warmup: int, total: int) -> None:
        self.optimizer = optimizer
        self.shape = shape
        self.warmup = warmup
        self.total = total
        self.base = [float(group["lr"]) for group in optimizer.param_groups]
        self.factors = [1.0] * len(self.base)
        """The factor of the current phase for each group."""

    def set(self, step: int) -> None:
        """Set the learning rates for `step` (the first is 0)."""
        factor = factor_at(step, self.total, self.warmup, self.shape)
        for group, base, own in zip(self.optimizer.param_groups, self.base, self.factors, strict=True):
            group["lr"] = base * factor * own
