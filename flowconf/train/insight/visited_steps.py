"""Observed training steps, which report the path of the graph, or the part outside of it, that is running.

Within `watched` the results of a step are unchanged, to the bit; all instrumentation is removed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from flowconf.graph import views
from flowconf.graph.tracing import OnVisit, Trail
from flowconf.train.insight.measures import OUTSIDE
from flowconf.train.job import Job
from flowconf.train.team.sharded_view import ShardedView

WRAPPERS = ((DistributedDataParallel, "module"), (ShardedView, "view"))
"""The modules that wrap a view in a team, and the attribute with the view."""


@contextmanager
def watched(job: Job, visit: OnVisit) -> Iterator[Trail]:
    """Within the block, `visit` is called for every path of a step, and every part outside of the graph.

    A compiled graph runs uncompiled, because compiled code cannot be attributed to paths.
    """
    active = job.active
    view: Any = getattr(active.view, "_orig_mod", active.view)
    holds = next((name for kind, name in WRAPPERS if isinstance(view, kind)), None)
    traced = views.traced(view if holds is None else getattr(view, holds))
    trail = Trail(traced, visit)
    with ExitStack() as block:
        block.enter_context(trail.followed())
        if holds is not None:
            block.enter_context(replaced(view, holds, traced))
        terms = [replace(term, function=_aside(trail, f"loss.{term.name}", term.function)) for term in active.terms]
        job.active = replace(active, view=traced if holds is None else view, terms=terms)
        block.callback(setattr, job, "active", active)
        for name, owner, method in (
            ("data", job.train, "batch"),
            ("backward", active.routes, "backward"),
            *(("optimizer", optimizer, "zero_grad") for optimizer in (*job.optimizers, *job.repeating)),
            ("optimizer", job.precision, "step"),
            ("averages", job.averages, "update"),
        ):
            block.enter_context(replaced(owner, method, _aside(trail, name, getattr(owner, method))))
        yield trail


def _aside(trail: Trail, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def visited(*args: Any, **kwargs: Any) -> Any:
        with trail.aside(OUTSIDE + name):
            return call(*args, **kwargs)

    return visited


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within the block, the attribute `name` of `owner` is `value`."""
    before = owner.__dict__.get(name, owner._modules.get(name) if isinstance(owner, nn.Module) else None)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
