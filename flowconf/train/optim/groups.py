"""The parameter groups of a run, and the optimizers that have them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn, optim

from flowconf.graph.graph import Graph
from flowconf.graph.selecting import parameters_by, parts_of
from flowconf.graph.sharded import held
from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.selectors import first_that_fits
from flowconf.language.training import GroupSection, OptimizerSection, listed
from flowconf.report import ConfigError, Diagnostic, PathError, Place
from flowconf.train.optim.state import SIZES, Make, state_shapes

Select = Callable[[str], Iterable[nn.Parameter]]


@dataclass
class Group:
    """Parameters with the same settings."""

    selector: str | None
    """The selector that takes them; None for those that no selector takes."""
    section: GroupSection
    factors: tuple[float, ...] = ()
    """The learning rate factor of each phase."""
    decay: float = 1.0
    """The learning rate factor of the layer."""
    named: dict[str, nn.Parameter] = field(default_factory=dict)

    @property
    def as_torch(self) -> dict[str, Any]:
        """The group for an optimizer of torch."""
        own = self.section.args if self.section.name is None else {}
        return {"params": list(self.named.values()), **own}


def groups_of(config: Config, graph: Graph, named: Mapping[str, nn.Parameter]) -> list[Group]:
    """The trained parameters of a config by their settings. Raises `ConfigError`."""
    training, origins = config.training, config.origins
    decay = training.optimizer.layer_decay
    layers = [
        part.parameters()
        for text in (listed(decay.layers) if decay is not None else ())
        for part in parts_of(graph, graph.plan, text, graph.modules_at)[0]
    ]
    return parameter_groups(
        named.items(),
        training.optimizer.groups,
        parameters_by(graph, graph.plan, graph.modules_at),
        lambda text: origins.key(("optimizer", "groups", text)),
        [phase.lr if isinstance(phase.lr, dict) else {"": phase.lr} for phase in training.phases.values()],
        None if decay is None else layer_decay(named, layers, decay.factor),
    )


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    groups: Mapping[str, GroupSection],
    select: Select,
    place: Callable[[str], Place],
    scales: Sequence[Mapping[str, float]] = (),
    decay: Mapping[nn.Parameter, float] | None = None,
) -> list[Group]:
    """The trained parameters as groups: those that no selector takes first, those with another optimizer last.

    The first selector that selects a parameter takes it; one that takes no trained parameters has no group. Each of
    `scales` is selector -> learning rate factor, `decay` parameter -> learning rate factor; groups are split so that
    each has single factors. `select` raises `PathError` for a selector that selects nothing. Raises `ConfigError` for
    these (FC0405), and if nothing is trained (FC0403).
    """
    wrong: list[Diagnostic] = []
    owners = first_that_fits(_selected(groups, select, place, wrong))
    scaled = [first_that_fits(_selected(scale, select, place, wrong)) for scale in scales]
    if wrong:
        raise ConfigError(*wrong)
    sections: dict[str | None, GroupSection] = {None: GroupSection()} | dict(groups)
    order = {
        selector: number
        for number, selector in enumerate(sorted(sections, key=lambda one: sections[one].name is not None))
    }
    found: dict[tuple[int, tuple[str | None, ...], float], Group] = {}
    for name, parameter in named:
        selector, own = owners.get(parameter), tuple(owner.get(parameter) for owner in scaled)
        layer = (decay or {}).get(parameter, 1.0)
        factors = tuple(1.0 if one is None else scale[one] for scale, one in zip(scales, own, strict=True))
        empty = Group(selector, sections[selector], factors, layer)
        found.setdefault((order[selector], own, layer), empty).named[name] = parameter
    if not found:
        message = "nothing to train: every parameter is frozen, or the graph has none"
        raise ConfigError(Diagnostic("FC0403", message, advice="thaw a part with `frozen: false`"))
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


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


def layer_decay(
    named: Mapping[str, nn.Parameter], layers: Sequence[Iterable[nn.Parameter]], factor: float
) -> dict[nn.Parameter, float]:
    """The learning rate factor of each parameter, for `layers` in order: 1 after the last one, less before it.

    Parameters between two layers belong to the one before them.
    """
    order = {parameter: position for position, parameter in enumerate(named.values())}
    numbers = {parameter: number for number, layer in enumerate(layers, 1) for parameter in layer if parameter in order}
    end = max((order[parameter] for parameter in numbers), default=-1)
    found, current = {}, 0
    for parameter, position in order.items():
        current = numbers.get(parameter, current)
        found[parameter] = factor ** (len(layers) + 1 - current) if position <= end else 1.0
    return found


def by_selector(groups: Sequence[Group], section: OptimizerSection) -> dict[str | None, list[Group]]:
    """The groups of each selector, in the order written; those that no selector takes come first."""
    found: dict[str | None, list[Group]] = {text: [] for text in (None, *section.groups)}
    for group in groups:
        found[group.selector].append(group)
    return {text: members for text, members in found.items() if members}


def taken(groups: Sequence[Group]) -> str:
    """What a selector took, in words: `3 parameters (36) by `**:bias``."""
    parameters = [parameter for group in groups for parameter in group.named.values()]
    numbers = sum(parameter.numel() for parameter in parameters)
    whose = f" by `{groups[0].selector}`" if groups[0].selector is not None else ""
    return f"{len(parameters):,} parameter{'s' * (len(parameters) > 1)} ({numbers:,}){whose}"


def rate_in_words(rates: Iterable[float]) -> str:
    """The learning rate of the parameters of a selector, or the range that layer decay gives."""
    found = sorted(set(rates))
    several = f" to {found[-1]:g} in {len(found)} rates by layer_decay" if len(found) > 1 else ""
    return f"lr {found[0]:g}{several}"


def optimizers_of(section: OptimizerSection, groups: Sequence[Group]) -> list[optim.Optimizer]:
    """The optimizers of a config for groups in the order of `parameter_groups`; each has some of them.

    Raises what the optimizers raise for their arguments.
    """
    parts: dict[str | None, list[Group]] = {}
    for group in groups:
        parts.setdefault(group.selector if group.section.name is not None else None, []).append(group)
    found = []
    for members in parts.values():
        optimizer = optimizer_of(section, members[0].section, [group.as_torch for group in members])
        for group, torchs in zip(members, optimizer.param_groups, strict=True):
            if group.decay != 1.0:
                torchs["lr"] = torchs["lr"] * group.decay
        found.append(optimizer)
    return found


def optimizer_of(section: OptimizerSection, own: GroupSection, groups: list[dict[str, Any]]) -> optim.Optimizer:
    """The optimizer of a group for groups of torch: its own, or else that of the config."""
    if own.name is None:
        return made_optimizer(section.name, groups, **section.args)
    return made_optimizer(own.name, groups, **own.args)


def made_optimizer(name: str, groups: list[dict[str, Any]], /, **args: Any) -> optim.Optimizer:
    """The optimizer of a registered name.

    Raises what it raises, and `TypeError` if the result has other groups, or is no optimizer.
    """
    count = len(groups)
    found = registry.optimizers.load(name)(groups, **args)
    if not isinstance(found, optim.Optimizer):
        raise TypeError(f"`{name}` must return an optimizer of torch, got `{type(found).__name__}`")
    if len(found.param_groups) != count:
        raise TypeError(
            f"`{name}` must keep the groups of parameters that it gets ({count}), got {len(found.param_groups)}"
        )
    return found


def state_bytes(group: Group, section: OptimizerSection) -> int:
    """The memory of an optimizer's state for a group, determined by a step with small parameters of the same rank."""
    make = partial(optimizer_of, section, group.section)
    settings = {key: value for key, value in group.as_torch.items() if key != "params"}
    kept: dict[int, list[tuple[int, ...]]] = {}
    found = 0
    for parameter in map(held, group.named.values()):
        if parameter.ndim not in kept:
            kinds = (state_shapes(parameter, settings, make) or {}).values()
            kept[parameter.ndim] = [kind for kind in kinds if isinstance(kind, tuple)]
        sizes = dict(zip(SIZES, parameter.shape, strict=False))
        numbers = sum(math.prod(sizes.get(size, size) for size in shape) for shape in kept[parameter.ndim] if shape)
        found += (numbers + _history(parameter, settings, make) * parameter.numel()) * parameter.itemsize
    return found


def _history(parameter: Tensor, settings: Mapping[str, Any], make: Make) -> int:
    """The copies of a parameter that an optimizer keeps of earlier steps: LBFGS keeps directions and differences."""
    small = nn.Parameter(torch.zeros((1,) * parameter.ndim))
    history = make([{**settings, "params": [small]}]).param_groups[0].get("history_size")
    return 0 if history is None else 2 * int(history) + 3


def needs_closure(optimizer: optim.Optimizer) -> bool:
    """Whether an optimizer computes the loss several times in a step: `step` requires a function for that."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
