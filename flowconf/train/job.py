"""Everything that a run needs, and what is active in the current phase."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn, optim

from flowconf.graph.graph import Graph
from flowconf.graph.weights.loading import WeightReport, texts_of
from flowconf.language.changing import Changing, last_value, value_at
from flowconf.language.config import Config
from flowconf.language.points import RunLength
from flowconf.language.training import TurnSection, Weight, listed
from flowconf.report import ConfigError, Diagnostic
from flowconf.train.callbacks.watcher import Watchers
from flowconf.train.compiling import compiled, mode_of
from flowconf.train.data.feed import Feed
from flowconf.train.data.sampling import Sampler
from flowconf.train.objective.metering import Metric
from flowconf.train.objective.parts import Weighing, weighing
from flowconf.train.objective.predictions import Predictions
from flowconf.train.objective.routing import Routes, Targets
from flowconf.train.objective.terms import Term, Values, means_of
from flowconf.train.optim.averages import Averages
from flowconf.train.optim.followers import Followers
from flowconf.train.optim.groups import Group, optimizer_of
from flowconf.train.optim.kept import kept
from flowconf.train.optim.rates import LearningRate
from flowconf.train.phases import Frozen, Phases
from flowconf.train.precision import Precision
from flowconf.train.recurrent import RecurrentState
from flowconf.train.seeds import all_undisturbed
from flowconf.train.team.distributed import Team
from flowconf.train.team.shares import Idle

T = TypeVar("T")
Take = Callable[["Job", Tensor, int], list[Tensor]]
"""Takes a training step: the job, the rows of its batch, and the number of steps before it."""


@dataclass
class Active:
    """What is active in a turn of the current phase."""

    phase: str | None
    turn: str | None
    """None: the config has no turns."""
    steps: int
    terms: list[Term]
    weights: list[Weight]
    view: Callable[..., dict[str, Tensor]]
    """Computes the values that the terms need."""
    trained: list[nn.Parameter]
    used: set[nn.Parameter] | None
    """The parameters that get a gradient in every step; None: they depend on the data."""
    weighing: list[Weighing]
    """What the weights of the elements of each term follow from, which parts of a batch count by."""
    routes: Routes
    optimizers: list[optim.Optimizer]
    repeating: list[optim.Optimizer]
    """Those of the job that have a parameter in `trained`."""
    averages_after: bool
    """Whether gradients are averaged over the team after the backward passes, not within them."""

    def __post_init__(self) -> None:
        changes = any(isinstance(weight, Changing) for weight in self.weights)
        self._fixed = None if changes else [last_value(weight) for weight in self.weights]
        self.kept: list[Tensor] | None = None
        """The current weights of the terms in tensors, if they change and steps are replayed."""

    @property
    def counts(self) -> bool:
        """Whether parts of a batch count by the weights of their elements."""
        return any(kind != "rows" for kind in self.weighing)

    def weights_at(self, step: int, length: RunLength) -> list[float]:
        """The weight of each term in a step of a run."""
        return self._fixed or [value_at(weight, step, length) for weight in self.weights]

    def keep(self, step: int, length: RunLength, device: torch.device) -> None:
        """Keep the weights of a step in tensors, if they change during the run."""
        if self._fixed is None:
            self.kept = kept(self.kept, self.weights_at(step, length), device)


@dataclass
class Job:
    """A prepared run. `enter` sets `active` for a phase; initially it is that outside of all phases.

    With turns, `take_turn` sets it for every step.
    """

    config: Config
    graph: Graph
    device: torch.device
    team: Team
    precision: Precision
    train: Feed
    held_out: dict[str, Feed]
    """`val` and `test`, if the data set has them, and the sets of `data.evaluate`."""
    sampler: Sampler
    terms: list[Term]
    """The terms of the loss that are active in any phase."""
    metrics: list[Metric]
    evaluation_view: Callable[..., dict[str, Tensor]]
    groups: list[Group]
    """The trained parameters by their settings, in the order of the groups of all `optimizers`."""
    optimizers: list[optim.Optimizer]
    repeating: list[optim.Optimizer]
    """Optimizers that compute the loss several times in a step; they come after the others."""
    learning_rate: LearningRate
    phases: Phases
    frozen: Frozen
    averages: Averages
    followers: Followers
    memory: RecurrentState
    length: RunLength
    reports: list[WeightReport]
    """Reports on the weights that were loaded into the graph."""
    fitted: Mapping[str, Any] | None = None
    """What the data set has determined from its training rows."""
    warnings: tuple[Diagnostic, ...] = ()
    """About the data."""
    cached: tuple[str, ...] = ()
    """What was written to the cache of the data, in words."""
    watchers: Watchers = field(default_factory=Watchers)
    """The observers of the run."""
    predictions: Predictions | None = None
    """Gathers predictions for the report of the run."""
    inputs: tuple[str, ...] = ()
    replays: bool = False
    """Whether whole steps are replayed, not only what is compiled (`flowconf.train.replay`)."""
    evaluations: int = 0
    """The number of blocks `evaluating` so far."""
    certain: bool = False
    """Whether no module decides by the numbers that it gets which parameters it uses, as far as the checks can tell."""
    active: Active = field(init=False)
    round: list[Active] = field(init=False)
    """What is active in each step of a round; without turns, a round is one step."""
    columns: list[str] = field(init=False)
    """The names of the losses of a step, after the loss itself: the terms, and the loss of each turn."""

    def values(self, view: Callable[..., dict[str, Tensor]], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs of `view` for a batch, computed in the run's precision."""
        self.team.idle = isinstance(batch, Idle)
        with self.precision.forward():
            found = view(**{name: batch[name] for name in self.inputs})
        return self.precision.full(found)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """A block in evaluation mode; afterwards, the random and the recurrent state are those from before it."""
        self.evaluations += 1
        self.graph.eval()
        try:
            with all_undisturbed(self.device), self.memory.aside():
                yield
        finally:
            self.graph.train()

    @cached_property
    def texts(self) -> dict[str, str]:
        """The document of the graph, and its structural hash, for the metadata of checkpoints."""
        return texts_of(self.graph.plan)

    @property
    def watched(self) -> list[str]:
        """The splits and sets that are evaluated during the run."""
        return [name for name in self.held_out if name != "test"]

    @cached_property
    def total_steps(self) -> int:
        """The steps of the run."""
        return self.length.steps

    @property
    def adds_up(self) -> bool:
        """Whether values of one forward pass are needed in the next."""
        return self.config.training.trainer.accumulate > 1 or bool(self.memory.kept)

    def enter(self, phase: str | None) -> None:
        """Apply a phase; None is outside of all phases. Raises `ConfigError` if nothing is left to train."""
        training = self.config.training
        weights, trained = self.counting(phase)
        number = list(training.phases).index(phase) if phase is not None else None
        self.learning_rate.factors = [1.0 if number is None else group.factors[number] for group in self.groups]
        turns: list[tuple[str | None, TurnSection | None]] = [*training.turns.items()] or [(None, None)]
        found = [self._active(phase, name, turn, weights, trained) for name, turn in turns]
        acting = [active for active in found if active.terms and active.trained]
        self.round = [active for active in acting for _ in range(active.steps)]
        self.active = self.round[0]
        if self.sampler.groups is not None:
            changed = {} if phase is None else training.phases[phase].mixture
            self.sampler.weights = self.sampler.groups.weighted(changed)
        names = unique(f"loss/{term.name}" for active in acting for term in active.terms)
        self.columns = [*names, *(f"turn/{active.turn}" for active in acting if active.turn is not None)]
        self._trained = trained
        self._taken: Active | None = None

    def _active(
        self,
        phase: str | None,
        name: str | None,
        turn: TurnSection | None,
        weights: Mapping[str, Weight],
        trained: list[nn.Parameter],
    ) -> Active:
        """What is active in a turn of a phase."""
        training = self.config.training
        terms = [term for term in self.terms if weights[term.name] != 0]
        if turn is not None:
            terms = [term for term in terms if term.name in listed(turn.loss)]
            selected = _selected(self.graph, turn.updates)
            trained = [one for one in trained if selected is None or one in selected]
        view = self.graph.view(unique(reference for term in terms for reference in term.references))
        targets = [_selected(self.graph, training.loss[term.name].updates) for term in terms]
        routes = Routes(targets, trained, divided=self.team.whole is not None)
        used = _used(self, view, terms, routes)
        divides = training.trainer.accumulate > 1 and any(not term.reduces or term.mask is not None for term in terms)
        passes = len(routes.passes) if turn is None else max(len(routes.passes), 2)
        own = set(trained)
        return Active(
            phase=phase,
            turn=name,
            steps=1 if turn is None else turn.steps,
            terms=terms,
            weights=[weights[term.name] for term in terms],
            view=_averaging(self, view, used, passes),
            trained=trained,
            used=used,
            routes=routes,
            weighing=_weighing(self, view, terms) if divides else ["rows"] * len(terms),
            optimizers=[one for one in self.optimizers if _has_any(one, own)],
            repeating=[one for one in self.repeating if _has_any(one, own)],
            averages_after=self.team.averages_after(passes),
        )

    def turn_at(self, step: int) -> Active:
        """What is active in a step of the current phase."""
        return self.round[step % len(self.round)]

    def take_turn(self, step: int) -> None:
        """With turns: make the one of `step` the active one, in which only its parameters have gradients."""
        turning = self.turn_at(step)
        if turning.turn is None or turning is self._taken:
            return
        self.active = self._taken = turning
        own = set(turning.trained)
        for parameter in self._trained:
            parameter.requires_grad_(parameter in own)

    def in_columns(self, losses: list[Tensor]) -> list[Tensor]:
        """The losses of a step under `columns`; with turns, those of the others are 0."""
        if self.active.turn is None:
            return losses
        total, *means = losses
        found = {f"loss/{term.name}": mean for term, mean in zip(self.active.terms, means, strict=True)}
        found[f"turn/{self.active.turn}"] = total
        zero = torch.zeros_like(total)
        return [total, *(found.get(name, zero) for name in self.columns)]

    def steps_of(self, begin: int, end: int) -> list[int]:
        """The number of steps from `begin` to before `end` in which each of `columns` was computed."""
        if self.active.turn is None:
            return [end - begin] * len(self.columns)
        turns = [self.turn_at(step) for step in range(begin, end)]
        computed = [{f"turn/{turn.turn}", *(f"loss/{term.name}" for term in turn.terms)} for turn in turns]
        return [sum(name in names for names in computed) for name in self.columns]

    def sums(self, losses: Tensor, begin: int) -> dict[str, tuple[float, int]]:
        """What the loss of the steps from `begin` on adds up from, as sums over steps and the number of these steps.

        Without turns, that is the loss of the steps. With turns, it is the weighted terms, as in an evaluation: each is
        a mean over the steps in which it was computed. `losses` are [steps, columns].
        """
        if self.active.turn is None:
            return {"loss": (losses[:, 0].sum().item(), len(losses))}
        weights: dict[str, dict[int, float]] = {}
        for number in range(len(losses)):
            turn = self.turn_at(begin + number)
            for term, weight in zip(turn.terms, turn.weights_at(begin + number, self.length), strict=True):
                weights.setdefault(f"loss/{term.name}", {})[number] = weight
        columns = dict(zip(self.columns, losses.T[1:], strict=True))
        return {
            name: ((columns[name][list(own)] @ losses.new_tensor(list(own.values()))).item(), len(own))
            for name, own in weights.items()
        }

    def learning_rates(self) -> dict[str, float]:
        """The current learning rates: `lr` of the first group, and `lr/SELECTOR` of those that selectors take."""
        rates = self.learning_rate.rates
        named = {f"lr/{group.selector}": rate for group, rate in zip(self.groups, rates, strict=True) if group.selector}
        return {"lr": rates[0], **named}

    def changing(self, step: int) -> dict[str, float]:
        """Numbers in a step that change during the run: weights of terms (`weight/TERM`), decays (`decay/MEMBER`)."""
        weights = {
            f"weight/{term.name}": value_at(weight, step, self.length)
            for active in self.round
            for term, weight in zip(active.terms, active.weights, strict=True)
            if isinstance(weight, Changing)
        }
        return weights | {f"decay/{path}": decay for path, decay in self.followers.changing(step, self.length).items()}

    def optimizer_name(self, parameter: str) -> str:
        """The registered name of the optimizer of a trained parameter."""
        return self._group(parameter).section.name or self.config.training.optimizer.name

    def maker(self, parameter: str) -> Callable[[list[dict[str, Any]]], optim.Optimizer]:
        """A function that makes the optimizer of a trained parameter for other groups of parameters."""
        return partial(optimizer_of, self.config.training.optimizer, self._group(parameter).section)

    def _group(self, parameter: str) -> Group:
        return next(group for group in self.groups if parameter in group.named)

    def unused(self) -> list[str]:
        """The modules with trainable parameters that no active term of the loss reaches."""
        learns = set(self._trained)
        for active in self.round:
            learns -= learns if active.used is None else active.used.intersection(active.trained)
        named = self.graph.named_parameters()
        return unique(name.rpartition(".")[0] for name, parameter in named if parameter in learns)

    def counting(self, phase: str | None) -> tuple[dict[str, Weight], list[nn.Parameter]]:
        """Apply the freezing of a phase; returns its loss weights and trained parameters. Raises `ConfigError`."""
        training = self.config.training
        section = training.phases[phase] if phase is not None else None
        self.frozen.enter(section)
        changed = section.loss if section is not None else {}
        weights = {term.name: changed.get(term.name, training.loss[term.name].weight) for term in self.terms}
        ever = {parameter for group in self.groups for parameter in group.named.values()}
        trained = [parameter for parameter in self.graph.parameters() if parameter in ever and parameter.requires_grad]
        if not trained or not any(weight != 0 for weight in weights.values()):
            where = f" in the phase `{phase}`" if phase is not None else ""
            lacks = "every term of the loss has weight 0" if trained else "every parameter is frozen"
            place = self.config.origins.key(("phases", phase) if phase is not None else ("loss",))
            raise ConfigError(Diagnostic("FC0403", f"nothing to train{where}: {lacks}", place))
        acting = [
            turn
            for turn in training.turns.values()
            if any(weights.get(term, 0) != 0 for term in listed(turn.loss))
            and (turn.updates is None or not (_selected(self.graph, turn.updates) or set()).isdisjoint(trained))
        ]
        if training.turns and not acting:
            where = f"in the phase `{phase}`" if phase is not None else "in any turn"
            message = f"nothing to train {where}: every turn has only terms of weight 0, or only frozen parameters"
            place = self.config.origins.key(("phases", phase) if phase is not None else ("turns",))
            raise ConfigError(Diagnostic("FC0403", message, place))
        return weights, trained


def _selected(graph: Graph, selectors: str | list[str] | None) -> Targets:
    """The parameters that selectors select; None: all. Raises `PathError`."""
    if selectors is None:
        return None
    return frozenset(parameter for text in listed(selectors) for parameter in graph.parameters_at(text))


def _has_any(optimizer: optim.Optimizer, parameters: set[nn.Parameter]) -> bool:
    """Whether an optimizer has one of some parameters."""
    return any(one in parameters for group in optimizer.param_groups for one in group["params"])


def _used(job: Job, view: Graph, terms: list[Term], routes: Routes) -> set[nn.Parameter] | None:
    """The parameters that get a gradient in every step, determined with two rows; None if they depend on the data."""
    if any(view.plan.deciding()):
        return None
    there = set(view.parameters())
    if job.team.size == 1 or job.team.whole is not None:
        return there
    if not job.certain:
        return None
    values, batch = _tried(job, view)
    means = means_of(terms, values, batch)
    return routes.reached(routes.total(means, [1.0] * len(means))[1])


def _weighing(job: Job, view: Graph, terms: list[Term]) -> list[Weighing]:
    """What the weights of the elements of each term follow from."""
    values, batch = _tried(job, view)
    return [weighing(term, values, batch) for term in terms]


def _tried(job: Job, view: Graph) -> tuple[Values, Values]:
    """The values of a view for the first two rows, and the rows."""
    batch = job.train.first_rows(2)
    with job.evaluating():
        return job.values(job.team.through(view), batch), batch


def _averaging(job: Job, view: Graph, used: set[nn.Parameter] | None, passes: int) -> Callable[..., dict[str, Tensor]]:
    """The view for training: its gradients are averaged over the team, and it is compiled if the config says so."""
    wrapped = job.team.wrap(view, used, passes)
    compile_ = job.config.training.trainer.compile
    if not compile_:
        return wrapped
    return compiled(wrapped, mode_of(compile_, job.adds_up or job.replays), job.replays, job.device)


def unique(names: Iterable[T]) -> list[T]:
    """The names without duplicates, in order of first occurrence."""
    return list(dict.fromkeys(names))
