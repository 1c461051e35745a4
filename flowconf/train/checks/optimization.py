"""Checks that something is trainable and that the optimizer and the schedule accept their arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.plan import GraphPlan
from flowconf.language.sections import rates
from flowconf.language.sections.selections import Written, written
from flowconf.language.selectors import first_that_fits
from flowconf.language.training import GroupSection
from flowconf.report import Label, Reporter, first_line, raised_here
from flowconf.report.origins import Path, dotted
from flowconf.train.checks.first_step import Reach
from flowconf.train.checks.untrained import is_frozen, trainable
from flowconf.train.optim.groups import made_optimizer, needs_closure
from flowconf.train.optim.rates import made


def check_optimization(config: Config, reach: Reach, reporter: Reporter) -> None:
    """Report what prevents training, and what has no effect on it."""
    _check_selections(config, reach, reporter)
    _check_trainable(config.model, reach.parameters, reporter)
    _check_optimizers(config, reach, reporter)
    for where, section in rates.written(config.training):
        _takes(lambda name=section.name, **args: _factors(made(name, args)), section.args, where, reporter)


def _factors(shape: Callable[[float], float]) -> None:
    """Raise `ValueError` for a schedule whose factor is no number, negative or not finite."""
    for progress in (0.0, 0.5, 1.0):
        factor = shape(progress)
        if not hasattr(factor, "__float__"):
            raise ValueError(f"it must return the factor of the learning rate, a number, got `{factor}`")
        if not 0 <= factor < math.inf:
            raise ValueError(f"the learning rate factor is {factor:g} at {progress:.0%} of the run")


def _check_trainable(plan: GraphPlan, parameters: Mapping[str, object], reporter: Reporter) -> None:
    settings = plan.freezing()
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


def _check_optimizers(config: Config, reach: Reach, reporter: Reporter) -> None:
    """Report arguments and parameters that an optimizer rejects."""
    section = config.training.optimizer
    trained = trainable(config, reach)
    if section.groups:
        trained = {name for name, of in reach.copies.items() if of in trained}
    owners = first_that_fits({text: sorted(reach.select(text) & trained) for text in section.groups})
    taken: dict[str | None, list[str]] = {}
    for name in sorted(trained):
        taken.setdefault(owners.get(name), []).append(name)
    own = {text: group for text, group in section.groups.items() if group.name is not None}
    shared = [text for text in (None, *section.groups) if text not in own]
    parts: dict[str | None, list[list[str]]] = {None: [taken[text] for text in shared if text in taken]}
    parts |= {text: [taken.get(text, [])] for text in own}
    _check_left(config, bool(parts[None]) or not any(taken.values()), reporter)
    for selector in section.groups:
        if trained and reach.select(selector) and not reach.select(selector) & trained:
            at = ("optimizer", "groups", selector)
            message = f"`{selector}` has no effect: all that it selects is frozen"
            reporter.warn("FC0410", message, reporter.key(at), at=at, advice=f"remove it, or thaw `{selector}`")
    for text, names in parts.items():
        _check_part(config, reach, text, own.get(text) if text is not None else None, names, reporter)
    if reporter.errors:
        return
    for text in shared:
        if text is not None:
            # Passed as arguments of the whole optimizer, because torch does not validate the values of a group.
            args, where = section.groups[text].args, ("optimizer", "groups", text)
            whole = partial(registry.optimizers.load(section.name), [{"params": [_probe((2, 2))]}])
            _takes(lambda whole=whole, **new: whole(**{**section.args, **new}), args, where, reporter)


def _check_left(config: Config, some: bool, reporter: Reporter) -> None:
    """Report arguments of the optimizer in the file whose groups have separate optimizers for all parameters."""
    section = config.training.optimizer
    for name in section.args if section.groups and not some else ():
        place = reporter.key(("optimizer", name))
        group = reporter.key(("optimizer", "groups", next(iter(section.groups))))
        if place.file is not None and place.file == group.file:
            message = f"`optimizer.{name}` has no effect: groups with other optimizers take all parameters"
            labels = (Label("the groups begin here", group),)
            reporter.warn("FC0410", message, place, at=("optimizer", name), labels=labels, advice="remove it")
            return


def _check_part(
    config: Config,
    reach: Reach,
    selector: str | None,
    own: GroupSection | None,
    groups: list[list[str]],
    reporter: Reporter,
) -> None:
    """Report arguments that one of the optimizers rejects, or else parameters, groups, and settings of the run.

    `selector` and `own` are those of a group with a separate optimizer, `groups` the parameters of each group.
    """
    section = own if own is not None else config.training.optimizer
    where: Path = ("optimizer",) if selector is None else ("optimizer", "groups", selector)
    make = partial(made_optimizer, str(section.name))
    if not _takes(partial(make, [{"params": [_probe((2, 2))]}]), section.args, where, reporter):
        return
    place = reporter.value((*where, "name"))
    sizes = {name: reach.size_of(name) for group in groups for name in group}
    first = {len(shape): name for name, shape in reversed(sizes.items())}
    for name in reversed(first.values()):
        problem = _complaint(partial(make, [{"params": [_probe(sizes[name])]}]), section.args)
        if problem is not None:
            message = f"`{section.name}` rejects the parameter `{name}`: {_words(problem)}"
            advice = f"write `{(selector or '').partition(':')[0]}:matrix`, or a selector of other parameters"
            if selector is None:
                advice = 'write it in a group: `groups: {"**:matrix": {name: ...}}`, and another optimizer for the rest'
            reporter.error("FC0123", message, place, at=where, advice=advice)
            return
    probes = [{"params": [_probe((2, 2))]} for group in groups if group]
    problem = _complaint(partial(make, probes), section.args) if probes else None
    if problem is not None:
        message = f"`{section.name}` rejects {len(probes)} groups of parameters: {_words(problem)}"
        labels = tuple(
            Label("a group", reporter.key(("optimizer", "groups", text)))
            for text, group in config.training.optimizer.groups.items()
            if group.name is None
        )
        advice = "give each group an optimizer with `name`"
        reporter.error("FC0123", message, place, at=where, labels=labels, advice=advice)
        return
    if probes and needs_closure(make(probes, **section.args)):
        for key, wrong in (("precision", "fp16"), ("strategy", "fsdp")):
            if getattr(config.training.trainer, key) == wrong:
                message = (
                    f"`{section.name}` computes the loss several times in a step, which `{wrong}` does not support"
                )
                label = Label(f"`{key}` is set here", reporter.value(("trainer", key)))
                reporter.error("FC0123", message, place, path="optimizer", labels=(label,))


def _probe(shape: tuple[int, ...]) -> nn.Parameter:
    """A parameter of a shape, without memory for its numbers if there are many."""
    device = "cpu" if math.prod(shape) <= 16 else "meta"
    return nn.Parameter(torch.zeros(shape, device=device))


def _check_selections(config: Config, reach: Reach, reporter: Reporter) -> None:
    """Report selectors that select nothing, and those of which others before them have taken everything."""
    found: dict[Path, set[str]] = {}
    for one in written(config.training):
        found[one.where] = reach.select(one.text)
        freezes = one.where[-2] in ("freeze", "thaw") and reach.selects_modules(one.text)
        if found[one.where] or freezes or not one.text or _looks_at_modules(one, config, reach):
            continue
        message = f"`{one.text}` selects no parameters, so this has no effect"
        advice = reach.instead(one.text) or "remove it"
        reporter.error("FC0405", message, one.place(reporter.origins), at=one.where, advice=advice)
    phases = config.training.phases.items()
    lists: list[tuple[Path, Iterable[str]]] = [(("optimizer", "groups"), config.training.optimizer.groups)]
    lists += [(("phases", name, "lr"), phase.lr) for name, phase in phases if isinstance(phase.lr, dict)]
    for where, texts in lists:
        _check_taken({(*where, text): found[(*where, text)] for text in texts}, reporter)


def _looks_at_modules(one: Written, config: Config, reach: Reach) -> bool:
    """Whether a selector is one of modules, of which activations are logged."""
    statistics = config.training.trainer.statistics
    asked = statistics is not None and one.where[:2] == ("trainer", "statistics") and "activation" in statistics.of
    return asked and reach.selects_modules(one.text)


def _check_taken(selected: Mapping[Path, set[str]], reporter: Reporter) -> None:
    """Report a selector of a mapping if the ones before it take all that it selects."""
    owners = first_that_fits(selected)
    for where, names in selected.items():
        before = list(dict.fromkeys(owners[name] for name in sorted(names)))
        if names and where not in before:
            taken = " and ".join(f"`{other[-1]}`" for other in before)
            message = f"`{where[-1]}` takes no parameters: {taken} before it take{'s' * (len(before) == 1)} all of them"
            labels = tuple(Label("comes first", reporter.key(other)) for other in before)
            advice = f"move `{where[-1]}` before {taken}"
            reporter.error("FC0405", message, reporter.key(where), at=where, labels=labels, advice=advice)


def _takes(call: Callable[..., object], args: Mapping[str, Any], where: Path, reporter: Reporter) -> bool:
    """Whether a call accepts these arguments; if not, report the first argument that is rejected on its own."""
    problem = _complaint(call, args)
    if problem is None:
        return True
    alone = ((name, _complaint(call, {name: value})) for name, value in args.items())
    refused = next(((name, error) for name, error in alone if error is not None), None)
    path, problem = (where, problem) if refused is None else ((*where, refused[0]), refused[1])
    message = f"`{dotted(path)}` is rejected: {_words(problem)}"
    reporter.error("FC0123", message, at=path, labels=raised_here(problem))
    return False


def _words(problem: Exception) -> str:
    """The first line of an exception, within a sentence."""
    words = first_line(problem)
    return words if words[1:2].isupper() else f"{words[:1].lower()}{words[1:]}"


def _complaint(call: Callable[..., object], args: Mapping[str, Any]) -> Exception | None:
    """The exception of a call with these arguments, None if it succeeds."""
    try:
        call(**args)
    except Exception as problem:  # noqa: BLE001 - an optimizer or schedule of a project may raise anything
        return problem
    return None
