"""Warnings for parts of a graph that a run would not train or use; warnings, because this may be intended."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from flowconf.graph.source.demand import Demand, Demands, Want
from flowconf.language import references
from flowconf.language.config import Config
from flowconf.language.paths import above, all_above, by_path, is_under, join
from flowconf.language.plan import Applied, GraphPlan, Step
from flowconf.language.settings import Setting, freezing_above
from flowconf.language.training import PhaseSection, TrainingConfig, listed
from flowconf.report import Label, Reporter, joined
from flowconf.report.origins import Path
from flowconf.train.checks.first_step import Reach

MOST_PARTS = 3
"""The maximum number of parts that a warning names."""


def check_untrained(config: Config, reach: Reach, reporter: Reporter) -> None:
    """Report unused members, parameters that no term trains, and frozen parts with random weights."""
    unneeded = list(_unneeded(config.model, Demands(config.model, {"": _demand(config)})))
    for path, step, own in unneeded:
        if own:
            message = f"`{path}` is not used by any output, loss or metric"
            advice = "remove it, or use it in a loss, a metric or `outputs`"
            reporter.warn("FC0407", message, step.place, path=path, advice=advice)
    settings = config.model.freezing()
    thawed = {name for name in reach.parameters if not is_frozen(name, settings)}
    states = [_PhaseState(config, reach, name, thawed) for name in (None, *config.training.phases)]
    idle = {path for path, _, _ in unneeded}
    if reach.certain:
        _check_trained(config, reach, states, idle, reporter)
    _check_frozen(config, reach, states, reporter)
    _check_phases(config, reach, states, reporter)


class _PhaseState:
    """The trainable parameters and active loss terms of a phase; None means outside of all phases.

    `thawed` are the parameters that the document itself does not freeze.
    """

    def __init__(self, config: Config, reach: Reach, phase: str | None, thawed: set[str]) -> None:
        training = config.training
        self.phase = phase
        section = training.phases[phase] if phase is not None else PhaseSection()
        self.trainable = _changed(thawed, section, reach)
        self.terms = [name for name, loss in training.loss.items() if section.loss.get(name, loss.weight) != 0]
        self.trained = {name for term in self.terms for name in moves(training, reach, term)} & self.trainable


def trainable(config: Config, reach: Reach) -> set[str]:
    """The parameters that are trainable in the config or in any phase, of which a copy is enough."""
    settings = {path: setting for path, setting in config.model.all_settings() if setting.frozen is not None}
    thawed = {name for name in reach.parameters if not is_frozen(name, settings)}
    return thawed.union(*(_changed(thawed, section, reach) for section in config.training.phases.values()))


def _changed(trainable: set[str], section: PhaseSection, reach: Reach) -> set[str]:
    """The parameters of which a copy is trainable in a phase, which overrides the settings of the document."""
    frozen, thawed = listed(section.freeze), listed(section.thaw)
    if not frozen and not thawed:
        return trainable
    copies = {name for name, of in reach.copies.items() if of in trainable}
    copies = copies.difference(*map(reach.select, frozen)).union(*map(reach.select, thawed))
    return {reach.copies[name] for name in copies}


def is_frozen(name: str, settings: dict[str, Setting]) -> bool:
    """Whether the nearest setting above a parameter freezes it."""
    nearest = freezing_above(name, settings)
    return nearest is not None and nearest.frozen != "no"


def moves(training: TrainingConfig, reach: Reach, term: str) -> set[str]:
    """The parameters that a term may update: those it reaches, limited to its `updates` and those of its turns."""
    turns = [turn.updates for turn in training.turns.values() if term in listed(turn.loss)]
    found = reach.terms[term] & selected(training.loss[term].updates, reach)
    return found & set().union(*(selected(updates, reach) for updates in turns)) if turns else found


def selected(selectors: str | list[str] | None, reach: Reach) -> set[str]:
    """The parameters of which some selectors select a copy; None: all."""
    if selectors is None:
        return set(reach.parameters)
    return {reach.copies[name] for text in listed(selectors) for name in reach.select(text)}


def _check_phases(config: Config, reach: Reach, states: Sequence[_PhaseState], reporter: Reporter) -> None:
    """Report phases that freeze one name of a tied parameter but not the other, or thaw a member that follows."""
    follows = list(config.model.all_follows())
    below = by_path(reach.parameters if follows else ())
    for state in states[1:]:
        for name, other in reach.tied.items():
            if (name in state.trainable) != (other in state.trainable):
                still, learns = sorted((name, other), key=lambda one: one in state.trainable)
                message = f"`{still}` is frozen in phase `{state.phase}`, but `{learns}`, the same parameter, is not"
                at: Path = ("phases", str(state.phase))
                reporter.error("FC0209", message, reporter.key(at), at=at, advice="freeze both, or neither")
        for follow in follows:
            thawed = next((name for name in below.get(follow.path, ()) if name in state.trainable), None)
            if thawed is not None:
                message = f"`{thawed}` is thawed in phase `{state.phase}`, but follows `{follow.home}`"
                labels = (Label(f"`{follow.path}` follows `{follow.home}`", follow.place),)
                at = ("phases", str(state.phase), "thaw")
                reporter.error("FC0209", message, at=at, labels=labels, advice="remove it from `thaw`")


# unused members


def _demand(config: Config) -> Demand:
    training = config.training
    wants = [
        Want(references.find_anywhere(config.model, text))
        for section in (*training.loss.values(), *training.metrics.values())
        for text in (*listed(section.input), *listed(section.target), *listed(section.mask))
        if references.names_value(config.model, text)
    ]
    return Demand(True, tuple(dict.fromkeys(wants)))


def _unneeded(
    plan: GraphPlan, demands: Demands, prefix: str = "", own: bool = True
) -> Iterator[tuple[str, Step, bool]]:
    """The outermost members that the demands do not run, and whether to report each.

    A graph from another file may have unused members; these, and members that only they read, are not reported.
    """
    found = demands.needs(plan, prefix)
    running = {step.name for step in found.steps}
    left = [step for step in plan.steps if step.name not in running]
    read = {value.member for step in left for value in step.reads if not value.recurrent}
    for step in left:
        yield join(prefix, step.path), step, own and step.name not in read
    mounts = {applied.home: mount for step in found.steps for applied, mount in _mounts(step)}
    for home, mount in mounts.items():
        yield from _unneeded(mount, demands, join(prefix, home), own and mount.inline)


def _mounts(step: Step) -> Iterator[tuple[Applied, GraphPlan]]:
    for applied in step.applied():
        graph = getattr(applied.module, "graph", None)
        if isinstance(graph, GraphPlan):
            yield applied, graph


# parameters that no term trains


def _check_trained(
    config: Config, reach: Reach, states: Sequence[_PhaseState], idle: Collection[str], reporter: Reporter
) -> None:
    trained = set().union(*(state.trained for state in states))
    open_ = {name for state in states for name in state.trainable if not is_under(name, idle)}
    if open_ and not trained:
        message = "nothing to train: no term of the loss depends on a trainable parameter"
        reporter.error("FC0403", message, reporter.key(("loss",)))
        return
    reached = {term: all_above(names) for term, names in reach.terms.items()}
    still = open_ - trained
    frozen = set(reach.parameters).difference(*(state.trainable for state in states))
    for path in _highest(still, trained):
        parts = _highest({name for name in still if is_under(name, {path})}, trained | frozen)
        several = f"{len(parts)} parts of `{path}`, such as `{parts[0]}`,"
        named = joined(parts) if len(parts) <= MOST_PARTS else several
        message = f"{named} {'is' if len(parts) == 1 else 'are'} not trained by any term of the loss"
        terms = [term for term in config.training.loss if not reached[term].isdisjoint(parts)]
        labels = tuple(_reasons(config, path, terms, states))
        pronoun = "it" if len(parts) == 1 else "them"
        advice = f"freeze {pronoun}, remove {pronoun}, or add a term of the loss that depends on {pronoun}"
        step = config.model.step_at(parts[0])
        place = step.place if step is not None else config.model.place
        reporter.warn("FC0408", message, place, path=parts[0], labels=labels, advice=advice)


def _highest(names: set[str], others: set[str]) -> list[str]:
    """The shortest paths that cover all of the names and none of the others."""
    taken = {*all_above(others), ""}
    paths = (min((path for path in above(name) if path not in taken), key=len) for name in sorted(names))
    return list(dict.fromkeys(paths))


def _reasons(config: Config, path: str, terms: Sequence[str], states: Sequence[_PhaseState]) -> Iterator[Label]:
    """Labels for the terms that reach a path, with the reason why they do not train it."""
    training, origins = config.training, config.origins
    for term in terms:
        if training.loss[term].updates is not None:
            yield Label(f"`loss.{term}` only updates other parts", origins.value(("loss", term, "updates")))
            continue
        for name, turn in training.turns.items():
            if term in listed(turn.loss) and turn.updates is not None:
                where = origins.value(("turns", name, "updates"))
                yield Label(f"`loss.{term}` only updates other parts in the turn `{name}`", where)
        for state in states:
            if state.phase is not None and term in state.terms:
                where = origins.key(("phases", state.phase))
                yield Label(f"`loss.{term}` depends on it, but it is frozen in phase `{state.phase}`", where)


# frozen parts


@dataclass(frozen=True)
class _Level:
    """A step at one level of the tree, the graph that contains it, and the path of that graph."""

    graph: GraphPlan
    step: Step
    prefix: str


def _check_frozen(config: Config, reach: Reach, states: Sequence[_PhaseState], reporter: Reporter) -> None:
    """Report frozen parts with random weights that come after trained ones, or whose value is a target of the loss.

    A frozen part with weights from a checkpoint, with an `init`, or that a phase trains is intended: gradients pass
    through it to the steps before it.
    """
    if config.training.init_from is not None:
        return
    settings = list(config.model.all_settings())
    given = {path for path, setting in settings if setting.checkpoint is not None or setting.init}
    given |= {follow.path for follow in config.model.all_follows()}
    trained = _Trained(config.model, set().union(*(state.trainable for state in states)))
    around, random, targets = all_above(given), all_above(reach.parameters), _targets(config)

    for path, setting in settings:
        has_weights = is_under(path, given) or path in around
        if setting.frozen in (None, "no") or path not in random or has_weights or path in trained.paths:
            continue
        before = trained.before(path)
        if before is not None:
            source, step = before
            why, label = f"but its input `{source}` is trained", Label(f"`{source}` is trained", step.place)
        elif path in targets:
            why = f"and is the target of `loss.{targets[path]}`"
            label = Label("the target", reporter.value(("loss", targets[path], "target")))
        else:
            continue
        message = f"`{path}` is frozen at its random initial weights, {why}"
        advice, cause = "load weights with `checkpoint`, or remove `frozen`", ("frozen", setting.place)
        reporter.warn("FC0409", message, setting.place, path=path, labels=(label,), advice=advice, cause=cause)


def _targets(config: Config) -> dict[str, str]:
    """The members whose values are targets, and all that contain them -> the term of the loss."""
    found: dict[str, str] = {}
    for name, loss in config.training.loss.items():
        for text in listed(loss.target):
            if references.names_value(config.model, text):
                path = str(replace(references.find_anywhere(config.model, text), index=None))
                found |= dict.fromkeys(all_above([path]), name)
    return found


class _Trained:
    """Where a graph is trained: the `paths` of trainable parameters and of all parts with one."""

    def __init__(self, plan: GraphPlan, parameters: set[str]) -> None:
        self.plan, self.paths = plan, all_above(parameters)
        self._before: dict[str, tuple[str, Step] | None] = {}
        """By the full path of a step: what `_before_at` has found for it."""

    def before(self, path: str) -> tuple[str, Step] | None:
        """A trainable step close before the step at a path, which it reads directly or indirectly, at any level."""
        found = (self._before_at(level) for level in reversed(list(_levels(self.plan, path))))
        return next((one for one in found if one is not None), None)

    def _before_at(self, level: _Level) -> tuple[str, Step] | None:
        start = join(level.prefix, level.step.path)
        if start not in self._before:
            self._before[start] = self._search(level)
        return self._before[start]

    def _search(self, level: _Level) -> tuple[str, Step] | None:
        """Walk back from a step; where the way passes a step that was asked for before, its answer counts."""
        pending, seen = [level.step.name], {level.step.name}
        while pending:
            step = level.graph.step(pending.pop(0))
            for value in step.reads if step is not None else ():
                before = level.graph.step(value.member)
                if before is None or before.name in seen:
                    continue
                seen.add(before.name)
                full = join(level.prefix, before.path)
                if full in self.paths:
                    return full, before
                known = self._before.get(full)
                if known is not None:
                    return known
                if full not in self._before:
                    pending.append(before.name)
        return None


def _levels(plan: GraphPlan, path: str, prefix: str = "") -> Iterator[_Level]:
    """The steps that a path leads through, outermost first."""
    step = plan.step(path.partition(".")[0])
    if step is None:
        return
    yield _Level(plan, step, prefix)
    for applied, graph in _mounts(step):
        if path.startswith(f"{applied.path}."):
            yield from _levels(graph, path[len(applied.path) + 1 :], join(prefix, applied.path))
