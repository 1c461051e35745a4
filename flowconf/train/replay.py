"""Replays whole training steps on a CUDA device: forward, backward, clipping, optimizer and averages.

A step is taken as usual until everything that it needs is set up, and then recorded, once for each size of a batch and
for each turn. A recording reads and writes the memory that it was recorded with: batches are copied into the tensors of
the first one, and numbers that change from step to step are kept in tensors. Nothing of Python runs in a replay, so a
step that depends on anything in Python is not replayed, and the run says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn, optim

from flowconf.language.paths import join
from flowconf.train.callbacks.watcher import Watcher
from flowconf.train.compiling import WITHOUT_CUDA_GRAPHS
from flowconf.train.cuda_recorder import CudaRecorder
from flowconf.train.data.collate import Batch
from flowconf.train.fingerprint import Fingerprint, fingerprint
from flowconf.train.job import Active, Job, Take
from flowconf.train.loop import gradients, one_step, update
from flowconf.train.seeds import all_undisturbed, random_state

WARM_UP = 3
"""Steps before one is recorded: optimizers make their state in the first two, and the last of them is watched."""
MOST = 8
"""Recordings: each keeps separate gradients."""


class Recorder(Protocol):
    """What records on a kind of device; `CudaRecorder` describes the methods."""

    def block(self) -> Any: ...

    def waits(self) -> Any: ...

    def record(self, function: Callable[[], object]) -> Callable[[], None]: ...


RECORDERS: dict[str, Callable[[torch.device], Recorder]] = {"cuda": CudaRecorder}
"""Kind of device -> its recorder."""


def obstacle(job: Job) -> str | None:
    """Why whole steps of a run are not replayed, as far as its config says; None: they may be."""
    trainer = job.config.training.trainer
    deciding = next((path for path, _ in job.graph.plan.deciding()), None)
    dropping = (path for path, one in job.graph.named_modules() if isinstance(one, nn.RNNBase) and one.dropout)
    keeping = next(dropping, None)
    kinds = [type(one).__name__ for one in job.optimizers if not all(group.get("fused") for group in one.param_groups)]
    reasons = {
        f"the run is on `{job.device.type}`": job.device.type not in RECORDERS,
        "several processes take part in each step": job.team.size > 1,
        "gradients are accumulated": trainer.accumulate > 1,
        "the graph has recurrent state": bool(job.memory.kept),
        f"cuDNN keeps the random state for the dropout of `{keeping}`": keeping is not None,
        "the optimizer computes the loss several times": bool(job.repeating),
        f"`{next(iter(kinds), '')}` runs without a fused kernel": bool(kinds),
        "`fp16` skips steps whose gradients overflow": job.precision.scaler is not None,
        f"`{deciding}` depends on values": deciding is not None,
        "`trainer.profile` measures the parts of steps": trainer.profile is not None,
        "`trainer.find_nan` checks each operation": trainer.find_nan,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def may_replay(job: Job) -> bool:
    """Whether whole steps of a run are replayed, unless a step turns out to depend on something in Python."""
    return job.config.training.trainer.compile in WITHOUT_CUDA_GRAPHS and obstacle(job) is None


@contextmanager
def replaying(job: Job, say: Callable[[str], None]) -> Iterator[Take]:
    """A block with what takes the steps of a run whose steps are replayed."""
    recorder = RECORDERS[job.device.type](job.device)
    with recorder.block():
        yield Replay(recorder, say).take


@dataclass
class Recording:
    """A recorded step."""

    batch: Batch
    """Where it reads the batch."""
    losses: Tensor
    """Where it leaves the loss and the terms of it."""
    gradients: list[tuple[nn.Parameter, Tensor | None]]
    """Where it leaves the gradients; None for those that it clears."""
    launch_gradients: Callable[[], None]
    launch_update: Callable[[], None]


@dataclass
class Kind:
    """Steps with batches of one size, in one turn."""

    taken: int = 0
    """How many were taken as usual."""
    recording: Recording | None = None


class Replay:
    """Takes the steps of a run, and replays them as soon as they are recorded."""

    def __init__(self, recorder: Recorder, say: Callable[[str], None]) -> None:
        self._recorder, self._say = recorder, say
        self._round: list[Active] = []
        self._kinds: dict[tuple[object, ...], Kind] = {}
        self._last: Recording | None = None
        """The one whose gradients the parameters have."""
        self._relied: dict[str, Fingerprint] = {}
        """The state in Python that the recordings rely on, and whose tensors they read."""
        self._evaluations = 0
        """The number of evaluations after which it was there."""

    def take(self, job: Job, rows: Tensor, step: int) -> list[Tensor]:
        """One step of the run, with the bits of `one_step`."""
        keep(job, step)
        if not job.replays:
            return one_step(job, rows, step)
        if self._round is not job.round:  # another phase
            self._forget(job)
        batch = job.train.batch(rows, step)
        sparse = next((name for name, tensor in batch.items() if not _is_dense(tensor)), None)
        if sparse is not None:
            self._stop(job, f"reads `{sparse}`, which is not dense", step)
            with job.train.giving(batch):
                return one_step(job, rows, step)
        batch = {name: _as_copied(tensor) for name, tensor in batch.items()}
        self._check(job)
        kind = self._kinds.setdefault((id(job.active), *map(_layout, batch.items())), Kind())
        if kind.recording is None and kind.taken == WARM_UP and len(self._recordings()) < MOST:
            kind.recording = self._recorded(job, batch, rows, step)
        if kind.recording is not None:
            return self._replayed(job, kind.recording, batch, step)
        kind.taken += 1
        with job.train.giving(batch):
            return self._watched(job, rows, step) if kind.taken == WARM_UP else self._usual(job, rows, step)

    def _check(self, job: Job) -> None:
        """Forget the recordings if a callback or an evaluation has changed what they rely on."""
        if self._evaluations != job.evaluations and self._recordings() and _changes(self._relied, state_in_python(job)):
            self._forget(job)
        self._evaluations = job.evaluations

    def _usual(self, job: Job, rows: Tensor, step: int) -> list[Tensor]:
        """A step that is not replayed. What it moves to other memory, recordings would not find."""
        self._last = None
        memory = memory_of(job) if self._recordings() else {}
        losses = one_step(job, rows, step)
        if memory and memory_of(job) != memory:
            self._forget(job)
        return losses

    def _watched(self, job: Job, rows: Tensor, step: int) -> list[Tensor]:
        """A step that is not replayed, to see whether the next ones may be."""
        before = state_in_python(job) | numbers_drawn(job)
        with self._recorder.waits() as found:
            losses = self._usual(job, rows, step)
        found += _changes(before, state_in_python(job) | numbers_drawn(job))
        if found:
            self._stop(job, found[0], step)
        return losses

    def _recorded(self, job: Job, batch: Batch, rows: Tensor, step: int) -> Recording | None:
        """The recording of a step, which is not taken; None if it cannot be recorded."""
        fixed = {name: tensor.clone() for name, tensor in batch.items()}
        losses: list[Tensor] = []
        record = self._recorder.record
        for optimizer in job.optimizers:
            optimizer.zero_grad()  # those of the recording are in memory of their own
        before, reason = state_in_python(job) | numbers_drawn(job), ""
        with all_undisturbed(torch.device("cpu")):  # the step is yet to be taken
            try:
                with job.train.giving(fixed), _capturable(job.active.optimizers):
                    launch_gradients = record(lambda: losses.append(torch.stack(gradients(job, rows, step))))
                    launch_update = record(lambda: update(job, rows, step, []))
            except Exception as problem:  # noqa: BLE001 - the step raises it again, unless it is due to recording
                cause, _, _ = str(problem).strip().partition("\n")
                reason = f"cannot be recorded: {cause}"
            reason = reason or next(iter(_changes(before, state_in_python(job) | numbers_drawn(job))), "")
        if reason:
            self._stop(job, reason, step)
            return None
        if not self._recordings():
            self._relied = before
        held = [(one, one.grad) for one in job.graph.parameters()]
        return Recording(fixed, losses[0], held, launch_gradients, launch_update)

    def _replayed(self, job: Job, recording: Recording, batch: Batch, step: int) -> list[Tensor]:
        for name, tensor in batch.items():
            recording.batch[name].copy_(tensor)
        if self._last is not recording:
            for parameter, gradient in recording.gradients:
                parameter.grad = gradient
            self._last = recording
        recording.launch_gradients()
        job.watchers.tell(Watcher.gradients, step + 1)
        recording.launch_update()
        job.watchers.tell(Watcher.updated, step + 1)
        return list(recording.losses.clone().unbind())

    def _recordings(self) -> list[Recording]:
        return [kind.recording for kind in self._kinds.values() if kind.recording is not None]

    def _forget(self, job: Job) -> None:
        """Take steps as usual until they are recorded again."""
        self._round, self._kinds, self._last, self._relied = job.round, {}, None, {}

    def _stop(self, job: Job, reason: str, step: int) -> None:
        """Replay only what is compiled from now on."""
        job.replays = False
        self._say(f"CUDA graphs of forward and backward alone: a step {reason}")
        job.enter(job.phases.current)
        job.take_turn(step)
        keep(job, step)
        self._forget(job)


def keep(job: Job, step: int) -> None:
    """Keep the numbers that change from step to step in tensors, with their values in a step."""
    job.learning_rate.keep(step, job.device)
    job.active.keep(step, job.length, job.device)
    job.averages.keep(step, job.device)
    job.followers.keep(step, job.length, job.device)


def tensors_of(job: Job) -> dict[str, Tensor]:
    """The tensors that outlast a step."""
    graph = {**dict(job.graph.named_parameters()), **dict(job.graph.named_buffers()), **job.averages.state()}
    states = {
        f"{key} of parameter {number} in {name}": value
        for name, optimizer in _optimizers(job).items()
        for number, state in enumerate(optimizer.state.values())
        for key, value in state.items()
        if isinstance(value, Tensor)
    }
    return {**graph, **states}


def memory_of(job: Job) -> dict[str, int]:
    """The addresses of all tensors that outlast a step."""
    return {name: tensor.data_ptr() for name, tensor in tensors_of(job).items()}


def state_in_python(job: Job) -> dict[str, Fingerprint]:
    """What a step may change that a replay would not: what it does -> the state."""
    found: dict[str, object] = {f"replaces `{name}`": tensor for name, tensor in tensors_of(job).items()}
    owners: dict[str, Mapping[str, object]] = {path: vars(module) for path, module in job.graph.named_modules()}
    for name, optimizer in _optimizers(job).items():
        numbers = {key: value for key, value in vars(optimizer).items() if isinstance(value, int | float)}
        owners[name] = {**numbers, "state": optimizer.state, "param_groups": optimizer.param_groups}
    for path, attributes in owners.items():
        found |= {f"changes `{join(path, name)}`": value for name, value in attributes.items()}
    found |= {f"changes `loss.{term.name}`": (term.function, term.args) for term in job.terms}
    return {what: fingerprint(state, job.device) for what, state in found.items()}


def numbers_drawn(job: Job) -> dict[str, Fingerprint]:
    """The random state of the generators that a replay does not draw from: what a step does with one -> the state."""
    found: dict[str, list[object]] = {}
    for kind, state in random_state(job.device).items():
        if kind != job.device.type:
            owner, _, _ = kind.partition("_")
            found.setdefault(f"draws random numbers of `{owner}`", []).append(state.tolist())
    return {what: fingerprint(state, job.device) for what, state in found.items()}


def _changes(before: Mapping[str, Fingerprint], after: Mapping[str, Fingerprint]) -> list[str]:
    """What has happened between two states."""
    return [what for what, state in after.items() if before.get(what) != state]


def _optimizers(job: Job) -> dict[str, optim.Optimizer]:
    """The optimizers, with names for messages."""
    return {f"{type(one).__name__}{number or ''}": one for number, one in enumerate(job.optimizers)}


@contextmanager
def _capturable(optimizers: Iterable[optim.Optimizer]) -> Iterator[None]:
    """A block in which torch records the steps of optimizers: those with fused kernels need nothing else for that."""
    groups = [group for one in optimizers for group in one.param_groups if group.get("capturable") is False]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _as_copied(tensor: Tensor) -> Tensor:
    """A tensor with the strides of its copies, from which compiled code is chosen: without gaps and overlaps."""
    dense = tensor.is_contiguous() or tensor.stride() == torch.empty_like(tensor, device="meta").stride()
    return tensor if dense else tensor.clone()


def _layout(field: tuple[str, Tensor]) -> tuple[object, ...]:
    name, tensor = field
    return name, tensor.dtype, tensor.shape, tensor.stride()
