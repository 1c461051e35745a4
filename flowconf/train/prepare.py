"""Prepares a job from a config, with the cheapest checks first.

The seed is set first; then the graph is built with its weights; then the data. Making the data does not change torch's
random state, so weights and dropout are those of a hand-written script with the same seed.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import optim

from flowconf.graph.build import build_graph, load_checkpoints, start_followers
from flowconf.graph.graph import Graph
from flowconf.graph.shapes.inference import Inference
from flowconf.graph.weights.loading import Request, WeightReport, load
from flowconf.graph.weights.sources import locate
from flowconf.language.config import Config
from flowconf.language.points import RunLength
from flowconf.language.sections.checks import check_inputs, check_references
from flowconf.language.sections.directions import direction, with_mode
from flowconf.language.training import schedules
from flowconf.report import ConfigError, Diagnostic, Reporter, RunError, first_line, raised_here
from flowconf.train.checks.first_step import declared_fields
from flowconf.train.checks.look_ups import check_numbers
from flowconf.train.checks.single_rows import check_last_batch
from flowconf.train.checks.terms import problems_of
from flowconf.train.checks.weights import start_of
from flowconf.train.data.batches import RowStream
from flowconf.train.data.declarations import of_known_size
from flowconf.train.data.run_data import feeds, make_data, placed, sampler_of
from flowconf.train.data.sampling import Sampler
from flowconf.train.data.splits import Resident, Split, Splits
from flowconf.train.insight.spoiled_rows import check_data
from flowconf.train.job import Job, unique
from flowconf.train.objective.gradients import gradients_for
from flowconf.train.objective.metering import Metric, build_metrics
from flowconf.train.objective.terms import Term, loss_terms
from flowconf.train.optim.averages import Averages
from flowconf.train.optim.followers import Followers
from flowconf.train.optim.groups import Group, groups_of, needs_closure, optimizers_of
from flowconf.train.optim.rates import LearningRate, Schedule
from flowconf.train.out_of_memory import room_for
from flowconf.train.phases import Frozen, Phases
from flowconf.train.precision import Precision, devices_of
from flowconf.train.recurrent import RecurrentState
from flowconf.train.replay import may_replay
from flowconf.train.seeds import seed_everything, seed_for
from flowconf.train.team.distributed import Team
from flowconf.train.team.norms import over_the_team

DEFAULT_EPOCHS = 10


def prepare(
    config: Config, runs: Path, inference: Inference | None = None, *, weights: bool = True, team: Team | None = None
) -> Job:
    """Build the graph with its weights, make the data, and everything that depends on both.

    `inference` has the sizes inferred by the checks of the config.
    """
    training, trainer = config.training, config.training.trainer
    team = team or Team(devices_of(config)[0])
    if trainer.threads is not None:
        torch.set_num_threads(trainer.threads)
    seed_everything(training.seed)
    graph, reports = _graph(config, runs, inference, team, weights)
    frozen = Frozen(graph)
    ever = frozen.ever_trained(training.phases)
    named = {name: parameter for name, parameter in graph.named_parameters() if parameter in ever}
    groups = groups_of(config, graph, named)
    optimizers = _optimizers(config, groups)
    splits = make_data(config, team.device, writes=True)
    fields = dict(splits.train.fields)
    _check_against_data(config, dict.fromkeys(fields) | of_known_size(fields), splits, inference)
    terms, metrics = _measured(config, fields, team.device)
    terms = [replace(term, reduces=term.reduces and not _may_ignore(term, config, splits.train)) for term in terms]
    held_out = feeds(splits, config, team)
    feed = held_out.pop("train")
    sampler = sampler_of(config, feed, splits)
    length = RunLength(_total_steps(config, sampler), sampler.batches)
    if not isinstance(splits.train, RowStream):
        check_last_batch(config, sampler, length.steps)
    _check_profile(config, length.steps)
    needed = [reference for term in terms for reference in term.references]
    watched = unique([*needed, *(reference for metric in metrics for reference in metric.references)])
    job = Job(
        config=config,
        graph=graph,
        inputs=graph.inputs,
        device=team.device,
        team=team,
        precision=Precision(trainer.precision, team.device),
        train=feed,
        held_out=held_out,
        sampler=sampler,
        terms=team.terms(terms),
        metrics=metrics,
        evaluation_view=team.through(graph.view(watched)),
        groups=groups,
        optimizers=[optimizer for optimizer in optimizers if not needs_closure(optimizer)],
        repeating=[optimizer for optimizer in optimizers if needs_closure(optimizer)],
        learning_rate=_learning_rate(config, groups, optimizers, length),
        phases=Phases(training.phases, length, lambda trend: direction(training, trend.metric, trend.mode)),
        frozen=frozen,
        averages=Averages(named, trainer.ema),
        followers=Followers(graph),
        memory=RecurrentState(graph),
        length=length,
        reports=reports,
        fitted=splits.fitted,
        warnings=splits.warnings,
        cached=splits.cached,
        certain=inference is not None and inference.certain,
    )
    _check_memory(job)
    _check_shares(job)
    _try_values(job)
    check_data(job)
    for phase in training.phases:
        job.counting(phase)
    job.replays = may_replay(job)
    job.enter(None)
    if team.rank:
        torch.manual_seed(seed_for(training.seed, "process", team.rank))
    return job


def _graph(
    config: Config, runs: Path, inference: Inference | None, team: Team, weights: bool
) -> tuple[Graph, list[WeightReport]]:
    """The graph on its device, with its weights, and reports on what was loaded."""
    trainer = config.training.trainer
    reports: list[WeightReport] = []
    graph = build_graph(config.model, inference)
    if weights:
        reports += load_checkpoints(graph, config.model, runs)
        start = start_of(config)
        if start is not None:
            reports.append(load(graph, Request(str(locate(start, runs, download=True)), start)))
        start_followers(graph, config.model, reports)
    if trainer.strategy == "fsdp" and team.size > 1:
        team.shard(graph, config)
    held = [*graph.parameters(), *graph.buffers()]
    with room_for("the weights", held, team.device, "train on several devices with `trainer.strategy=fsdp`"):
        graph.to(team.device)
        if trainer.channels_last:
            graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    over_the_team(graph, team)
    return graph, reports


def _optimizers(config: Config, groups: list[Group]) -> list[optim.Optimizer]:
    """The optimizers. Raises `ConfigError` for groups that one of them rejects."""
    try:
        return optimizers_of(config.training.optimizer, groups)
    except Exception as problem:  # an optimizer of a project may raise anything
        place = config.origins.value(("optimizer", "name"))
        message = f"the optimizer rejects its {len(groups)} groups: {first_line(problem)}"
        raise ConfigError(Diagnostic("FC0123", message, place, "optimizer", raised_here(problem))) from problem


def _learning_rate(
    config: Config, groups: list[Group], optimizers: list[optim.Optimizer], length: RunLength
) -> LearningRate:
    """The learning rates of the groups: by their own schedules, or that of the config.

    Raises `ConfigError` for a schedule of a list that never begins.
    """
    training, total = config.training, length.steps
    written = {None: training.schedule} | {
        selector: group.schedule for selector, group in training.optimizer.groups.items() if group.schedule is not None
    }
    numbers = {selector: number for number, selector in enumerate(written)}
    args_of = functools.partial(with_mode, training)
    found = [Schedule(schedules(one), length, args_of) for one in written.values()]
    for selector, schedule in zip(written, found, strict=True):
        for number, stretch in enumerate(schedule.stretches):
            if stretch.begin >= min(stretch.end, total):
                above = ("schedule",) if selector is None else ("optimizer", "groups", selector, "schedule")
                message = (
                    f"the schedule `{stretch.name}` never begins: the one before it ends at step {stretch.begin:,}"
                )
                rest = f", and it at step {stretch.end:,}" if stretch.end < total else f" of {total:,}"
                raise ConfigError(config.diagnostic("FC0123", message + rest, (*above, number)))
    return LearningRate(optimizers, found, [numbers.get(group.selector, 0) for group in groups])


def _measured(config: Config, fields: Mapping[str, Any], device: torch.device) -> tuple[list[Term], list[Metric]]:
    """The terms of the loss that are active in any phase, and the metrics."""
    training = config.training
    counting = {
        name: loss
        for name, loss in training.loss.items()
        if loss.weight != 0 or any(phase.loss.get(name, 0) != 0 for phase in training.phases.values())
    }
    terms = loss_terms(counting, config.model, fields)
    reporter = Reporter(config.origins)
    metrics = build_metrics(training.metrics, config.model, fields, device, reporter)
    reporter.stop_on_errors()
    return terms, metrics


def _may_ignore(term: Term, config: Config, split: Split) -> bool:
    """Whether all elements of a batch may be ignored ones, which have no mean: the data says, or is looked through."""
    parameter = inspect.signature(term.function).parameters.get("ignore_index")
    if parameter is None:
        return False
    name, ignored = term.operands[-1].name, term.args.get("ignore_index", parameter.default)
    classes = declared_fields(config).get(name, ())[2:]
    if classes and not 0 <= ignored < classes[0]:
        return False
    if isinstance(split, Resident) and split.augment is None and name in split.tensors:
        return bool((split.tensors[name] == ignored).any())
    return True


def _total_steps(config: Config, sampler: Sampler) -> int:
    trainer = config.training.trainer
    if not sampler.batches:
        message = f"no batches: {sampler.rows} rows, batch size {sampler.batch_size}, and `drop_last: true`"
        raise ConfigError(config.diagnostic("FC0501", message, ("data", "batch_size")))
    epochs = trainer.epochs or (math.inf if trainer.steps else DEFAULT_EPOCHS)
    return int(min(epochs * sampler.batches, trainer.steps or math.inf))


def _check_memory(job: Job) -> None:
    """Raise `ConfigError` if batches of a graph with recurrent state would be divided, in time or over processes."""
    if job.memory.kept and job.config.training.trainer.accumulate > 1:
        message = "a graph with recurrent state does not support `accumulate`"
        raise ConfigError(job.config.diagnostic("FC0123", message, ("trainer", "accumulate"), "write `accumulate: 1`"))
    if job.memory.kept and job.repeating:
        message = "a graph with recurrent state does not support an optimizer that computes the loss several times"
        raise ConfigError(job.config.diagnostic("FC0123", message, ("optimizer", "name")))
    if job.memory.kept and job.team.size > 1:
        message = "a graph with recurrent state cannot be trained with several processes"
        raise ConfigError(job.config.diagnostic("FC0123", message, ("trainer", "devices"), "write `devices: 1`"))


def _check_shares(job: Job) -> None:
    """Raise `ConfigError` for `shares: auto` with an iterable data set."""
    if job.team.stopwatch is not None and isinstance(job.train.split, RowStream):
        message = f"`shares: auto` is not supported with the iterable data set `{job.config.training.data.name}`"
        raise ConfigError(
            job.config.diagnostic("FC0502", message, ("trainer", "shares"), "write the shares as numbers")
        )


def _check_profile(config: Config, total_steps: int) -> None:
    """Raise `ConfigError` if the profile ends after the run."""
    section = config.training.trainer.profile
    if section is not None and section.end > total_steps:
        message = f"the profile ends after step {section.end:,}, but the run after step {total_steps:,}"
        raise ConfigError(config.diagnostic("FC0123", message, ("trainer", "profile"), "write a smaller `wait`"))


def _check_against_data(config: Config, fields: Mapping[str, Any], splits: Splits, inference: Inference | None) -> None:
    reporter = Reporter(config.origins)
    check_inputs(config.model, fields, reporter)
    check_references(config.training, config.model, fields, reporter)
    if inference is not None:
        check_numbers(config, inference, splits, reporter)
    reporter.stop_on_errors()


def _try_values(job: Job) -> None:
    """Compute every loss and metric once, on two rows, to report errors with their place before the first step.

    An error on two rows counts only if a whole batch is refused too: some metrics require more rows.
    """
    found = _problems(job, 2) and _problems(job, job.config.training.data.batch_size)
    if found:
        raise ConfigError(*found)


def _problems(job: Job, count: int) -> list[Diagnostic]:
    """The errors of losses and metrics on the first rows."""
    try:
        batch = job.train.first_rows(count)
    except RunError as error:
        raise RunError(*placed(error.diagnostics, job.config)) from error
    with gradients_for(job.terms), job.evaluating():
        return problems_of(job.config, job.terms, job.metrics, job.values(job.evaluation_view, batch), batch)
