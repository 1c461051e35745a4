"""Builds a `Graph` from a Plan: shape check, source, modules, initial values, and frozen parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from flowconf.graph import freezing
from flowconf.graph.graph import CLASSES, Graph
from flowconf.graph.shapes.budget import check_budget, check_memory
from flowconf.graph.shapes.check import infer
from flowconf.graph.shapes.fake_values import quiet
from flowconf.graph.shapes.inference import Inference
from flowconf.graph.shapes.initial_values import fill
from flowconf.graph.source.emit import emit
from flowconf.graph.source.program import run
from flowconf.graph.tree import attach
from flowconf.graph.weights.loading import Request, WeightReport, check, load, tensors_of
from flowconf.graph.weights.sources import is_awaited, locate
from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan
from flowconf.language.settings import Checkpoint
from flowconf.report import ConfigError, Diagnostic, Reporter, first_line, prints_aside


@prints_aside()
def build_graph(plan: GraphPlan, inference: Inference | None = None) -> Graph:
    """Build the modules of a Plan, with their initial values and frozen parts. Raises `ConfigError`.

    `inference` is the result of the shape check of the plan, if it was done before.
    """
    inference = inference or check_shapes(plan)
    check_memory(plan, {name: size for name, size in inference.parameters.items() if name not in inference.tied})
    program = run(emit(plan, inference.sizes), CLASSES)
    try:
        graph = program.classes[program.main.name]()
    except (RuntimeError, MemoryError) as problem:
        message = f"the modules of `{plan.label}` cannot be built: {first_line(problem)}"
        raise ConfigError(Diagnostic("FC0202", message, plan.place)) from None
    assert isinstance(graph, Graph)
    graph.__dict__["_sizes"] = inference.sizes
    graph.__dict__["_notes"] = tuple(inference.reporter.notes)
    attach(graph, plan, inference.shapes)
    apply_starts(graph, plan)
    apply_frozen(graph, plan)
    start_followers(graph, plan)
    return graph


def check_shapes(plan: GraphPlan) -> Inference:
    """The shape check of a whole graph. Raises `ConfigError` with all errors."""
    inference = infer(plan)
    inference.reporter.stop_on_errors()
    check_budget(plan, inference.parameters)
    return inference


def apply_frozen(graph: Graph, plan: GraphPlan) -> None:
    """Apply the `frozen` keys of the document, outer parts first."""
    settings = ((path, setting.frozen) for path, setting in plan.all_settings() if setting.frozen is not None)
    freezing.set_frozen(graph, ((module, frozen) for path, frozen in settings for _, module in graph.modules_at(path)))
    if any(True for _ in plan.all_adapters()):
        freezing.thaw_adapters(graph)


def load_checkpoints(graph: Graph, plan: GraphPlan, runs: str | Path = "runs") -> list[WeightReport]:
    """Load the weights of the `checkpoint:` keys, outer parts first, so that inner ones take precedence.

    Runs of a config are searched in the folder `runs`. Raises `ConfigError`.
    """
    reports = []
    for path, setting in plan.all_settings():
        if setting.checkpoint is not None:
            source = locate(setting.checkpoint, runs, download=True)
            for at, module in graph.modules_at(path):
                reports.append(load(module, Request(str(source), setting.checkpoint), at))
    start_followers(graph, plan, reports)
    return reports


@torch.no_grad()
def start_followers(graph: Graph, plan: GraphPlan, reports: Sequence[WeightReport] = ()) -> None:
    """Give members that follow others the tensors of these, except those that `reports` list as loaded."""
    loaded = {join(report.at, name) for report in reports for name in report.loaded}
    for follow in plan.all_follows():
        source = tensors_of(graph.module_at(follow.home))
        for path, module in graph.modules_at(follow.path):
            for name, tensor in tensors_of(module).items():
                if join(path, name) not in loaded:
                    tensor.copy_(source[name])


def requests(plan: GraphPlan, runs: str | Path = "runs") -> list[tuple[str, Request]]:
    """The requests of the `checkpoint:` keys, by path, without those that are not there yet."""
    asked = ((path, request_for(setting.checkpoint, runs)) for path, setting in plan.all_settings())
    return [(path, request) for path, request in asked if request is not None]


def request_for(checkpoint: Checkpoint | None, runs: str | Path) -> Request | None:
    """The request of a source of weights, or None for weights that are not there yet."""
    if checkpoint is None or is_awaited(checkpoint, runs):
        return None
    return Request(str(locate(checkpoint, runs)), checkpoint)


def check_weights(plan: GraphPlan, inference: Inference, asked: Sequence[tuple[str, Request]]) -> list[Diagnostic]:
    """The errors of loading these weights, each at a path; reads only headers and creates no tensors."""
    found = (report for _, report in _reports(plan, inference, asked))
    return [problem for error in found if isinstance(error, ConfigError) for problem in error.diagnostics]


def accounts_of(plan: GraphPlan, inference: Inference, runs: str | Path = "runs") -> dict[str, tuple[str, ...]]:
    """What loading the weights of the `checkpoint:` keys would report, by path: the lines of the report, or errors."""
    found: dict[str, tuple[str, ...]] = {}
    try:
        asked = requests(plan, runs)
    except ConfigError as error:
        return {"": tuple(problem.message for problem in error.diagnostics)}
    for path, report in _reports(plan, inference, asked):
        messages = report.diagnostics if isinstance(report, ConfigError) else ()
        found[path] = tuple(problem.message for problem in messages) or tuple(str(report).splitlines())
    return found


def _reports(
    plan: GraphPlan, inference: Inference, asked: Sequence[tuple[str, Request]]
) -> Iterator[tuple[str, WeightReport | ConfigError]]:
    """The reports or errors of loading these weights, each with its path."""
    if not asked:
        return
    program = run(emit(plan, inference.sizes), CLASSES)
    with quiet(), torch.random.fork_rng(devices=[]), FakeTensorMode(allow_non_fake_inputs=True):
        graph = program.classes[program.main.name]()
        assert isinstance(graph, Graph)
        attach(graph, plan, inference.shapes)
    for path, request in asked:
        for at, module in graph.modules_at(path) if path else [("", graph)]:
            try:
                yield path, check(module, request, at)
            except ConfigError as error:
                yield path, error


# initial values


@torch.no_grad()
def apply_starts(graph: Graph, plan: GraphPlan) -> None:
    """Set parameters to the values of `init`, which the shape check has accepted. Raises `ConfigError`."""
    reporter = Reporter()
    starts = ((path, start) for path, setting in plan.all_settings() for start in setting.init)
    for path, start in starts:
        within, _, name = start.parameter.rpartition(".")
        for at, parameter in _parameters(graph, path, within, name):
            try:
                fill(parameter, start)
            except (RuntimeError, ValueError, TypeError) as problem:
                what = f"`{join(at, name)}` of shape {list(parameter.shape)}"
                message = f"{what} cannot be initialised: {first_line(problem)}"
                reporter.error("FC0207", message, start.place, path=at)
    reporter.stop_on_errors()


def _parameters(graph: Graph, path: str, within: str, name: str) -> Iterator[tuple[str, nn.Parameter]]:
    """A parameter of what is `within` each copy at a path, with the path of its module."""
    for at, module in graph.modules_at(path):
        inner = module.modules_at(within) if isinstance(module, Graph) else [(within, module.get_submodule(within))]
        for below, owner in inner:
            parameter = owner._parameters[name]
            assert parameter is not None
            yield join(at, below), parameter
