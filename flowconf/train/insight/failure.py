"""Notes on an exception that ends a run: what the run was doing. Costs nothing until then."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from types import FrameType
from typing import Any

from torch import Tensor

from flowconf.graph.failed_step import MARK, NOTE, shown
from flowconf.graph.gradients import nodes
from flowconf.graph.tracing import Trail
from flowconf.report import Diagnostic, FlowconfError, RunError
from flowconf.train import loop
from flowconf.train.checks.terms import problems_of
from flowconf.train.data.feed import Feed
from flowconf.train.data.run_data import placed
from flowconf.train.header import memory
from flowconf.train.insight.measures import OUTSIDE
from flowconf.train.insight.visited_steps import replaced, watched
from flowconf.train.job import Job
from flowconf.train.objective import routing, terms
from flowconf.train.out_of_memory import is_out_of_memory
from flowconf.train.precision import Precision

DOING = {
    Feed.batch.__code__: "loading the batch",
    Job.values.__code__: "in the forward pass",
    routing.Routes.backward.__code__: "in the backward pass",
    Precision.step.__code__: "in the optimizer step",
}
"""The part of a training step in which these functions run."""
IN_THE_GRAPH = ("in the forward pass", "in the backward pass")
MEASURING = (terms.means_of.__code__, terms.Term.sums.__code__, terms.Average.update.__code__)
"""The functions that compute losses and metrics."""
COMPUTING = (loop.gradients.__code__, loop.wholes_of_graph.__code__, loop.evaluate.__code__)
"""Those that call them, with the values of the graph and the batch."""
KNOWING = (loop.gradients.__code__, loop.evaluate.__code__, loop.one_step.__code__)
"""Those that know the rows and the step, the ones that know most first."""


def add_notes(problem: BaseException, job: Job) -> None:
    """Add notes to an exception that ends a run: the training step, the part of it, and the batch.

    If the run is out of memory, also its memory use and how to reduce it.
    """
    if isinstance(problem, FlowconfError):
        problem.diagnostics = tuple(placed(problem.diagnostics, job.config))
    with suppress(Exception):  # an error while adding notes must not hide the exception itself
        frames = list(_frames(problem))
        at = next((frame for code in KNOWING for frame in frames if frame.f_code is code), None)
        if at is None:
            return
        trains = at.f_code is not loop.evaluate.__code__
        doing = next((DOING[frame.f_code] for frame in frames if frame.f_code in DOING), None)
        known = at.f_locals
        if doing in IN_THE_GRAPH and trains and "batch" in known and _says_no_place(problem, job):
            note = _place_of_failure(job, problem, known["batch"], known["some"], known["step"])
            if note is not None:
                problem.add_note(note)
        problem.add_note(_where(job, at.f_locals, trains, doing))
        if is_out_of_memory(problem):
            problem.add_note(_what_takes_less(job, trains))


def _says_no_place(problem: BaseException, job: Job) -> bool:
    """Whether the failed step of the graph can only be found by rerunning the training step."""
    hidden = isinstance(problem, Exception) and not hasattr(problem, MARK)
    return hidden and job.team.size == 1 and not is_out_of_memory(problem)


def explain(problem: BaseException, job: Job) -> None:
    """Raise `RunError` instead of the exception of a loss or metric, if the problem in the batch can be identified."""
    found: list[Diagnostic] = []
    with suppress(Exception):  # a failed device raises for every operation
        frames = list(_frames(problem))
        at = next((frame for frame in reversed(frames) if frame.f_code in COMPUTING), None)
        if at is not None and any(frame.f_code in MEASURING for frame in frames):
            found = problems_of(job.config, job.terms, job.metrics, at.f_locals["values"], at.f_locals["batch"])
    if found:
        error = RunError(*found)
        for note in getattr(problem, "__notes__", ()):
            error.add_note(note)
        raise error from problem


def _where(job: Job, variables: dict[str, Any], trains: bool, doing: str | None) -> str:
    batch = variables.get("batch")
    given = f" of {shown(dict(batch))}" if batch else ""
    process = f", process {job.team.rank}" if job.team.size > 1 else ""
    phase = f" (phase `{job.active.phase}`)" if job.active.phase else ""
    if not trains:
        return f"in the evaluation of `{variables['split']}`{process}, on a batch{given}"
    step = f"in training step {variables['step'] + 1:,} of {job.total_steps:,}{phase}{process}"
    return f"{step}{f', {doing}' if doing else ''}{f', on a batch{given}' if given else ''}"


def _what_takes_less(job: Job, trains: bool) -> str:
    data, trainer = job.config.training.data, job.config.training.trainer
    if not trains:
        return f"out of memory: set `data.evaluation_batch_size` below {data.rows_of_evaluations}"
    less = [f"`data.batch_size` below {data.batch_size}", f"`trainer.accumulate={trainer.accumulate * 2}`"]
    if trainer.precision in ("fp32", "tf32") and job.device.type == "cuda":
        less.append("`trainer.precision=bf16`")
    return f"out of memory ({memory(job)}): set {' or '.join(less)}"


def _frames(problem: BaseException) -> Iterator[FrameType]:
    return (frame for frame, _ in traceback.walk_tb(problem.__traceback__))


# the failed step of the graph


class _Done(Exception):
    """The backward pass did not fail again."""


def _place_of_failure(job: Job, problem: BaseException, batch: Any, rows: Tensor, step: int) -> str | None:
    """The step of the graph that raised `problem`, as a note; None if it is not raised again.

    The training step is run again, uncompiled, with the same batch and without updating the weights: torch runs the
    backward pass by itself, and compiled graphs have no lines of steps. `batch` has the `rows` that it was raised on.
    Single process only: other processes would not take part in the rerun.
    """
    begun: list[int] = []
    with ExitStack() as block:
        block.enter_context(replaced(job.train, "batch", lambda *which: batch))
        trail = block.enter_context(watched(job, lambda path: nullcontext()))
        block.enter_context(_noting(job, begun))
        try:
            loop.one_step(job, rows, step)
        except _Done:
            return None
        except Exception as again:  # noqa: BLE001 - any type, as the first time
            return _note_of(again, trail, begun, job) if type(again) is type(problem) else None
    return None


def _note_of(again: Exception, trail: Trail, begun: Sequence[int], job: Job) -> str | None:
    """The note of the exception raised again, or else the operation whose backward was running."""
    if hasattr(again, MARK):
        return next((note for note in getattr(again, "__notes__", ()) if note.startswith(NOTE)), None)
    path = trail.of_node(begun[-1]) if begun else ""
    if not path:
        return None
    step = None if path.startswith(OUTSIDE) else job.config.model.step_at(path)
    where = f" ({step.place})" if step is not None else ""
    return f"in the backward pass of `{path.removeprefix(OUTSIDE)}`{where}"


@contextmanager
def _noting(job: Job, begun: list[int]) -> Iterator[None]:
    """Within the block, the sequence number of each autograd node is added to `begun` when its backward starts."""
    taken_back = job.active.routes.backward

    def backward(parts: Sequence[Tensor], scaled: Callable[[Tensor], Tensor]) -> None:
        for node in nodes(parts):
            node.register_prehook(partial(_note, begun, node._sequence_nr()))
        taken_back(parts, scaled)
        raise _Done

    with replaced(job.active.routes, "backward", backward):
        yield


def _note(begun: list[int], number: int, gradients: Any) -> None:
    begun.append(number)
