"""Checks graphs without declared inputs for steps that contradict each other with any input."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from flowconf.graph.shapes import faults
from flowconf.graph.shapes.fake_values import UNKNOWN
from flowconf.graph.shapes.open_sizes import fitting
from flowconf.graph.shapes.sizes import EXPECTS, Sizes
from flowconf.graph.shapes.trial import Trial
from flowconf.language.arguments import Call
from flowconf.language.plan import Chain, GraphPlan, Input, Module, Mount
from flowconf.report import counted

Taken = tuple[Call, str, int]
"""A module applied to an input, and the argument with a size of that input."""

OTHER_PRIMES = (211, 223, 227, 229)
FEATURES_LAST = (("B",), ("B", "T"), ("B", "H", "W"))
BEHIND_CHANNELS = ((), ("T",), ("H", "W"), ("D", "H", "W"))


def check_assumed(graph: GraphPlan, found: Trial, run: Callable[[GraphPlan, Sizes], Trial]) -> None:
    """Note in a trial how many steps were not checked, and the errors that occur with all possible inputs.

    `run` tries the same graph with declared inputs, whose size is the one that the first module expects.
    """
    values = found.scope.local
    open_ = [given for given in graph.inputs if values[given.name] is UNKNOWN]
    reporter = found.result.reporter
    if not open_ or reporter.errors:
        return
    steps = counted(sum(values[step.name] is UNKNOWN for step in graph.steps), "step")
    reporter.notes.append(f"sizes of {steps} not checked: the graph declares no `inputs`")
    refuted: list[Trial] = []
    for given in _assumed(graph, open_[0]) if len(graph.inputs) == 1 else ():
        declared = replace(graph, inputs=(given,))
        trial = fitting(declared, run, found.sizes)
        others = dict(zip(trial.sizes.symbols, OTHER_PRIMES, strict=False))
        again = run(declared, Sizes(symbols=others))
        if not {one.of_reader for one in trial.misfits} & {one.of_reader for one in again.misfits}:
            return  # unknown sizes differ between trials
        refuted.append(trial)
    if refuted:
        reporter.diagnostics += refuted[0].result.reporter.diagnostics


def _assumed(graph: GraphPlan, given: Input) -> Iterator[Input]:
    """Possible inputs, one for each rank, for the first module that has a size of the input as an argument."""
    taken = next(_taken(graph, given.name), None)
    if taken is None:
        return
    call, name, size = taken
    if name == "num_embeddings":
        yield from (replace(given, shape=shape, dtype="int64") for shape in FEATURES_LAST)
    elif EXPECTS[name] == -1:
        yield from (replace(given, shape=(*shape, size)) for shape in FEATURES_LAST)
    else:
        spatial = re.search(r"([123])d$", call.name)
        shapes = BEHIND_CHANNELS if spatial is None else BEHIND_CHANNELS[int(spatial[1]) :][:1]
        yield from (replace(given, shape=("B", size, *shape)) for shape in shapes)


def _taken(graph: GraphPlan, name: str) -> Iterator[Taken]:
    for step in graph.steps:
        if step.stream.member == name and step.stream.inner is None:
            for applied in step.applied():
                yield from _taken_by(applied.target)


def _taken_by(module: Module) -> Iterator[Taken]:
    match module:
        case Chain(members=members):
            yield from _taken_by(members[0].target)
        case Mount(graph=graph) if len(graph.inputs) == 1:
            yield from _taken(graph, graph.inputs[0].name)
        case Call():
            for name, value in faults.bound(module).items():
                is_size = name in EXPECTS or name == "num_embeddings"
                if is_size and isinstance(value.value, int):
                    yield module, name, value.value
