"""Norms and shares of zeros of gradients, weights, updates and activations, by path: `trainer.statistics`.

They are computed on the device, in the steps in which they are due, and read from it once at the end of such a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from flowconf.graph.sharded import held
from flowconf.language.training import listed
from flowconf.train.callbacks.watcher import Watcher
from flowconf.train.job import Job
from flowconf.train.runs.folder import Run
from flowconf.train.team.shares import Idle

Measured = dict[str, dict[str, dict[str, float]]]
"""Kind -> path -> `norm` and `zeros`."""
ACTIVATION = "activation"
MOST_PATHS = 500
"""How many are in one line of the log: readers of logs do not read lines of any length."""


class Statistics(Watcher):
    """Computes and logs what `trainer.statistics` asks for.

    Gradients are those before they are clipped; an update is what the optimizers add to a parameter in a step.
    Activations are computed once more, in evaluation mode, with the weights after the step. The norm of an activation
    is the root of the mean of the squared norms of its rows, so that it does not depend on the size of the batch.
    """

    def __init__(self, job: Job) -> None:
        section = job.config.training.trainer.statistics
        assert section is not None
        self._job = job
        self._every, self._kinds = job.length.steps_before(section.every), listed(section.of)
        self._parameters, self._members = _chosen(job, listed(section.at))
        self._before: dict[str, Tensor] = {}
        self._sums: dict[str, dict[str, Tensor]] = {}
        """Kind -> path -> the squared norm, the number of zeros, and the number of elements."""

    def begin(self, run: Run, where: Callable[[int], dict[str, object]]) -> None:
        self._run, self._where = run, where

    def reads(self, step: int) -> bool:
        return ACTIVATION in self._kinds and self._is_due(step)

    @torch.no_grad()
    def gradients(self, step: int) -> None:
        if not self._is_due(step):
            return
        self._sums = {}
        if "gradient" in self._kinds:
            scale = self._job.precision.scale
            given = {name: one.grad for name, one in self._parameters.items() if one.grad is not None}
            self._note("gradient", {name: one if scale is None else one / scale for name, one in given.items()})
        if "update" in self._kinds:
            moving = {*self._job.active.trained}
            self._before = {name: held(one).clone() for name, one in self._parameters.items() if one in moving}

    @torch.no_grad()
    def updated(self, step: int) -> None:
        if not self._is_due(step):
            return
        if "weight" in self._kinds:
            self._note("weight", self._parameters)
        if "update" in self._kinds:
            self._note("update", {name: held(self._parameters[name]) - was for name, was in self._before.items()})
            self._before = {}

    def step(self, step: int) -> None:
        if not self._is_due(step):
            return
        rows = self._note_activations() if ACTIVATION in self._kinds else None
        for kind, paths in self._read(rows).items():
            for part in _divided(paths):
                self._run.log_statistics(step, {kind: part}, **self._where(step))

    def _is_due(self, step: int) -> bool:
        return step % self._every == 0

    def _note(self, kind: str, tensors: Mapping[str, Tensor]) -> None:
        self._sums[kind] = {name: _sums_of(held(tensor)) for name, tensor in tensors.items()}

    @torch.no_grad()
    def _note_activations(self) -> Tensor:
        """Note what the modules give for the batch of the step; returns its number of rows in this process."""
        job, rows = self._job, 0
        found = {name: _sums_of(torch.zeros(0, device=job.device)) for name in self._members.values()}
        with job.evaluating():
            for batch in job.train.seen or ():
                size = len(next(iter(batch.values())))
                job.memory.begin(size)
                if isinstance(batch, Idle):
                    job.values(job.evaluation_view, batch)
                    continue
                rows += size
                with self._hooked(found):
                    job.values(job.evaluation_view, batch)
        self._sums[ACTIVATION] = found
        return torch.tensor([float(rows), 0.0, 0.0], device=job.device, dtype=_exact(job.device))

    @contextmanager
    def _hooked(self, found: dict[str, Tensor]) -> Iterator[None]:
        """A block in which everything that the modules give is added to `found`."""

        def add(name: str, module: nn.Module, given: Any, output: Any) -> None:
            for tensor in tree_leaves(output):
                if isinstance(tensor, Tensor) and (tensor.is_floating_point() or tensor.is_complex()):
                    found[name] = found[name] + _sums_of(tensor)

        with ExitStack() as hooks:
            for module, name in self._members.items():
                hooks.enter_context(module.register_forward_hook(partial(add, name)))
            yield

    def _read(self, rows: Tensor | None) -> Measured:
        """The recorded values, as numbers; those of the whole batch, if there are several processes."""
        team = self._job.team
        tables = []
        for kind, sums in self._sums.items():
            last = [rows] if kind == ACTIVATION and rows is not None else []
            table = torch.stack([*sums.values(), *last]) if sums or last else torch.zeros(0, 3, device=team.device)
            tables.append(team.add_up(table) if kind == ACTIVATION or team.whole is not None else table)
        numbers = iter(torch.cat([table.reshape(-1) for table in tables]).view(-1, 3).tolist())
        found: Measured = {}
        for kind, sums in self._sums.items():
            lines = {name: next(numbers) for name in sums}
            share = next(numbers)[0] if kind == ACTIVATION else 1.0
            found[kind] = {
                name: {"norm": _rounded((squares / share) ** 0.5), "zeros": _rounded(zeros / count)}
                for name, (squares, zeros, count) in lines.items()
                if count
            }
        self._sums = {}
        return found


def _chosen(job: Job, selectors: tuple[str, ...]) -> tuple[dict[str, nn.Parameter], dict[nn.Module, str]]:
    """The parameters and modules that are meant, with their names. Raises `PathError`."""
    parameters: set[nn.Parameter] = set()
    modules: set[nn.Module] = set()
    for text in selectors or ("",):
        wholes, some = job.graph.parts_at(text)
        parameters |= {*some, *(parameter for whole in wholes for parameter in whole.parameters())}
        modules |= {module for whole in wholes for module in whole.modules()}
    named = {name: one for name, one in job.graph.named_parameters() if one in parameters}
    return named, {one: name for name, one in job.graph.named_modules() if one in modules and name}


def _sums_of(tensor: Tensor) -> Tensor:
    """The squared norm of a tensor, the number of its zeros, and of its elements."""
    exact = _exact(tensor.device)
    zeros = tensor.numel() - torch.count_nonzero(tensor)
    norm = torch.linalg.vector_norm(tensor.to(exact) if tensor.is_floating_point() else tensor)
    return torch.stack([norm.to(exact).square(), zeros.to(exact), torch.full_like(zeros, tensor.numel(), dtype=exact)])


def _exact(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _rounded(value: float) -> float:
    """Six digits, so that the log stays small."""
    return float(f"{value:.6g}")


def _divided(paths: dict[str, dict[str, float]]) -> Iterator[dict[str, dict[str, float]]]:
    """Paths as many at a time as fit into a line."""
    items = list(paths.items())
    for first in range(0, len(items), MOST_PATHS):
        yield dict(items[first : first + MOST_PATHS])
