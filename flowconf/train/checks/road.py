"""The road of checks: a config or a graph is checked stage by stage, and each command runs as many as it needs.

All errors of a stage are reported together. The first stages do not need torch, so most errors are reported before it
is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowconf.language import config as configs
from flowconf.language.config import Config, ConfigDocument
from flowconf.language.plan import GraphPlan
from flowconf.language.replaced_verbs import noted
from flowconf.language.resolve.resolver import resolve_model
from flowconf.language.schema import GraphDocument
from flowconf.language.sections import activations, checks
from flowconf.language.sections.members import with_members
from flowconf.report import (
    ConfigError,
    Diagnostic,
    FlowconfError,
    MachineError,
    Reporter,
    grouped,
    listing,
    of_system,
    prints_aside,
)
from flowconf.report.garbage import uncollected
from flowconf.report.origins import Document
from flowconf.text.compose import Composition, composing, with_graphs
from flowconf.text.documents import from_data
from flowconf.train.checks.trial import tried

if TYPE_CHECKING:
    from flowconf.graph.shapes.inference import Inference
    from flowconf.train.checks.first_step import FirstStep
    from flowconf.train.data.declarations import Declared
    from flowconf.train.prerequisites import Prerequisites

GraphSource = GraphPlan | Mapping[str, Any] | str | os.PathLike[str]
"""A description of a graph: a file, the data of a graph document, or a Plan."""


@dataclass(frozen=True)
class Stage:
    """A stage of the road. `check` adds errors to the walk's reporter, or raises `ConfigError`."""

    name: str
    check: Callable[[Walk], None]
    torch: bool = True
    """Whether it requires torch."""
    graph: bool = False
    """Whether it also applies to a graph document; the other stages apply only to training configs."""
    ends: bool = True
    """Whether an error in this stage skips the later ones."""


@dataclass
class Walk:
    """The progress of checking a config or a graph, and the results so far."""

    document: Document | None = None
    composition: Composition | None = None
    """The composition of the document; None for data and for a Plan."""
    run_weights: Path | None = None
    """The weights of a run, loaded instead of those that the config names."""
    fitted: Mapping[str, Any] | None = None
    """What the data set of a run has determined from its training rows."""
    sweep: str = ""
    """The folder of the sweep that the run belongs to."""
    fields: Declared | None = None
    """The fields of the data, once it is made; None: what the data set declares of them."""
    position: int = 0
    """The index of the next stage in `STAGES`."""
    reporter: Reporter = field(default_factory=Reporter)

    keys: ConfigDocument | GraphDocument | None = None
    plan: GraphPlan | None = None
    config: Config | None = None
    """None for a graph document."""
    step: FirstStep | None = None
    inference: Inference | None = None
    open_terms: list[str] = field(default_factory=list)
    """The losses and metrics that are only known once there are real rows."""
    prerequisites: Prerequisites | None = None
    before: list[Walk] = field(default_factory=list)
    """The walks of the configs to train before this one, in that order."""

    @property
    def checked(self) -> Config:
        """The config; available after the stage `sections`."""
        assert self.config is not None
        return self.config

    @property
    def resolved(self) -> GraphPlan:
        """The graph; available after the stage `graph`."""
        assert self.plan is not None
        return self.plan

    @property
    def inferred(self) -> Inference:
        """The sizes of the graph; available after the stage `sizes`."""
        assert self.inference is not None
        return self.inference

    @property
    def warnings(self) -> list[Diagnostic]:
        return self.reporter.mistakes()

    def to(self, last: str) -> Walk:
        """Run the remaining stages up to `last`.

        Raises `ConfigError` with the errors of the first stage that has any, and `MachineError`.
        """
        try:
            return self._to(last)
        except FlowconfError as error:
            if self.composition is None:
                raise
            stage = STAGES[max(self.position, _NUMBERS[BEFORE_TORCH] + 1) - 1].name
            raise _tried(error, self.composition.file, self.composition.overrides, stage, self.run_weights) from None

    def _to(self, last: str) -> Walk:
        end = _NUMBERS[last] + 1
        while self.position < end:
            stage = STAGES[self.position]
            self.position += 1
            if stage.graph or self.config is not None or isinstance(self.keys, ConfigDocument):
                try:
                    with uncollected(), prints_aside(), chdir("."):  # parts of a project may change the current folder
                        stage.check(self)
                except ConfigError as error:
                    found, document = error.diagnostics, self.document
                    self.reporter.diagnostics += found if document is None else noted(found, document.origins)
                    self.reporter.unchecked += error.unchecked
            if stage.ends:
                self.reporter.stop_on_errors()
        self.reporter.stop_on_errors()
        return self

    def sweep_checked(self) -> Walk:
        """Check the values that the `sweep` of a config searches, each of which makes another config.

        Raises `ConfigError`, and `MachineError` without Optuna.
        """
        if self.config is not None and self.config.training.sweep is not None and self.composition is not None:
            from flowconf.train.checks.ranges import check_search, ranges_of

            file, words = self.composition.file, self.composition.overrides
            compose = composing(file, words, configs.RULES)
            ranges = ranges_of(self.config)
            check_search(self.config, ranges, lambda words: composed(compose(words)).to(END), self.reporter)
            self.reporter.stop_on_errors()
        return self

    def again(self, first: str) -> Walk:
        """The same walk, reset to before the stage `first`, because files may have changed since."""
        return replace(
            self, position=_NUMBERS[first], reporter=replace(self.reporter, diagnostics=list(self.reporter.diagnostics))
        )

    def with_fields(self, fields: Declared) -> Walk:
        """The same walk up to the objective, with the fields of the data that was made. Raises `ConfigError`."""
        return replace(self.again("sizes"), fields=fields).to("objective")


def begin(
    source: GraphSource, overrides: Sequence[str] = (), origin: str | None = None, *, trained: bool = False
) -> Walk:
    """A walk from a file with overrides, or from a graph in Python. Raises `ConfigError`.

    `trained` requires a training config instead of a graph document. `origin` is the place reported for errors in a
    dict; graphs that a dict names are searched for in `configs` of the current folder, or in the current folder.
    """
    if not isinstance(source, str | os.PathLike):
        _check_graph_alone(source, overrides, trained)
    if isinstance(source, GraphPlan):
        return Walk(plan=source, position=_NUMBERS["sections"], reporter=Reporter(diagnostics=list(source.warnings)))
    if isinstance(source, Mapping):
        folder = "configs" if Path("configs").is_dir() else "."
        return _walk(with_graphs(from_data(dict(source), origin), folder, configs.RULES), None)
    try:
        return composed(configs.compose(source, overrides), trained=trained)
    except ConfigError as error:
        raise _tried(error, os.fspath(source), overrides, BEFORE_TORCH) from None


def _check_graph_alone(source: object, overrides: Sequence[str], trained: bool) -> None:
    """Refuse what is neither a file nor a graph, and what applies to files only."""
    kind = f"a `{type(source).__name__}`"
    if trained or not isinstance(source, GraphPlan | Mapping):
        wanted = "the file of a training config" if trained else "a file, the dict of a graph document, or a plan"
        raise ConfigError(Diagnostic("FC0123", f"expected {wanted}, got {kind}"))
    if overrides:
        raise ConfigError(Diagnostic("FC0123", f"`overrides` apply only to a file, got {kind}"))


def _tried(
    error: FlowconfError, file: str, overrides: Sequence[str], last: str, run_weights: Path | None = None
) -> FlowconfError:
    """The error with advice that was tried: the config with it has no error at that place, up to the stage `last`."""

    return tried(error, overrides, file, lambda words: untried(file, words, last, run_weights))


def untried(file: str, overrides: Sequence[str], last: str, run_weights: Path | None = None) -> Sequence[Diagnostic]:
    """The errors of a config up to the stage `last`, with advice that was not tried."""
    try:
        composed(configs.compose(file, overrides), trained=False, run_weights=run_weights)._to(last)
    except FlowconfError as left:
        return left.diagnostics
    except OSError as problem:
        return [of_system(problem)]
    return []


def composed(composition: Composition, *, trained: bool = True, run_weights: Path | None = None) -> Walk:
    """A walk from a composed config."""
    document = composition.document
    if trained and configs.is_graph(document):
        raise configs.GraphAloneError.of(document)
    return _walk(document, composition, run_weights)


def _walk(document: Document, composition: Composition | None, run_weights: Path | None = None) -> Walk:
    reporter = Reporter(document.origins, diagnostics=list(document.warnings))
    return Walk(document, composition, run_weights, reporter=reporter)


@dataclass(frozen=True)
class Findings:
    """The errors and warnings of a config, the members that were not checked, and whether sizes were checked."""

    mistakes: list[Diagnostic]
    unchecked: tuple[str, ...] = ()
    sizes: bool = True
    notes: tuple[str, ...] = ()
    """What the checks leave open; see `Reporter.notes`."""
    exit_code: int = 0
    walk: Walk = field(default_factory=Walk)
    """The walk that found them, with what it knows of the config."""


def findings(
    source: GraphSource, overrides: Sequence[str] = (), origin: str | None = None, last: str | None = None
) -> Findings:
    """Run all stages, or those up to `last`, and return errors and warnings instead of raising."""
    walk = Walk()
    found: Sequence[Diagnostic]
    unchecked: tuple[str, ...] = ()
    exit_code = 0
    try:
        walk = begin(source, overrides, origin)
        walk = walk.to(last or END)
        found = (walk.sweep_checked() if last is None else walk).warnings
    except ConfigError as error:
        found, unchecked, exit_code = error.diagnostics, error.unchecked, error.exit_code
    except FlowconfError as error:
        found, exit_code = [*walk.warnings, *error.diagnostics], error.exit_code
    except OSError as problem:
        found, exit_code = [*walk.warnings, of_system(problem)], MachineError.exit_code
    notes = tuple(dict.fromkeys(walk.reporter.notes))
    return Findings(grouped(found), unchecked, walk.position > _NUMBERS["sizes"], notes, exit_code, walk)


# the stages


def _keys(walk: Walk) -> None:
    assert walk.document is not None
    if walk.composition is None or configs.is_graph(walk.document):
        walk.keys = configs.graph_keys(walk.document, walk.reporter)
    else:
        walk.keys = configs.config_keys(walk.composition, walk.reporter)


def _graph(walk: Walk) -> None:
    assert walk.document is not None
    if isinstance(walk.keys, ConfigDocument):
        asked = walk.keys.named()
        walk.plan = resolve_model(walk.keys.model, walk.document, ("model",), walk.reporter, asked)
    elif walk.keys is not None:
        plan = resolve_model(walk.keys, walk.document, (), walk.reporter)
        walk.plan = replace(plan, warnings=tuple(walk.reporter.diagnostics))


def _sections(walk: Walk) -> None:
    assert isinstance(walk.keys, ConfigDocument)
    assert walk.composition is not None
    walk.keys = with_members(walk.keys, walk.resolved, walk.reporter)
    checks.check(walk.keys, walk.resolved, walk.reporter)
    walk.config = Config(walk.composition, walk.resolved, walk.keys, tuple(walk.reporter.diagnostics), walk.fitted)


def _data(walk: Walk) -> None:
    from flowconf.train.checks.first_step import check_declared

    check_declared(walk.checked, walk.reporter)


def _sizes(walk: Walk) -> None:
    """Infer the sizes of the graph; for a config, with the fields that its data set declares."""
    from flowconf.graph.build import check_shapes
    from flowconf.train.checks.first_step import first_step

    if walk.config is None:
        walk.inference = check_shapes(walk.resolved)
    else:
        walk.step = first_step(walk.config, fields=walk.fields)
        walk.inference = walk.step.inference
    walk.reporter.notes += walk.inference.reporter.notes


def _objective(walk: Walk) -> None:
    from flowconf.train.checks.callbacks import check_callbacks
    from flowconf.train.checks.classes import completed
    from flowconf.train.checks.first_step import measured
    from flowconf.train.checks.hidden import check_hidden
    from flowconf.train.checks.look_ups import check_classes
    from flowconf.train.checks.masks import check_masks
    from flowconf.train.checks.optimization import check_optimization
    from flowconf.train.checks.single_rows import check_single_rows
    from flowconf.train.checks.turns import check_turns
    from flowconf.train.checks.untrained import check_untrained

    assert walk.step is not None
    before = len(walk.reporter.diagnostics)
    walk.config = walk.step.config = completed(walk.checked, walk.step.found, walk.step.batch, walk.reporter)
    reach = measured(walk.step, walk.reporter)
    walk.open_terms = reach.open
    check_optimization(walk.checked, reach, walk.reporter)
    check_turns(walk.checked, reach, walk.reporter)
    activations.check(walk.checked.training, walk.checked.model, walk.reporter)
    check_hidden(walk.step.found.modules, walk.checked.model, walk.reporter)
    check_callbacks(walk.checked, walk.step.inference, walk.reporter)
    check_masks(walk.checked, walk.step.inference, walk.reporter)
    check_classes(walk.checked, walk.step.inference, walk.step.known, walk.reporter)
    single = check_single_rows(walk.checked, walk.step.found.modules)
    if single is not None:
        walk.reporter.add(single)
    if not walk.reporter.has_errors(before):
        check_untrained(walk.checked, reach, walk.reporter)
    walk.step = None


def _weights(walk: Walk) -> None:
    from flowconf.train.checks.weights import check_run_weights, check_weights

    if walk.run_weights is not None:
        check_run_weights(walk.run_weights, walk.resolved, walk.inferred, walk.reporter)
    else:
        check_weights(walk.config, walk.resolved, walk.inferred, walk.reporter)


def _machine(walk: Walk) -> None:
    from flowconf.train.checks.machine import check_machine

    check_machine(walk.checked, walk.inferred.parameters, walk.reporter)


def _rows(walk: Walk) -> None:
    from flowconf.train.checks.rows import check_rows

    left = check_rows(walk.checked, walk.inferred, walk.open_terms, walk.reporter)
    if left:
        walk.reporter.notes.append(f"checked when a run has read its data: {listing(left)}")


def _prerequisites(walk: Walk) -> None:
    """Check every config that has to be trained before this one."""
    from flowconf.train.prerequisites import Source, plan_prerequisites, source_of

    walks: dict[Source, Walk] = {}

    def load(source: Source) -> Config:
        file, words = source
        walks[source] = begin(file, words, trained=True).to(BEFORE_TORCH)
        return walks[source].checked

    walk.prerequisites = plan_prerequisites(walk.checked, load)
    walk.before = []
    for config in walk.prerequisites.runs[:-1]:
        source = source_of(config)
        with walk.prerequisites.reasons[source].in_its_words():
            walk.before.append(walks[source].to("rows"))
    for before in walk.before:
        walk.reporter.diagnostics += before.warnings
        walk.reporter.notes += before.reporter.notes


STAGES = (
    Stage("keys", _keys, torch=False, graph=True),
    Stage("graph", _graph, torch=False, graph=True),
    Stage("sections", _sections, torch=False),
    Stage("data", _data),
    Stage("sizes", _sizes, graph=True),
    Stage("objective", _objective, ends=False),
    Stage("weights", _weights, graph=True, ends=False),
    Stage("machine", _machine),
    Stage("rows", _rows),
    Stage("prerequisites", _prerequisites),
)
"""The road: the keys of the document; its graph; the training sections; the fields that the data set declares; the
sizes in the graph; losses, metrics and the parameters they train; the weights to load; the machine; the first rows of
the data; and the configs to train before this one."""
END = STAGES[-1].name
BEFORE_TORCH = [stage.name for stage in STAGES if not stage.torch][-1]
_NUMBERS = {stage.name: number for number, stage in enumerate(STAGES)}
