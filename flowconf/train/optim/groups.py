"""The parameter groups of the optimizer, and their learning rates over the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn, optim

from flowconf.language.selectors import first_that_fits
from flowconf.report import ConfigError, Diagnostic, PathError, Place
from flowconf.train.optim.schedules import factor_at

Select = Callable[[str], Iterable[nn.Parameter]]


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    groups: Mapping[str, Mapping[str, Any]],
    select: Select,
    place: Callable[[str], Place],
    scales: Sequence[Mapping[str, float]] = (),
) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """The trained parameters as optimizer groups: first those that no selector takes, then those of each selector.

    The first selector that selects a parameter takes it; one that takes no trained parameters has no group. Each of
    `scales` is selector -> learning rate factor; groups are split so that each has a single factor for each of them,
    and these factors are returned with the groups. `select` raises `PathError` for a selector that selects nothing.
    Raises `ConfigError` for these (FC0405), and if nothing is trained (FC0403).
    """
    wrong: list[Diagnostic] = []
    owners = first_that_fits(_selected(groups, select, place, wrong))
    scaled = [first_that_fits(_selected(scale, select, place, wrong)) for scale in scales]
    if wrong:
        raise ConfigError(*wrong)
    order = [None, *groups]
    members: dict[tuple[int, tuple[str | None, ...]], list[nn.Parameter]] = {}
    for _, parameter in named:
        selectors = tuple(owner.get(parameter) for owner in scaled)
        members.setdefault((order.index(owners.get(parameter)), selectors), []).append(parameter)
    if not members:
        message = "nothing to train: every parameter is frozen, or the graph has none"
        raise ConfigError(Diagnostic("FC0403", message, advice="thaw a part with `frozen: false`"))
    keys = sorted(members, key=lambda key: key[0])
    factors = [
        [1.0 if own is None else scale[own] for scale, own in zip(scales, selectors, strict=True)]
        for _, selectors in keys
    ]
    settings = [{}, *groups.values()]
    return [{"params": members[key], **settings[key[0]]} for key in keys], factors


def _selected(
    selectors: Iterable[str], select: Select, place: Callable[[str], Place], wrong: list[Diagnostic]
) -> dict[str, list[nn.Parameter]]:
    """Selector -> the parameters that it selects."""
    found: dict[str, list[nn.Parameter]] = {}
    for text in selectors:
        try:
            found[text] = list(select(text))
        except PathError as problem:
            given = problem.diagnostics[0]
            wrong.append(Diagnostic("FC0405", given.message, place(text), text, advice=given.advice))
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
