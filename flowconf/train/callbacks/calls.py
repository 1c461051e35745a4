"""The callbacks of a run: when they are called, what they get, and what of them is saved.

Their methods are called in rank 0 only, with the values of the whole batch; all processes compute these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowconf.language import references, registry
from flowconf.language.config import Config
from flowconf.language.training import CallbackSection, listed
from flowconf.report import ConfigError, Diagnostic, Place, RunError, raised_here
from flowconf.train.callbacks.watched_run import WatchedRun
from flowconf.train.callbacks.watcher import Saved, Watcher
from flowconf.train.checks.callbacks import problems_of
from flowconf.train.job import Job
from flowconf.train.objective.terms import Operand, sources
from flowconf.train.optim.state import SAVEABLE, packed, unpacked
from flowconf.train.runs.folder import Run
from flowconf.train.seeds import all_undisturbed
from flowconf.train.team.shares import Idle

OWN = "callback/"
"""The beginning of the names of tensors that callbacks save."""


@dataclass
class Watching:
    """A callback, as far as this process knows it."""

    name: str
    section: CallbackSection
    every: int
    """The steps between its calls."""
    place: Place
    seer: Any
    """The object of the project; None in other processes than rank 0."""
    operands: Sequence[Operand]
    """The value that it reads."""
    view: Callable[..., dict[str, Tensor]] | None
    """Computes those that are values of the graph; None if there are none."""
    run: WatchedRun | None = field(default=None, repr=False)

    def is_due(self, step: int) -> bool:
        return step % self.every == 0

    @property
    def reads_batches(self) -> bool:
        """Whether it reads something of the batches of training."""
        return bool(self.operands) and self.section.split == "train"


class Callbacks(Watcher):
    """The callbacks of a run."""

    def __init__(self, job: Job, seers: Mapping[str, Any]) -> None:
        """`seers` are the objects by name, in rank 0."""
        self._job = job
        self._all = [_watching(job, name, seers.get(name)) for name in job.config.training.callbacks]
        self._parameters = list(job.graph.named_parameters())

    def begin(self, run: Run, where: Callable[[int], dict[str, object]]) -> None:
        for one in self._all:
            one.run = WatchedRun(self._job, run, one.name, where)

    def start(self, step: int) -> None:
        for one in self._all:
            self._call(one, "start", step)

    def reads(self, step: int) -> bool:
        return any(one.reads_batches and one.is_due(step) for one in self._all)

    def step(self, step: int) -> None:
        for one in self._all:
            if one.is_due(step):
                self._call(one, "step", step)
                if one.operands:
                    self._call(one, "values", step, self._values(one))

    def evaluated(self, step: int, found: Mapping[str, float]) -> None:
        for one in self._all:
            self._call(one, "evaluated", step, dict(found))

    def end(self, step: int) -> None:
        for one in self._all:
            self._call(one, "end", step)

    def state(self) -> Saved:
        found: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for one in self._all:
            if hasattr(one.seer, "state_dict"):
                state, own = self._guarded(one, "state_dict"), dict[str, Tensor]()
                try:
                    found[one.name] = packed(state, "state_dict()", own)
                except TypeError as problem:
                    message = f"the state of the callback `{one.name}` cannot be saved: {problem}"
                    path = f"callbacks.{one.name}"
                    raise RunError(Diagnostic("FC0702", message, one.place, path, advice=SAVEABLE)) from None
                tensors |= {f"{OWN}{one.name}/{key}": tensor for key, tensor in own.items()}
        return found, tensors

    def restore(self, saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
        notes = []
        for one in self._all:
            if hasattr(one.seer, "load_state_dict"):
                if one.name in saved:
                    mine = f"{OWN}{one.name}/"
                    own = {name.removeprefix(mine): value for name, value in tensors.items() if name.startswith(mine)}
                    self._guarded(one, "load_state_dict", unpacked(saved[one.name], own))
                else:
                    notes.append(f"the callback `{one.name}` starts fresh: the checkpoint has no state of it")
        return notes

    def _call(self, one: Watching, method: str, step: int, *given: Any) -> None:
        if hasattr(one.seer, method):
            assert one.run is not None
            one.run.step = step
            self._guarded(one, method, one.run, *given)

    def _guarded(self, one: Watching, method: str, *given: Any) -> Any:
        try:
            with self._without_effect(one), self._job.evaluating(), torch.no_grad():
                return getattr(one.seer, method)(*given)
        except (Exception, SystemExit) as problem:
            problem.add_note(f"in `{method}` of the callback `{one.name}`")
            raise

    @contextmanager
    def _without_effect(self, one: Watching) -> Iterator[None]:
        """A block of a callback. Raises `RunError` if it changes a parameter, a buffer or a gradient."""
        learning = [parameter.requires_grad for _, parameter in self._parameters]
        gradients = [(f"{path}.grad", parameter.grad) for path, parameter in self._parameters]
        given = [(path, gradient) for path, gradient in gradients if gradient is not None]
        before = [
            (path, tensor, tensor._version)
            for path, tensor in (*self._parameters, *self._job.graph.named_buffers(), *given)
        ]
        try:
            yield
        finally:
            for (_, parameter), learns, (_, gradient) in zip(self._parameters, learning, gradients, strict=True):
                if parameter.requires_grad is not learns:
                    parameter.requires_grad_(learns)
                if parameter.grad is not gradient:
                    parameter.grad = gradient
        changed = next((path for path, tensor, version in before if tensor._version != version), None)
        if changed is not None:
            message = f"the callback `{one.name}` has changed `{changed}`, and callbacks must not change training"
            path, advice = f"callbacks.{one.name}", "change a copy: `clone()`"
            raise RunError(Diagnostic("FC0702", message, one.place, path, advice=advice))

    def _values(self, one: Watching) -> dict[str, Any]:
        """The values that a callback reads, on the CPU, of all rows."""
        job = self._job
        batches: Sequence[Mapping[str, Tensor]] = job.train.seen or ()
        if one.section.split == "val":
            batches = [job.held_out["val"].first_rows(job.config.training.data.batch_size)]
        parts: list[dict[str, Any]] = []
        with job.evaluating(), torch.no_grad():
            for batch in batches:
                job.memory.begin(len(next(iter(batch.values()))))
                values = {} if one.view is None else job.values(one.view, batch)
                if not isinstance(batch, Idle):
                    parts.append({operand.name: _on_cpu(operand.read(values, batch)) for operand in one.operands})
        if one.reads_batches:
            parts = [part for own in job.team.gather(parts) for part in own]
        return {operand.name: _joined([part[operand.name] for part in parts]) for operand in one.operands}


def made(config: Config, device: torch.device) -> dict[str, Any]:
    """The callbacks of a config by name. Raises `ConfigError` if one cannot be made."""
    found = {}
    origins = config.origins
    for name, section in config.training.callbacks.items():
        place, path = origins.value(("callbacks", name, "name")), f"callbacks.{name}"
        try:
            with all_undisturbed(device):
                found[name] = registry.callbacks.load(section.name)(**section.args)
        except Exception as problem:  # a callback of a project may raise anything
            message = f"the callback `{name}` cannot be made: {type(problem).__name__}: {problem}"
            raise ConfigError(Diagnostic("FC0123", message, place, path, raised_here(problem))) from problem
        problems = problems_of(found[name], name, section, origins)
        if problems:
            raise ConfigError(*problems)
    return found


def _watching(job: Job, name: str, seer: Any) -> Watching:
    section, model = job.config.training.callbacks[name], job.config.model
    fields = job.train.split.fields
    operands = sources(listed(section.read), fields, partial(references.names_value, model))
    inside = [operand.name for operand in operands if not operand.in_batch]
    place = job.config.origins.value(("callbacks", name, "name"))
    view = job.team.through(job.graph.view(inside)) if inside else None
    return Watching(name, section, job.length.steps_before(section.every), place, seer, operands, view)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _on_cpu(one) for key, one in value.items()}
    return [_on_cpu(one) for one in value] if isinstance(value, list | tuple) else value


def _joined(parts: Sequence[Any]) -> Any:
    """The values of the parts of a batch as one, or as a list if they have different shapes."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, list):
        return [_joined(items) for items in zip(*parts, strict=True)]
    if first.ndim and all(part.shape[1:] == first.shape[1:] for part in parts):
        return torch.cat(list(parts))
    return list(parts)
