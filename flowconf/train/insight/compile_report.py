"""What torch compiles of the graph for `trainer.compile`, and where it has to come back to Python in between.

A break is reported once, before the first step, by the path of the step that makes it. The graph is traced for that on
a few rows, as it is going to be for the first step, and left as it was.
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
from flowconf.language.plan import Step, join
from flowconf.report import Place, shown_path
from flowconf.train.compiling import WITHOUT_CUDA_GRAPHS
from flowconf.train.data.splits import in_parts
from flowconf.train.job import Job
from flowconf.train.seeds import undisturbed


def report(job: Job) -> list[str]:
    """Lines that say in how many pieces the graph is compiled, what comes in between, and what is compiled again."""
    pieces, breaks = _explained(job)
    between = ", with Python in between at" if breaks else ""
    notes = [*breaks, *_sizes(job)]
    trainer = job.config.training.trainer
    if trainer.compile in WITHOUT_CUDA_GRAPHS and job.adds_up:
        why = "gradients add up over the parts of a batch" if trainer.accumulate > 1 else "the graph keeps values"
        notes.append(f"without CUDA graphs: {why}")
    first = f"compiled   in {pieces} piece{'' if pieces == 1 else 's'}{between}"
    return [first, *(f"           {note}" for note in notes)]


def _explained(job: Job) -> tuple[int, list[str]]:
    """The pieces that the graph is compiled in, and what comes in between them, each once."""
    view = graph_of(job.active.view)
    batch = job.train.batch(torch.arange(min(2, len(job.train)), device=job.train.home), 0)
    buffers = {name: buffer.clone() for name, buffer in job.graph.named_buffers()}
    job.graph.train()
    with undisturbed(job.device), job.precision.forward(), _quiet():
        found = torch._dynamo.explain(view)(**{name: batch[name] for name in job.inputs})
    with torch.no_grad():
        for name, buffer in job.graph.named_buffers():
            buffer.copy_(buffers[name])
    job.graph.reset_state()
    breaks: dict[str, str] = {}
    known: set[tuple[str, int]] = set()
    for reason in found.break_reasons:
        last = reason.user_stack[-1]
        if last.filename == runtime.__file__:
            breaks |= {path: _deciding(step) for path, step in _steps(view, last.name)}
            continue
        path, place = _path_of(view, reason.user_stack)
        if path or (last.filename, last.lineno) not in known:  # what goes on after a break has lost the outer frames
            told = reason.reason.partition("\n")[0].rstrip(".")
            breaks[f"`{path}`{f' ({place})' if place else ''}"] = f"{told} ({shown_path(last.filename)}:{last.lineno})"
        known.add((last.filename, last.lineno))
    return found.graph_count, [f"{where}: {why}" for where, why in breaks.items()]


def graph_of(view: Any) -> Graph:
    """The view itself, inside of what compiles it and of what a team puts around it."""
    inside = getattr(view, "_orig_mod", view)
    found = getattr(inside, "module", inside)
    assert isinstance(found, Graph)
    return found


def _steps(view: Graph, function: str) -> Iterator[tuple[str, Step]]:
    """The steps of a view that call a function of the runtime to decide what runs."""
    runs = {line.place for part in view._program.program.classes for line in part.lines[part.forward :]}
    for path, step in view.plan.deciding():
        if step.place in runs and (step.decision == runtime.halts.__name__) == (function == runtime.halts.__name__):
            yield f"`{path}` ({step.place})", step


def _deciding(step: Step) -> str:
    if step.decision == runtime.route.__name__:
        return "it sends rows where their values say; a `gate` runs all branches and compiles whole"
    return "its values say how often it runs; `times` without a condition compiles whole"


def _path_of(view: Graph, stack: Any) -> tuple[str, Place | None]:
    """The path that a stack of frames comes through, and its place; empty when it begins inside of a module."""
    program, path, place = view._program, None, None
    for frame in stack:
        if frame.filename == program.file and frame.lineno in program.lines:
            local, place = program.lines[frame.lineno]
            path = join(_mounted(view, program.owners[frame.lineno]) if path is None else path, local)
    return path or "", place


def _mounted(view: Graph, name: str) -> str:
    """Where a graph of the generated class `name` stands first."""
    found: str = next(path for path, module in view.named_modules() if type(module).__name__ == name)
    return found


def _sizes(job: Job) -> Iterator[str]:
    """What is said of batches of several sizes."""
    section, trainer = job.config.training.data, job.config.training.trainer
    rest = 0 if section.drop_last else len(job.train) % section.batch_size
    batches = [rows for rows in (min(section.batch_size, len(job.train)), rest) if rows]
    sizes = {len(part): None for rows in batches for part in in_parts(torch.arange(rows), trainer.accumulate)}
    if len(sizes) > 1:
        listed = ", ".join(str(size) for size in sizes)
        advice = "`data.drop_last: true` leaves the last one out" if rest else "`accumulate` divides no batch evenly"
        yield f"batches of {listed} rows: another size is compiled again; {advice}"


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which torch tells of no breaks by itself, unless `TORCH_LOGS` asks for it, and does not warn."""
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
