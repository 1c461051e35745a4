"""Checks that something is trainable and that the optimizer and the schedule accept their arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.plan import GraphPlan
from flowconf.language.sections.selections import written
from flowconf.language.selectors import first_that_fits, parse
from flowconf.report import Label, Reporter, raised_here
from flowconf.report.origins import Origins, Path, dotted
from flowconf.train.checks.first_step import Reach
from flowconf.train.checks.untrained import is_frozen


def check_optimization(config: Config, reach: Reach, reporter: Reporter) -> None:
    """Report what prevents training, and what has no effect on it."""
    origins, schedule = config.composition.document.origins, config.training.schedule
    _check_selections(config, reach, origins, reporter)
    _check_trainable(config.model, reach.parameters, reporter)
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


def _check_selections(config: Config, reach: Reach, origins: Origins, reporter: Reporter) -> None:
    """Report selectors that select nothing, and those of which others before them have taken everything."""
    found: dict[Path, set[str]] = {}
    for one in written(config.training):
        found[one.where] = reach.select(one.text)
        frozen = one.where[-2] in ("freeze", "thaw") and parse(one.text).is_path
        if found[one.where] or frozen or not one.text:
            continue
        message = f"`{one.text}` selects no parameters, so this has no effect"
        advice = reach.instead(one.text) or "remove it"
        reporter.error("FC0405", message, one.place(origins), path=dotted(one.where), advice=advice)
    phases = config.training.phases.items()
    lists: list[tuple[Path, Iterable[str]]] = [(("optimizer", "groups"), config.training.optimizer.groups)]
    lists += [(("phases", name, "lr"), phase.lr) for name, phase in phases if isinstance(phase.lr, dict)]
    for where, texts in lists:
        _check_taken({(*where, text): found[(*where, text)] for text in texts}, origins, reporter)


def _check_taken(selected: Mapping[Path, set[str]], origins: Origins, reporter: Reporter) -> None:
    """Report a selector of a mapping if the ones before it take all that it selects."""
    owners = first_that_fits(selected)
    for where, names in selected.items():
        before = list(dict.fromkeys(owners[name] for name in sorted(names)))
        if names and where not in before:
            taken = " and ".join(f"`{other[-1]}`" for other in before)
            message = f"`{where[-1]}` takes no parameters: {taken} before it take{'s' * (len(before) == 1)} all of them"
            labels = tuple(Label("comes first", origins.key(other)) for other in before)
            advice = f"move `{where[-1]}` before {taken}"
            reporter.error("FC0405", message, origins.key(where), path=dotted(where), labels=labels, advice=advice)


def _takes(
    call: Callable[..., object], args: Mapping[str, Any], where: Path, origins: Origins, reporter: Reporter
) -> bool:
    """Whether a call accepts these arguments; if not, report the first argument that is rejected on its own."""
    problem = _complaint(call, args)
    if problem is None:
        return True
    alone = ((name, _complaint(call, {name: value})) for name, value in args.items())
    refused = next(((name, told) for name, told in alone if told is not None), None)
    path, problem = (where, problem) if refused is None else ((*where, refused[0]), refused[1])
    words = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    message = f"`{dotted(path)}` is rejected: {words[:1].lower()}{words[1:]}"
    reporter.error("FC0123", message, origins.value(path), path=dotted(path), labels=raised_here(problem))
    return False


def _complaint(call: Callable[..., object], args: Mapping[str, Any]) -> Exception | None:
    """The exception of a call with these arguments, None if it succeeds."""
    try:
        call(**args)
    except Exception as problem:  # noqa: BLE001 - an optimizer or schedule of a project may raise anything
        return problem
    return None
