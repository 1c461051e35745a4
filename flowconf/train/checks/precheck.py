"""What can be told of a run before its data is read and before the stages in front of it run.

Shapes, whether anything is left to train, whether the optimizer and the schedule take their arguments' values,
and whether the loggers' packages are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from flowconf.graph import check_checkpoints
from flowconf.graph.weights.loading import Request
from flowconf.graph.weights.sources import locate
from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.plan import Checkpoint, GraphPlan
from flowconf.language.training import listed
from flowconf.report import Diagnostic, Label, Place, Reporter
from flowconf.report.origins import Origins, Path, dotted
from flowconf.train.checks.idle import check_idle, is_frozen
from flowconf.train.checks.rehearsal import check_declared, rehearsed
from flowconf.train.checks.shardable import check_shardable
from flowconf.train.data.splits import refused_paths
from flowconf.train.runs.loggers import check_packages

Problems = (TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError, IndexError)


def precheck(config: Config) -> tuple[Diagnostic, ...]:
    """Raise `ConfigError` with everything that is wrong with a run, as far as its config tells; gives the warnings."""
    check_packages(config)
    origins = config.composition.document.origins
    reporter = Reporter()
    _check_data(config, origins, reporter)
    check_declared(config)
    reach = rehearsed(config, reporter)
    _check_paths(config, reach.parameters, origins, reporter)
    _check_trainable(config.model, reach.parameters, reporter)
    if not reporter.errors:
        check_idle(config, reach, reporter)
    check_shardable(config, reach.parameters, reporter)
    _check_optimizer(config, origins, reporter)
    runs = config.training.trainer.runs
    reporter.diagnostics += check_checkpoints(config.model, reach.inference, runs, start_request(config))
    schedule = config.training.schedule
    shape = registry.schedules.load(schedule.name)
    _takes(lambda **args: _factors(shape, args), schedule.args, ("schedule",), origins, reporter)
    reporter.stop_on_errors()
    return tuple(reporter.diagnostics)


def _check_data(config: Config, origins: Origins, reporter: Reporter) -> None:
    """Note files and folders of the data that are not there, or must not be read."""
    section = config.training.data
    for name, message in refused_paths(registry.datasets.load(section.name), section.args).items():
        place, advice = origins.value(("data", name)), "paths of data are relative to the current folder"
        advice_here = advice if message.startswith("there is no") else None
        reporter.error("FC0501", message, place, path=f"data.{name}", advice=advice_here)


def start_request(config: Config) -> Request | None:
    """What `init_from` asks for: whatever still has its path and shape. Raises `ConfigError`."""
    if config.training.init_from is None:
        return None
    place = config.composition.document.origins.value(("init_from",))
    source = locate(Checkpoint(path=config.training.init_from, place=place), "")
    return Request(str(source), missing="ignore", unused="ignore", mismatched="ignore", place=place)


def _factors(shape: Callable[..., float], args: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a schedule that goes where no learning rate can be."""
    for progress in (0.0, 0.5, 1.0):
        factor = shape(progress, **args)
        if not 0 <= factor < math.inf:
            raise ValueError(f"the factor of the learning rate becomes {factor:g} at {progress:.0%} of the run")


def _check_trainable(plan: GraphPlan, parameters: Mapping[str, object], reporter: Reporter) -> None:
    settings = {path: setting for path, setting in plan.all_settings() if setting.frozen is not None}
    if any(not is_frozen(name, settings) for name in parameters):
        return
    if not parameters:
        reporter.error("FC0403", "nothing is left to train: the graph has no parameters", plan.place)
        return
    frozen = [(path, setting) for path, setting in settings.items() if setting.frozen != "no"]
    labels = tuple(Label(f"`{path}` is frozen too", setting.place) for path, setting in frozen[1:5])
    reporter.error(
        "FC0403",
        "nothing is left to train: every parameter is frozen",
        frozen[0][1].place,
        path=frozen[0][0],
        labels=labels,
        advice="thaw a part with `frozen: false`",
    )


def _check_optimizer(config: Config, origins: Origins, reporter: Reporter) -> None:
    section = config.training.optimizer
    make = registry.optimizers.load(section.name)

    def group(args: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [{"params": [nn.Parameter(torch.zeros(1))], **args}]

    if not _takes(lambda **args: make(group({}), **args), section.args, ("optimizer",), origins, reporter):
        return
    for path, args in section.groups.items():
        where = ("optimizer", "groups", path)
        _takes(lambda **args: make(group(args), **section.args), args, where, origins, reporter)


def _check_paths(config: Config, parameters: Mapping[str, object], origins: Origins, reporter: Reporter) -> None:
    """Note paths that are there to change how parameters are trained, and hold none."""
    training = config.training
    wanted: dict[Path, str] = {("optimizer", "groups", path): path for path in training.optimizer.groups}
    for name, phase in training.phases.items():
        rates = phase.lr if isinstance(phase.lr, dict) else {}
        wanted |= {("phases", name, "lr", path): path for path in rates}
    found: list[tuple[Path, str, Place, str]] = [
        (where, path, origins.key(where), "so that nothing is trained differently") for where, path in wanted.items()
    ]
    for name, loss in training.loss.items():
        for number, path in enumerate(listed(loss.updates)):
            at: Path = ("loss", name, "updates", number)
            found.append((at, path, origins.value(at), f"so that `{name}` updates nothing there"))
    for where, path, place, why in found:
        if path and not any(name.startswith(f"{path}.") for name in parameters):
            message = f"`{path}` has no parameters, {why}"
            reporter.error("FC0405", message, place, path=dotted(where), advice="remove it")


def _takes(
    call: Callable[..., object], args: Mapping[str, Any], where: Path, origins: Origins, reporter: Reporter
) -> bool:
    """Whether a call works with these arguments; if not, the one that it refuses by itself is marked."""
    words = _complaint(call, args)
    if words is None:
        return True
    alone = ((name, _complaint(call, {name: value})) for name, value in args.items())
    refused = next(((name, told) for name, told in alone if told is not None), None)
    path, words = (where, words) if refused is None else ((*where, refused[0]), refused[1])
    reporter.error("FC0123", f"`{dotted(path)}` is refused: {words}", origins.value(path), path=dotted(path))
    return False


def _complaint(call: Callable[..., object], args: Mapping[str, Any]) -> str | None:
    """What a call says against these arguments, None where it works."""
    try:
        call(**args)
    except Problems as problem:
        words = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        return f"{words[:1].lower()}{words[1:]}"
    return None
