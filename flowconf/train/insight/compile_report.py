"""Reports graph breaks of `torch.compile` for `trainer.compile`.

A graph break is reported once, before the first step, with the path of the step that causes it. For this the graph is
traced on a few rows, as in the first step, without changing its state.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from flowconf.graph import runtime
from flowconf.graph.graph import Graph
from flowconf.language.paths import join
from flowconf.language.plan import Step
from flowconf.report import Place, shown_path
from flowconf.train.compiling import WITHOUT_CUDA_GRAPHS
from flowconf.train.data.feed import in_parts
from flowconf.train.job import Job
from flowconf.train.objective.parts import unchanged
from flowconf.train.replay import obstacle
from flowconf.train.seeds import undisturbed


def report(job: Job) -> list[str]:
    """Lines with the number of compiled graphs, the graph breaks, and the causes of recompilation."""
    pieces, breaks = _explained(job)
    between = ", with graph breaks at" if breaks else ""
    notes = [*breaks, *_sizes(job)]
    if job.config.training.trainer.compile in WITHOUT_CUDA_GRAPHS:
        notes.append(_replayed(job))
    first = f"compiled   as {pieces} graph{'' if pieces == 1 else 's'}{between}"
    return [first, *(f"           {note}" for note in notes)]


def _replayed(job: Job) -> str:
    """The parts that CUDA graphs replay in a run that asks for them."""
    why = obstacle(job)
    if why is None:
        return "CUDA graphs of whole steps"
    without = job.adds_up or job.device.type != "cuda"
    return f"{'without CUDA graphs' if without else 'CUDA graphs of forward and backward alone'}: {why}"


def _explained(job: Job) -> tuple[int, list[str]]:
    """The number of compiled graphs, and the graph breaks between them, without duplicates."""
    view = graph_of(job.active.view)
    batch = job.train.batch(torch.arange(min(2, len(job.train)), device=job.train.home), 0)
    job.graph.train()
    with undisturbed(job.device), unchanged(job.graph), job.memory.aside(), job.precision.forward(), _quiet():
        found = torch._dynamo.explain(view)(**{name: batch[name] for name in job.inputs})
    breaks: dict[str, str] = {}
    known: set[tuple[str, int]] = set()
    for reason in found.break_reasons:
        last = reason.user_stack[-1]
        if last.filename == runtime.__file__:
            breaks |= {path: _deciding(step) for path, step in _steps(view, last.name)}
            continue
        path, place = _path_of(view, reason.user_stack)
        if path or (last.filename, last.lineno) not in known:  # resumed functions have lost the outer frames
            message = reason.reason.partition("\n")[0].rstrip(".")
            breaks[f"`{path}`{f' ({place})' if place else ''}"] = (
                f"{message} ({shown_path(last.filename)}:{last.lineno})"
            )
        known.add((last.filename, last.lineno))
    return found.graph_count, [f"{where}: {why}" for where, why in breaks.items()]


def graph_of(view: Any) -> Graph:
    """The view itself, without the wrappers of `torch.compile` and of a team."""
    inside = getattr(view, "_orig_mod", view)
    found = getattr(inside, "module", inside)
    assert isinstance(found, Graph)
    return found


def _steps(view: Graph, function: str) -> Iterator[tuple[str, Step]]:
    """The steps of a view that call a given function of the runtime to decide what runs."""
    runs = {line.place for part in view._program.program.classes for line in part.lines[part.forward :]}
    for path, step in view.plan.deciding():
        if step.place in runs and (step.decision == runtime.halts.__name__) == (function == runtime.halts.__name__):
            yield f"`{path}` ({step.place})", step


def _deciding(step: Step) -> str:
    if step.decision == runtime.route.__name__:
        return "data-dependent routing; a `gate` runs all branches and has no graph break"
    if step.decision == runtime.top_experts.__name__:
        return "data-dependent routing; a `gate` without `top` runs all experts and has no graph break"
    return "data-dependent iterations; `times` without a condition has no graph break"


def _path_of(view: Graph, stack: Any) -> tuple[str, Place | None]:
    """The path and place of the innermost step in a stack of frames; empty if the stack starts inside of a module."""
    program, path, place = view._program, None, None
    for frame in stack:
        if frame.filename == program.file and frame.lineno in program.lines:
            local, place = program.lines[frame.lineno]
            path = join(_mounted(view, program.owners[frame.lineno]) if path is None else path, local)
    return path or "", place


def _mounted(view: Graph, name: str) -> str:
    """The path of the first module of the generated class `name`."""
    found: str = next(path for path, module in view.named_modules() if type(module).__name__ == name)
    return found


def _sizes(job: Job) -> Iterator[str]:
    """A line on recompilation for batches of different sizes."""
    section, trainer = job.config.training.data, job.config.training.trainer
    rest = 0 if section.drop_last else len(job.train) % section.batch_size
    batches = [rows for rows in (min(section.batch_size, len(job.train)), rest) if rows]
    sizes = {len(part): None for rows in batches for part in in_parts(torch.arange(rows), trainer.accumulate)}
    if len(sizes) > 1:
        listed = ", ".join(str(size) for size in sizes)
        advice = "`data.drop_last: true` drops the last one" if rest else "`accumulate` does not divide them evenly"
        yield f"batches of {listed} rows: each size is compiled separately; {advice}"


@contextmanager
def _quiet() -> Iterator[None]:
    """A block without torch's warnings, and without its log of graph breaks unless `TORCH_LOGS` is set."""
    logger = logging.getLogger("torch._dynamo")
    before = logger.level
    if "TORCH_LOGS" not in os.environ:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
