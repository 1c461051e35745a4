"""Everything that one run needs, made from its config in the order in which mistakes are cheapest to find.

The seed comes first; then the graph with its weights; then the data. Making the data leaves the random numbers of
torch where they were, so weights and dropout are those of a hand-written script with the same seed.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from flowconf.diagnostics import Collector, ConfigError, Diagnostic, FlowconfError, Place, RunError
from flowconf.graph import Graph, WeightReport, build_graph, load_checkpoints
from flowconf.graph.weights.transfer import load as load_weights
from flowconf.language import references, registry
from flowconf.language.check_training import check_inputs, check_references, natural_direction
from flowconf.language.config import Config
from flowconf.language.training import Changing, LossSection, TrainingConfig, Weight, listed
from flowconf.train.checks.fitting import Fitting, show_rows
from flowconf.train.checks.precheck import start_request
from flowconf.train.data.splits import Feed, Resident, Sampler, Splits, seed_for
from flowconf.train.data.streams import Flow, as_split
from flowconf.train.memory import Memory
from flowconf.train.objective.metering import Metric, build_metrics
from flowconf.train.objective.routing import Routes, Targets
from flowconf.train.objective.terms import Average, Term, gives_mean, loss_terms, means_of
from flowconf.train.objective.weighting import weight_at
from flowconf.train.optim.averages import Averages
from flowconf.train.optim.groups import LearningRate, parameter_groups
from flowconf.train.phases import Frozen, Phases
from flowconf.train.precision import Precision, pick_devices
from flowconf.train.room import room_for
from flowconf.train.seeds import seed_everything, undisturbed
from flowconf.train.team.distributed import Team
from flowconf.train.team.norms import over_the_team

DEFAULT_EPOCHS = 10


@dataclass
class Active:
    """What counts at the moment: it changes with the phase, and with nothing else."""

    phase: str | None
    terms: list[Term]
    weights: list[Weight]
    view: Callable[..., dict[str, Tensor]]
    """Gives what the terms need."""
    trained: list[nn.Parameter]
    used: set[nn.Parameter] | None
    """Those that get a gradient in every step; None: that depends on the data."""
    routes: Routes

    def __post_init__(self) -> None:
        self._fixed = None if any(isinstance(weight, Changing) for weight in self.weights) else self._at(0.0)

    def weights_at(self, progress: float) -> list[float]:
        """The weight of each term at a point of the run."""
        return self._fixed or self._at(progress)

    def _at(self, progress: float) -> list[float]:
        return [weight_at(weight, progress) for weight in self.weights]


@dataclass
class Job:
    """A run that is ready to go. `enter` makes `active` what a phase says; it is that of no phase first."""

    config: Config
    graph: Graph
    device: torch.device
    team: Team
    precision: Precision
    train: Feed
    held_out: dict[str, Feed]
    """`val` and `test`, as far as the data set has them."""
    sampler: Sampler
    terms: list[Term]
    """The terms of the loss that count in any phase."""
    metrics: list[Metric]
    evaluation_view: Callable[..., dict[str, Tensor]]
    optimizer: optim.Optimizer
    learning_rate: LearningRate
    factors: dict[str | None, list[float]]
    """Phase -> what it makes of the learning rate of each of the optimizer's groups."""
    phases: Phases
    frozen: Frozen
    averages: Averages
    memory: Memory
    total_steps: int
    accounts: list[str]
    """What was loaded into the graph, in words."""
    inputs: tuple[str, ...] = ()
    active: Active = field(init=False)

    def values(self, view: Callable[..., dict[str, Tensor]], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What `view` gives for a batch, in the run's precision."""
        with self.precision.forward():
            found = view(**{name: batch[name] for name in self.inputs})
        return self.precision.full(found)

    def enter(self, phase: str | None) -> None:
        """Freeze, scale and weight what a phase says, None being none. Raises `ConfigError` when nothing is left."""
        training = self.config.training
        weights, trained = self.counting(phase)
        terms = [term for term in self.terms if weights[term.name] != 0]
        self.learning_rate.factors = self.factors[phase]
        view = self.graph.view(_unique(reference for term in terms for reference in term.references))
        targets = [_targets(self.graph, training.loss[term.name]) for term in terms]
        routes = Routes(targets, trained, divided=self.team.whole is not None)
        used = _used(self, view, terms, routes)
        self.active = Active(
            phase=phase,
            terms=terms,
            weights=[weights[term.name] for term in terms],
            view=_averaging(self, view, used, routes),
            trained=trained,
            used=used,
            routes=routes,
        )

    def unused(self) -> list[str]:
        """The modules of which something learns that no term of the loss of the moment reaches."""
        used = self.active.used
        learns = {parameter for parameter in self.active.trained if used is not None and parameter not in used}
        named = self.graph.named_parameters()
        return _unique(name.rpartition(".")[0] for name, parameter in named if parameter in learns)

    def counting(self, phase: str | None) -> tuple[dict[str, Weight], list[nn.Parameter]]:
        """Freeze what a phase says; gives each term's weight in it, and what learns. Raises `ConfigError`."""
        training = self.config.training
        section = training.phases[phase] if phase is not None else None
        self.frozen.enter(section)
        changed = section.loss if section is not None else {}
        weights = {term.name: changed.get(term.name, training.loss[term.name].weight) for term in self.terms}
        groups = self.optimizer.param_groups
        trained = [parameter for group in groups for parameter in group["params"] if parameter.requires_grad]
        if not trained or not any(weight != 0 for weight in weights.values()):
            where = f" in the phase `{phase}`" if phase is not None else ""
            lacks = "no term of the loss counts" if trained else "every parameter is frozen"
            place = self.config.composition.document.origins.key(("phases", phase) if phase is not None else ("loss",))
            raise ConfigError(Diagnostic("FC0403", f"nothing is left to train{where}: {lacks}", place))
        return weights, trained


def prepare(config: Config, runs: Path, *, weights: bool = True, team: Team | None = None) -> Job:
    """Build the graph with its weights, make the data, and everything that follows from both."""
    training = config.training
    trainer = training.trainer
    origins = config.composition.document.origins
    team = team or Team(pick_devices(trainer.devices, origins.value(("trainer", "devices")))[0])
    device = team.device
    if trainer.threads is not None:
        torch.set_num_threads(trainer.threads)
    seed_everything(training.seed)
    graph = build_graph(config.model)
    reports = [*load_checkpoints(graph, config.model, runs), *_start_from(graph, config)] if weights else []
    if trainer.strategy == "fsdp" and team.size > 1:
        team.shard(graph, config)
    with room_for("the weights", _held(graph), device, "train on several devices with `trainer.strategy=fsdp`"):
        graph.to(device)
        if trainer.channels_last:
            graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    over_the_team(graph, team)
    frozen = Frozen(graph)
    ever = frozen.ever_trained(training.phases)
    named = {name: parameter for name, parameter in graph.named_parameters() if parameter in ever}
    groups, factors = parameter_groups(
        named.items(),
        training.optimizer.groups,
        graph.named_parameters_at,
        lambda path: origins.key(("optimizer", "groups", path)),
        [_by_path(phase.lr) for phase in training.phases.values()],
    )
    splits = _make_data(config, device)
    fields = dict(splits.train.fields)
    _check_against_data(config, fields)
    in_graph = functools.partial(references.names_value, config.model)
    counting = {name: loss for name, loss in training.loss.items() if _ever_counts(name, loss, training)}
    terms = loss_terms(counting, registry.losses.load, gives_mean, fields, in_graph)
    metrics = build_metrics(
        training.metrics, fields, in_graph, device, lambda name: origins.value(("metrics", name, "fn"))
    )
    optimizer = registry.optimizers.load(training.optimizer.name)(groups, **training.optimizer.args)
    section = training.data
    feeds = {}
    for name, split in splits.named():
        own = (training.seed, name, team, section.workers, section.prefetch, trainer.channels_last)
        stays = [*split.tensors.values()] if isinstance(split, Resident) else []
        with room_for(f"the split `{name}` of the data", stays, device, _less(section.name)):
            feeds[name] = Feed(split, device, *own)
    feed = feeds.pop("train")
    sampler = Sampler(len(feed), training.data.batch_size, training.seed, feed.home, training.data.drop_last)
    total = _total_steps(config, sampler)
    _check_profile(config, total)
    shape = functools.partial(registry.schedules.load(training.schedule.name), **training.schedule.args)
    needed = [reference for term in terms for reference in term.references]
    watched = _unique([*needed, *(reference for metric in metrics for reference in metric.references)])
    job = Job(
        config=config,
        graph=graph,
        inputs=graph.inputs,
        device=device,
        team=team,
        precision=Precision(trainer.precision, device),
        train=feed,
        held_out=feeds,
        sampler=sampler,
        terms=team.terms(terms),
        metrics=metrics,
        evaluation_view=team.through(graph.view(watched)),
        optimizer=optimizer,
        learning_rate=LearningRate(optimizer, shape, training.schedule.warmup, total),
        factors={
            None: [1.0] * len(groups),
            **{name: [of[number] for of in factors] for number, name in enumerate(training.phases)},
        },
        phases=Phases(training.phases, total, sampler.batches, functools.partial(_sign, training)),
        frozen=frozen,
        averages=Averages(named, trainer.ema),
        memory=Memory(graph),
        total_steps=total,
        accounts=[str(report) for report in reports],
    )
    _check_memory(job)
    if team.stopwatch is not None and isinstance(splits.train, Flow):
        message = f"the data set `{section.name}` is iterable, and its rows cannot be divided anew while it is read"
        place = origins.value(("trainer", "shares"))
        raise ConfigError(Diagnostic("FC0502", message, place, "trainer.shares", help="give the shares as numbers"))
    _try_values(job)
    for phase in training.phases:
        job.counting(phase)
    job.enter(None)
    if team.rank:
        torch.manual_seed(seed_for(training.seed, "process", team.rank))
    return job


def _less(data_set: str) -> str:
    """What makes a data set take less memory."""
    arguments = inspect.signature(registry.datasets.load(data_set)).parameters
    return "set `data.resident=false`" if "resident" in arguments else "give it fewer rows"


def _held(graph: Graph) -> list[Tensor]:
    return [*graph.parameters(), *graph.buffers()]


def _by_path(factor: float | dict[str, float]) -> dict[str, float]:
    return factor if isinstance(factor, dict) else {"": factor}


def _ever_counts(name: str, loss: LossSection, training: TrainingConfig) -> bool:
    return loss.weight != 0 or any(phase.loss.get(name, 0) != 0 for phase in training.phases.values())


def _sign(training: TrainingConfig, value: str) -> int:
    return 1 if natural_direction(training, value) == "min" else -1


def _targets(graph: Graph, loss: LossSection) -> Targets:
    """The parameters that a term may move. Raises `PathError`."""
    if loss.updates is None:
        return None
    return frozenset(parameter for path in listed(loss.updates) for parameter in graph.parameters_at(path))


def _check_memory(job: Job) -> None:
    """Refuse to divide batches, in time or over processes, when a part would start from what another part left."""
    if job.memory.kept and job.config.training.trainer.accumulate > 1:
        place = job.config.composition.document.origins.value(("trainer", "accumulate"))
        message = "a graph that keeps values between calls cannot compute a batch in parts"
        raise ConfigError(Diagnostic("FC0123", message, place, "trainer.accumulate", help="write `accumulate: 1`"))
    if job.memory.kept and job.team.size > 1:
        place = job.config.composition.document.origins.value(("trainer", "devices"))
        message = "a graph that keeps values between calls cannot be trained by several processes"
        raise ConfigError(Diagnostic("FC0123", message, place, "trainer.devices", help="write `devices: 1`"))


def _check_profile(config: Config, total_steps: int) -> None:
    """Refuse to measure steps that the run does not have."""
    section = config.training.trainer.profile
    if section is not None and section.end > total_steps:
        place = config.composition.document.origins.value(("trainer", "profile"))
        message = f"the profile ends after step {section.end:,}, and the run after step {total_steps:,}"
        raise ConfigError(Diagnostic("FC0123", message, place, "trainer.profile", help="write a smaller `wait`"))


def _start_from(graph: Graph, config: Config) -> list[WeightReport]:
    """Take what `init_from` names. Raises `ConfigError`."""
    wanted = start_request(config)
    return [] if wanted is None else [load_weights(graph, wanted)]


def _make_data(config: Config, device: torch.device) -> Splits:
    section = config.training.data
    factory = registry.datasets.load(section.name)
    args = dict(section.args)
    if "seed" in inspect.signature(factory).parameters:
        args.setdefault("seed", config.training.seed)
    place = config.composition.document.origins.value(("data", "name"))
    making = room_for(f"the data set `{section.name}`", (), torch.device("cpu"), _less(section.name))
    try:
        with undisturbed(device), making:
            found = factory(**args)
            if not isinstance(found, Splits):
                raise _no_splits(section.name, found, place)
            splits = Splits(*(as_split(part) for part in (found.train, found.validation, found.test)))
    except (ConfigError, RunError) as error:
        raise ConfigError(*placed(error.diagnostics, config)) from None
    except FlowconfError:
        raise
    except PermissionError as problem:
        message = f"the data set `{section.name}` cannot read `{problem.filename}`: permission denied"
        raise ConfigError(Diagnostic("FC0501", message, place, "data")) from problem
    except (TypeError, ValueError) as problem:
        message = f"the data set `{section.name}` refuses its arguments: {problem}"
        raise ConfigError(Diagnostic("FC0501", message, place, "data")) from problem
    empty = [name for name, split in splits.named() if not len(split)]
    if empty:
        raise ConfigError(
            Diagnostic("FC0501", f"the split `{empty[0]}` of `{section.name}` has no rows", place, "data")
        )
    return splits


def placed(told: Iterable[Diagnostic], config: Config) -> Iterator[Diagnostic]:
    """Diagnostics with the place in the config of what they are about, where they have none but a file of the data."""
    origins = config.composition.document.origins
    for one in told:
        path: tuple[str, ...] = _argument_of(one.place.file, config) or tuple(one.path.split("."))
        node = origins.root.at(path)
        place = origins.key(path) if node is not None and isinstance(node.value, dict) else origins.value(path)
        known = one.place.line or one.place.word is not None or origins.root.child(path[0]) is None
        yield one if known else replace(one, place=place)


def _argument_of(file: str | None, config: Config) -> tuple[str, str] | None:
    """Which argument of the data set names a file, a folder above it, or a pattern that it matches."""
    if file is None:
        return None
    above = (file, *(str(folder) for folder in Path(file).parents))
    args = {name: given for name, given in config.training.data.args.items() if isinstance(given, str)}
    named = (name for name, given in args.items() if os.path.normpath(given) in above or fnmatch(file, given))
    return next((("data", name) for name in named), None)


def _no_splits(name: str, found: object, place: Place) -> ConfigError:
    message = f"the data set `{name}` must give `flowconf.Splits`, and it gives `{type(found).__name__}`"
    return ConfigError(Diagnostic("FC0501", message, place, "data", help="return `flowconf.Splits(train, validation)`"))


def _check_against_data(config: Config, fields: Mapping[str, Any]) -> None:
    collector = Collector()
    origins = config.composition.document.origins
    check_inputs(config.model, fields, origins, collector)
    check_references(config.training, config.model, fields, origins, collector)
    collector.stop_on_errors()


def _try_values(job: Job) -> None:
    """Compute every loss and metric once, on two rows: what does not fit is told with its place before step one."""
    batch = job.train.batch(torch.arange(min(2, len(job.train)), device=job.train.home), 0)
    job.graph.eval()
    with torch.no_grad(), undisturbed(job.device):
        found = problems_of(job, job.values(job.evaluation_view, batch), batch)
    job.graph.reset_state()
    if found:
        raise ConfigError(*found)


def problems_of(job: Job, values: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> list[Diagnostic]:
    """What keeps losses and metrics from being computed of a batch and of what the graph made of it."""
    training, collector = job.config.training, Collector()
    fitting = Fitting(job.config, values, batch, show_rows)
    with torch.no_grad():
        for term in job.terms:
            fitting.check(("loss", term.name), training.loss[term.name], term, Average(term), collector)
        for metric in job.metrics:
            path = ("metrics", metric.name)
            fitting.check(path, training.metrics[metric.name], metric.term, metric.new_meter(False), collector)
    return collector.told_once()


def _used(job: Job, view: Graph, terms: list[Term], routes: Routes) -> set[nn.Parameter] | None:
    """The parameters that get a gradient in every step, by a look at two rows; None where that depends on the data."""
    if any(view.plan.deciding()):
        return None
    there = set(view.parameters())
    if job.team.size == 1 or job.team.whole is not None:
        return there
    batch = job.train.batch(torch.arange(min(2, len(job.train)), device=job.train.home), 0)
    job.graph.eval()
    view.eval()
    with undisturbed(job.device):
        means = means_of(terms, job.values(view, batch), batch)
    job.graph.train()
    view.train()
    return routes.reached(routes.total(means, [1.0] * len(means))[1])


def _averaging(
    job: Job, view: Graph, used: set[nn.Parameter] | None, routes: Routes
) -> Callable[..., dict[str, Tensor]]:
    """The view that trains: compiled if that is asked for, its gradients averaged over the team."""
    wrapped = job.team.wrap(view, used, len(routes.passes))
    compile_ = job.config.training.trainer.compile
    if not compile_:
        return wrapped
    from flowconf.train import compiling

    mode = compiling.mode_of(compile_, compiling.adds_up(job))
    return compiling.compiled(wrapped, mode, job.device)


def _total_steps(config: Config, sampler: Sampler) -> int:
    trainer = config.training.trainer
    if not sampler.batches:
        place = config.composition.document.origins.value(("data", "batch_size"))
        message = f"an epoch has no batch: {sampler.rows} rows, {sampler.batch_size} in a batch, and `drop_last`"
        raise ConfigError(Diagnostic("FC0501", message, place, "data.batch_size"))
    epochs = trainer.epochs or (math.inf if trainer.steps else DEFAULT_EPOCHS)
    return int(min(epochs * sampler.batches, trainer.steps or math.inf))


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
