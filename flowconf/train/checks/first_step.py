"""The first step of training without numbers: fake data through a fake graph into the losses and metrics.

Nothing is read and nothing is trained. What is known of the data is what its data set declares; a term that takes more
than that is tried again when the data is there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from flowconf.graph.selecting import kinds_of
from flowconf.graph.shapes import inner_values
from flowconf.graph.shapes.budget import check_budget
from flowconf.graph.shapes.check import rehearse
from flowconf.graph.shapes.fake_values import UNKNOWN, faked, real
from flowconf.graph.shapes.inference import Inference, Rehearsal
from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.views import check_stacked
from flowconf.language import references, registry
from flowconf.language.config import Config
from flowconf.language.open_size import bound
from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan
from flowconf.language.sections import augmentations, torch_metrics
from flowconf.language.sections.checks import check_inputs, check_references, provided_fields
from flowconf.language.sections.data_sets import check_buckets, further_sets
from flowconf.language.selectors import Tree, copies, parse
from flowconf.language.training import FITTED, TrainingConfig, listed
from flowconf.report import Advice, ConfigError, Reporter, suggest
from flowconf.report.origins import Path
from flowconf.train.checks.accumulation import check_accumulation
from flowconf.train.checks.elements import check_agreement, check_elements
from flowconf.train.checks.invented import Rows, check_foreign
from flowconf.train.checks.terms import TermCheck, Tried, tried_of
from flowconf.train.data.declarations import Declared, data_sets
from flowconf.train.data.run_data import check_fields, placed
from flowconf.train.objective.gradients import MARK
from flowconf.train.objective.metering import build_metrics
from flowconf.train.objective.routing import reached
from flowconf.train.objective.terms import Operand, Term, loss_terms


@dataclass
class FirstStep:
    """A graph that was run on a fake batch, and what losses and metrics can be tried on."""

    config: Config
    known: Declared
    batch: dict[str, Tensor]
    found: Rehearsal
    mode: FakeTensorMode

    @property
    def inference(self) -> Inference:
        return self.found.inference


@dataclass
class Reach:
    """Which parameters each term of the loss moves, by full path. `certain`: nothing was left open.

    The names of parameters have no numbers of copies, except those of `copies`.
    """

    plan: GraphPlan
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)
    terms: dict[str, set[str]] = field(default_factory=dict)
    certain: bool = False
    kinds: dict[str, frozenset[str]] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    """Parameter -> the parameter that it is."""
    modules: list[str] = field(default_factory=list)
    """All modules, without the numbers of copies."""
    open: list[str] = field(default_factory=list)
    """The losses and metrics that are only known once there are real rows."""

    @cached_property
    def copies(self) -> dict[str, str]:
        """Each parameter of the built graph, and its name without the numbers of copies."""
        return copies(self.plan, self.parameters)

    def size_of(self, name: str) -> tuple[int, ...]:
        """The size of a parameter of the built graph."""
        return self.parameters[name] if name in self.parameters else self.parameters[self.copies[name]]

    def select(self, text: str) -> set[str]:
        """The parameters of the built graph that a selector means, possibly none."""
        return set(self._tree.select(parse(text), self._kinds))

    def selects_modules(self, text: str) -> bool:
        """Whether a selector means modules, whether they have parameters or not."""
        selector = parse(text)
        return selector.kind is None and bool(Tree(self.plan, copies(self.plan, self.modules)).paths(selector))

    def instead(self, text: str) -> Advice | None:
        """The advice for a selector that selects nothing."""
        return self._tree.instead(parse(text), self._kinds)

    @cached_property
    def _tree(self) -> Tree:
        return Tree(self.plan, self.copies)

    @cached_property
    def _kinds(self) -> dict[str, frozenset[str]]:
        return {full: self.kinds.get(name, frozenset()) for full, name in self.copies.items()}


def first_step(config: Config, rows: int | None = None, fields: Declared | None = None) -> FirstStep:
    """Run the graph of a config on a fake batch of its `fields` (None: what its data set declares), as training does.

    `rows` is the size of the batch; None: any. Raises `ConfigError` for sizes that do not fit, also those that only the
    data set declares.
    """
    plan, known = config.model, declared_fields(config) if fields is None else fields
    sizes = Sizes(known=_sizes_of(plan, known))
    if rows is not None:
        sizes.known[str(_batch_size(plan))] = rows
    with faked(grad=True) as mode:
        count = sizes.of(_batch_size(plan))
        batch = {name: torch.empty((count, *shape), dtype=dtype) for name, (shape, dtype, *_) in known.items()}
        silent = {given.name for given in plan.inputs if given.shape is None}
        found = rehearse(plan, {name: value for name, value in batch.items() if name in silent}, sizes)
    found.inference.reporter.stop_on_errors()
    check_budget(plan, found.inference.parameters)
    return FirstStep(config, known, batch, found, mode)


def measured(step: FirstStep, reporter: Reporter) -> Reach:
    """Note every loss and metric that cannot be computed, and give what the losses would train."""
    with faked(grad=True, mode=step.mode):
        check, terms, left = _try_terms(step, reporter)
        check_accumulation(step.config, step.found.modules, terms, check, step.found.sizes, reporter)
        return replace(_reach(step, terms, check), open=left)


def check_declared(config: Config, reporter: Reporter) -> None:
    """Note inputs and references that are not what the data set declares of itself."""
    training, plan, known = config.training, config.model, _declared(config, ("data",))
    if known:
        names = provided_fields(training.data.name) or tuple(known)
        given = {name: known[name][:2] if name in known else None for name in names}
        made = augmentations.views(training, names)
        viewed = {**given, **{new: given.get(old) for new, old in made.items()}}
        check_inputs(plan, viewed, reporter)
        check_references(training, plan, viewed, reporter)
        _check_sampled(training, names, reporter)
        augmentations.check_fields(training, names, reporter)
        check_buckets(training, names, reporter)
    for path in further_sets(training):
        _check_further(config, path, known, reporter)


def _check_sampled(training: TrainingConfig, fields: Collection[str], reporter: Reporter) -> None:
    """Note a field by which rows are drawn that the data set does not have."""
    for key in ("by", "weight"):
        name = getattr(training.data.sample, key)
        if name is not None and name not in fields:
            message, advice = f"the data has no field `{name}`", suggest(name, fields, "fields")
            reporter.error("FC0502", message, at=("data", "sample", key), advice=advice)


def _check_further(config: Config, path: Path, known: Declared, reporter: Reporter) -> None:
    """Note fields of a further set that differ from those of the data set itself, and missing ones that are needed."""
    mine = _declared(config, path)
    names = provided_fields(data_sets(config.training)[path].name) or tuple(mine)
    if names:
        given = {field: mine[field][:2] if field in mine else None for field in names}
        there = {field: known[field][:2] if field in known else None for field in known}
        check_fields(config, path, given, there, reporter)


def declared_fields(config: Config, fitted: Mapping[str, Any] | None = None) -> Declared:
    """What the data set of a config says of its fields and views, before it is made, or with what it has `fitted`."""
    return augmentations.with_views(config.training, _declared(config, ("data",), fitted))


def _declared(config: Config, path: Path, fitted: Mapping[str, Any] | None = None) -> Declared:
    """The fields that the data set at a path of the config declares."""
    data_set = data_sets(config.training)[path]
    fitted = fitted or (config.fitted if data_set.name == config.training.data.name else None)
    given = data_set if fitted is None else replace(data_set, args={**data_set.args, FITTED: fitted})
    try:
        return given.declared()
    except ConfigError as error:
        raise ConfigError(*placed(error.diagnostics, config, path)) from error


def _sizes_of(plan: GraphPlan, known: Declared) -> dict[str, int]:
    """The sizes that the data has where the graph's inputs say symbols; the first size of an input is the batch."""
    sizes: dict[str, int] = {}
    for given in plan.inputs:
        shape = known[given.name][0] if given.name in known else ()
        if given.shape is not None and len(given.shape) == len(shape) + 1:
            for size, have in zip(given.shape[1:], shape, strict=True):
                if size != given.shape[0]:
                    bound(size, have, sizes)
    return sizes


def _batch_size(plan: GraphPlan) -> int | str:
    """The first size of an input."""
    return next((given.shape[0] for given in plan.inputs if given.shape), "B")


def _try_terms(step: FirstStep, reporter: Reporter) -> tuple[TermCheck, list[Term], list[str]]:
    """Note every loss and metric that cannot be computed; gives what they were tried on, the losses, and those left."""
    config, known, sizes = step.config, step.known, step.found.sizes
    training, plan = config.training, config.model
    fields = _field_names(training, plan, known)
    terms = loss_terms(training.loss, plan, fields)
    unreadable = bool(data_sets(training)["data",].refused_files())  # reported later, by the stage of the machine
    ready = {name: one for name, one in training.metrics.items() if not (unreadable and torch_metrics.lacks_task(one))}
    with real():
        metrics = build_metrics(ready, plan, fields, torch.device("cpu"), reporter)
    tried = [one for one in tried_of(training, terms, metrics) if _is_readable(one, step, reporter)]
    named = [member.name for member in plan.steps]
    named += [name for one in tried for name in one.term.references if references.names_value(plan, name)]
    values = {name: step.found.value(references.find_anywhere(plan, name)) for name in dict.fromkeys(named)}
    fakes = TermCheck(config, values, step.batch, sizes.show, sizes.reworded)
    foreign = [one for one in tried if _wants_numbers(one.section.fn)]
    for one in tried:
        if one not in foreign:
            target = one.term.operands[-1]
            classes = known[target.name][2:] if target.in_batch and target.name in known else ()
            fakes.check(one, reporter, classes[0] if classes else None)
    left = [one.name for one in tried if one not in foreign and fakes.operands(one) is None]
    later = [one for one in foreign if getattr(one.term.function, MARK, False)]  # invented rows have no gradients
    foreign = [one for one in foreign if one not in later]
    left += check_foreign(foreign, fakes, sizes, partial(_first_rows, step, foreign), reporter)
    left += [one.name for one in later]
    own = [one for one in tried if not torch_metrics.uses_torchmetrics(one.section.fn)]
    for one in own:
        check_elements(fakes, one, reporter)
    check_agreement(fakes, own, reporter)
    return fakes, terms, left


def check_readable(name: str, plan: GraphPlan, inference: Inference) -> None:
    """Check that a value of the graph exists, with one shape in all copies of a step. Raises `NotFound`."""
    value = references.find_anywhere(plan, name)
    check_stacked(plan, value, inference.shapes)
    inner_values.check(plan, value, inference.inside, inference.kinds)


def _is_readable(tried: Tried, step: FirstStep, reporter: Reporter) -> bool:
    """Whether all values that a term reads exist, with one shape in all copies of a step; others are reported."""
    for name in tried.term.references:
        try:
            if references.names_value(step.config.model, name):
                check_readable(name, step.config.model, step.inference)
        except references.NotFound as problem:
            given = [key for key in ("input", "target", "mask") if name in listed(getattr(tried.section, key))]
            reporter.error("FC0402", problem.message, at=(*tried.path, *given[:1]), advice=problem.advice_for(name))
            return False
    return True


def _first_rows(step: FirstStep, tried: list[Tried]) -> Rows | None:
    """The first real rows; what makes data sets is imported for them alone."""
    from flowconf.train.checks.real_rows import RealRows

    real = RealRows(step.config, step.inference)
    batch = real.first_batch()
    values = None if batch is None else real.values([name for t in tried for name in t.term.references], batch)
    return None if values is None or batch is None else (values, batch)


def _wants_numbers(function: str) -> bool:
    """Whether a function is not ours: it may look at the numbers."""
    known = (table for table in (registry.metrics, registry.losses) if function in table)
    is_strange = any(not table.is_built_in(function) for table in known)
    return is_strange or torch_metrics.uses_torchmetrics(function)


def _field_names(training: TrainingConfig, plan: GraphPlan, known: Declared) -> tuple[str, ...]:
    """The fields of the data; of a data set that does not say, whatever may be one."""
    names = provided_fields(training.data.name) or tuple(known)
    if names:
        return (*dict.fromkeys((*names, *augmentations.views(training, names))),)
    found: list[str] = []
    for section in (*training.loss.values(), *training.metrics.values()):
        found += [name for name in listed(section.input) if not references.names_value(plan, name)]
        found += [*listed(section.target), *listed(section.mask)]
    return tuple(dict.fromkeys(found))


def _reach(step: FirstStep, terms: list[Term], check: TermCheck) -> Reach:
    """The parameters that each term depends on."""
    found = step.found
    names = {
        parameter: join(path, name)
        for path, module in found.modules.items()
        for name, parameter in module.named_parameters()
    }
    moved = {term.name: {names[p] for p in _moved(term, check) if p in names} for term in terms}
    tied = found.inference.tied
    for names_of_term in moved.values():
        for name, other in tied.items():
            names_of_term |= {name, other} if names_of_term & {name, other} else set()
    certain = found.inference.certain and all(value is not UNKNOWN for value in check.values.values())
    certain = certain and not any(_may_be_either(source, step) for term in terms for source in term.operands)
    sizes = {name: tuple(parameter.shape) for parameter, name in names.items()}
    kinds = {
        join(path, name): kinds for path, module in found.modules.items() for name, kinds in kinds_of(module).items()
    }
    modules = [join(path, name) for path, module in found.modules.items() for name, _ in module.named_modules()]
    return Reach(step.config.model, sizes, moved, certain, kinds, tied, modules)


def _may_be_either(source: Operand, step: FirstStep) -> bool:
    """Whether a name is a value of the graph, and may be a field of data that does not declare its fields."""
    declared_names = provided_fields(step.config.training.data.name) or step.known
    return source.in_batch and not declared_names and references.names_value(step.config.model, source.name)


def _moved(term: Term, check: TermCheck) -> set[nn.Parameter]:
    """The parameters that a term has a gradient for; where it cannot be computed, all that its values depend on."""
    try:
        return reached(term.mean(check.values, check.batch))
    except Exception:  # noqa: BLE001 - it has been reported, or a function of a project does not support fake tensors
        values = [check.values.get(name) for name in term.references]
        return set().union(*(reached(value) for value in values if isinstance(value, Tensor)))
