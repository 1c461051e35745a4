"""What can be told of a run before its data is read and before the stages in front of it run.

Shapes, whether anything is left to train, whether the optimizer and the schedule take their arguments' values,
and whether the loggers' packages are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from flowconf.diagnostics import Collector, Label
from flowconf.graph import check_shapes
from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.plan import GraphPlan, Setting, Shared, join
from flowconf.text.origins import Origins, Path, dotted
from flowconf.train.loggers import check_packages

Problems = (TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError, IndexError)


def precheck(config: Config) -> None:
    """Raise `ConfigError` with everything that is wrong with a run, as far as its config tells."""
    check_packages(config)
    inference = check_shapes(config.model)
    origins = config.composition.document.origins
    collector = Collector()
    _check_trainable(config.model, inference.parameters, collector)
    _check_optimizer(config, origins, collector)
    schedule = config.training.schedule
    shape = registry.schedules.load(schedule.name)
    for progress in (0.0, 0.5, 1.0):
        if not _takes(lambda: shape(progress, **schedule.args), schedule.args, ("schedule",), origins, collector):  # noqa: B023
            break
    collector.stop_on_errors()


def _check_trainable(plan: GraphPlan, parameters: Mapping[str, object], collector: Collector) -> None:
    settings = {path: setting for path, setting in plan.all_settings() if setting.frozen is not None}
    shared = [f"{path}." for path in _shared(plan)]
    own = [name for name in parameters if not name.startswith(tuple(shared))]
    if any(not _is_frozen(name, settings) for name in own):
        return
    if not own:
        collector.error("FC0403", "nothing is left to train: the graph has no parameters", plan.place)
        return
    frozen = [(path, setting) for path, setting in settings.items() if setting.frozen != "no"]
    labels = tuple(Label(f"`{path}` is frozen too", setting.place) for path, setting in frozen[1:5])
    collector.error(
        "FC0403",
        "nothing is left to train: every parameter is frozen",
        frozen[0][1].place,
        path=frozen[0][0],
        labels=labels,
        help="thaw a part with `frozen: false`",
    )


def _is_frozen(name: str, settings: Mapping[str, Setting]) -> bool:
    """Whether the nearest setting above a parameter freezes it."""
    parts = name.split(".")
    above = (settings.get(".".join(parts[:length])) for length in reversed(range(len(parts))))
    nearest = next((setting for setting in above if setting is not None), None)
    return nearest is not None and nearest.frozen != "no"


def _shared(plan: GraphPlan, prefix: str = "") -> Iterator[str]:
    """The paths at which a module of elsewhere stands once more."""
    for step in plan.steps:
        yield from (join(prefix, part.path) for part in step.applied() if isinstance(part.module, Shared))
    for path, mount in plan.mounts():
        yield from _shared(mount.graph, join(prefix, path))


def _check_optimizer(config: Config, origins: Origins, collector: Collector) -> None:
    section = config.training.optimizer
    make = registry.optimizers.load(section.name)

    def group(args: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [{"params": [nn.Parameter(torch.zeros(1))], **args}]

    if not _takes(lambda: make(group({}), **section.args), section.args, ("optimizer",), origins, collector):
        return
    for path, args in section.groups.items():
        where = ("optimizer", "groups", path)
        _takes(lambda: make(group(args), **section.args), args, where, origins, collector)  # noqa: B023


def _takes(
    call: Callable[[], object], args: Mapping[str, Any], where: Path, origins: Origins, collector: Collector
) -> bool:
    """Whether a call works; if not, the argument whose value its complaint names is marked."""
    try:
        call()
    except Problems as problem:
        words = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        named = [name for name, value in args.items() if str(value) in words]
        path = (*where, max(named, key=lambda name: len(str(args[name])))) if named else where
        message = f"`{dotted(path)}` is refused: {words[:1].lower()}{words[1:]}"
        collector.error("FC0123", message, origins.value(path), path=dotted(path))
        return False
    return True
