"""`trainer.find_nan`: finds the first operation that produces a NaN or infinite value.

Every operation of a step is checked, forward and backward. This is many times slower than the step, but does not change
its results: a run resumed from its checkpoint with this setting fails at the same step, and reports the cause.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowconf.graph.tracing import Trail
from flowconf.report import NOWHERE, Diagnostic, RunError, dtype_name
from flowconf.train.insight.measures import OUTSIDE
from flowconf.train.insight.spoiled_rows import in_step
from flowconf.train.insight.visited_steps import watched
from flowconf.train.job import Job, Take

UNFILLED = ("empty", "new_empty")
"""Operations whose results are uninitialized."""


def searching(take: Take) -> Take:
    """Wrap `take` so that it raises `RunError` (FC0702) after a step whose loss or gradient is not finite."""

    begun = False

    def step_of(job: Job, rows: Tensor, step: int) -> list[Tensor]:
        nonlocal begun
        if not begun:
            _refuse_weights(job, f"before step {step + 1:,}", "start from different weights")
        begun = True
        with watched(job, lambda path: nullcontext()) as trail, _Looking(trail) as looking:
            losses = take(job, rows, step)
        _refuse_losses(job, step, losses, looking)
        _refuse_weights(
            job, f"after step {step + 1:,}", "lower `optimizer.lr`, or clip the gradient with `trainer.clip`"
        )
        return losses

    return step_of


@dataclass(frozen=True)
class Origin:
    """An operation whose result is not finite: its path, name and inputs."""

    path: str
    backward: bool
    operation: str
    given: str

    def __str__(self) -> str:
        place = f"the {self.path.removeprefix(OUTSIDE)}" if self.path.startswith(OUTSIDE) else f"`{self.path}`"
        return f"{place}{' in the backward pass' if self.backward else ''}, in `{self.operation}` of {self.given}"


class _Looking(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Checks the result of every operation, until one is NaN."""

    def __init__(self, trail: Trail) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trail = trail
        self.infinite: Origin | None = None
        """The first operation with an infinite result and finite inputs."""
        self.undefined: Origin | None = None
        """The first operation with a NaN in its result."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        if self.undefined is None and not name.startswith(UNFILLED):
            worst = max((_kind(tensor) for tensor in tree_leaves(found)), default=0)
            if worst == 2:
                self.undefined = self._origin(name, args, kwargs)
            elif worst == 1 and self.infinite is None and not any(map(_kind, tree_leaves((args, kwargs)))):
                self.infinite = self._origin(name, args, kwargs)
        return found

    def _origin(self, name: str, args: Any, kwargs: Any) -> Origin:
        given = [_ranged(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        backward: Any = torch._C._current_autograd_node()
        return Origin(self.trail.here(), backward is not None, name, ", ".join(given) or "nothing")


def _kind(value: Any) -> int:
    """0 if all values are finite, 1 if any is infinite, 2 if any is NaN."""
    if isinstance(value, float):
        return 2 if math.isnan(value) else int(math.isinf(value))
    if hasattr(value, "to_local"):  # the local shard of a sharded tensor
        value = value.to_local()
    if not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.isfinite().all()):
        return 0
    return 2 if bool(value.isnan().any()) else 1


def _ranged(tensor: Tensor) -> str:
    """The shape, dtype and value range of a tensor."""
    tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    text = f"{list(tensor.shape)} {dtype_name(tensor.dtype)}"
    if not tensor.is_floating_point() or not tensor.numel():
        return text
    finite = tensor[tensor.isfinite()]
    within = f" from {finite.min().item():.4g} to {finite.max().item():.4g}" if finite.numel() else ""
    wrong = tensor.numel() - finite.numel()
    return f"{text}{within}" + (f" ({wrong} of {tensor.numel()} not finite)" if wrong else "")


def _refuse_weights(job: Job, when: str, advice: str) -> None:
    """Raise `RunError` for a weight that is not finite."""
    for name, parameter in job.graph.named_parameters():
        if _kind(parameter):
            raise RunError(_diagnostic(job, f"`{name}` is not finite {when}", name, advice))


def _refuse_losses(job: Job, step: int, losses: list[Tensor], looking: _Looking) -> None:
    """Raise `RunError` for a loss or a gradient that is not finite, with the operation that caused it."""
    names = ["train/loss", *(f"train/loss/{term.name}" for term in job.active.terms)]
    wrong = [f"`{name}`" for name, loss in zip(names, losses, strict=True) if _kind(loss)][-1:]
    if not wrong and job.precision.scaler is None:  # with a scaler, such gradients are expected
        gradients = ((name, parameter.grad) for name, parameter in job.graph.named_parameters())
        wrong = [f"the gradient of `{name}`" for name, gradient in gradients if _kind(gradient)][:1]
    if not wrong:
        return
    if causes := in_step(job, step):
        raise RunError(*causes)
    found = {"infinite value": looking.infinite, "NaN": looking.undefined}
    origins = {kind: origin for kind, origin in found.items() if origin is not None}
    sources = "; ".join(f"the first {kind} comes from {origin}" for kind, origin in origins.items())
    path = [origin.path for origin in origins.values()][-1] if origins else ""
    raise RunError(_diagnostic(job, f"{wrong[0]} is not finite in step {step + 1:,}: {sources}", path, None))


def _diagnostic(job: Job, message: str, path: str, advice: str | None) -> Diagnostic:
    step = None if path.startswith(OUTSIDE) else job.config.model.step_at(path)
    place = step.place if step is not None else NOWHERE
    return Diagnostic("FC0702", message, place, path.removeprefix(OUTSIDE), advice=advice)
