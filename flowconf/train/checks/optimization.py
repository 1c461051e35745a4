"""Checks that something is trainable and that the optimizer and the schedule accept their arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.plan import GraphPlan
from flowconf.language.training import listed
from flowconf.report import Label, Place, Reporter
from flowconf.report.origins import Origins, Path, dotted
from flowconf.train.checks.untrained import is_frozen

ARGUMENT_ERRORS = (TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError, IndexError)


def check_optimization(config: Config, parameters: Mapping[str, tuple[int, ...]], reporter: Reporter) -> None:
    """Report what prevents training; `parameters` are the graph's, by name, with their sizes."""
    origins, schedule = config.composition.document.origins, config.training.schedule
    _check_paths(config, parameters, origins, reporter)
    _check_trainable(config.model, parameters, reporter)
    _check_optimizer(config, origins, reporter)
    shape = registry.schedules.load(schedule.name)
    _takes(lambda **args: _factors(shape, args), schedule.args, ("schedule",), origins, reporter)


def _factors(shape: Callable[..., float], args: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a schedule whose factor is negative or not finite."""
    for progress in (0.0, 0.5, 1.0):
        factor = shape(progress, **args)
        if not 0 <= factor < math.inf:
            raise ValueError(f"the learning rate factor is {factor:g} at {progress:.0%} of the run")


def _check_trainable(plan: GraphPlan, parameters: Mapping[str, object], reporter: Reporter) -> None:
    settings = {path: setting for path, setting in plan.all_settings() if setting.frozen is not None}
    if any(not is_frozen(name, settings) for name in parameters):
        return
    if not parameters:
        reporter.error("FC0403", "nothing to train: the graph has no parameters", plan.place)
        return
    frozen = [(path, setting) for path, setting in settings.items() if setting.frozen != "no"]
    labels = tuple(Label(f"`{path}` is also frozen", setting.place) for path, setting in frozen[1:5])
    reporter.error(
        "FC0403",
        "nothing to train: every parameter is frozen",
        frozen[0][1].place,
        path=frozen[0][0],
        labels=labels,
        advice="thaw a part with `frozen: false`",
    )


def _check_optimizer(config: Config, origins: Origins, reporter: Reporter) -> None:
    section = config.training.optimizer
    make = registry.optimizers.load(section.name)

    def made(**args: Any) -> object:
        return make([{"params": [nn.Parameter(torch.zeros(1))]}], **args)

    if not _takes(made, section.args, ("optimizer",), origins, reporter):
        return
    for path, args in section.groups.items():
        where = ("optimizer", "groups", path)
        # Passed as arguments of the whole optimizer, because torch does not validate the values of a group.
        _takes(lambda **own: made(**{**section.args, **own}), args, where, origins, reporter)


def _check_paths(config: Config, parameters: Mapping[str, object], origins: Origins, reporter: Reporter) -> None:
    """Report paths of groups, learning rates and `updates` that have no parameters."""
    training = config.training
    wanted: dict[Path, str] = {("optimizer", "groups", path): path for path in training.optimizer.groups}
    for name, phase in training.phases.items():
        rates = phase.lr if isinstance(phase.lr, dict) else {}
        wanted |= {("phases", name, "lr", path): path for path in rates}
    found: list[tuple[Path, str, Place, str]] = [
        (where, path, origins.key(where), "so this has no effect") for where, path in wanted.items()
    ]
    for name, loss in training.loss.items():
        for number, path in enumerate(listed(loss.updates)):
            at: Path = ("loss", name, "updates", number)
            found.append((at, path, origins.value(at), f"so `{name}` updates nothing there"))
    for where, path, place, why in found:
        if path and not any(name.startswith(f"{path}.") for name in parameters):
            message = f"`{path}` has no parameters, {why}"
            reporter.error("FC0405", message, place, path=dotted(where), advice="remove it")


def _takes(
    call: Callable[..., object], args: Mapping[str, Any], where: Path, origins: Origins, reporter: Reporter
) -> bool:
    """Whether a call accepts these arguments; if not, report the first argument that is rejected on its own."""
    words = _complaint(call, args)
    if words is None:
        return True
    alone = ((name, _complaint(call, {name: value})) for name, value in args.items())
    refused = next(((name, told) for name, told in alone if told is not None), None)
    path, words = (where, words) if refused is None else ((*where, refused[0]), refused[1])
    reporter.error("FC0123", f"`{dotted(path)}` is rejected: {words}", origins.value(path), path=dotted(path))
    return False


def _complaint(call: Callable[..., object], args: Mapping[str, Any]) -> str | None:
    """The error message of a call with these arguments, None if it succeeds."""
    try:
        call(**args)
    except ARGUMENT_ERRORS as problem:
        words = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        return f"{words[:1].lower()}{words[1:]}"
    return None
