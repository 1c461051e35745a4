"""Reruns a failed training step to find the step of the graph that raised the exception.

This is needed for the backward pass, which torch runs by itself, and for compiled graphs. The rerun is uncompiled, uses
the same batch and does not update the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor

from flowconf.graph.failed_step import MARK, NOTE
from flowconf.graph.gradients import nodes
from flowconf.graph.tracing import Trail
from flowconf.train import loop
from flowconf.train.insight.measures import OUTSIDE
from flowconf.train.insight.visited_steps import replaced, watched
from flowconf.train.job import Job


class _Done(Exception):
    """The backward pass did not fail again."""


def place_of_failure(job: Job, problem: BaseException, batch: Any, rows: Tensor, step: int) -> str | None:
    """The step of the graph that raised `problem`, as a note; None if it is not raised again.

    `batch` has the `rows` that it was raised on. Single process only: other processes would not take part in the rerun.
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
