"""What a callback does stays without effect on training: random numbers, modes and gradients are restored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from flowconf.report import Diagnostic, Place, RunError
from flowconf.train.job import Job
from flowconf.train.seeds import all_undisturbed


class Guard:
    """Blocks in which a graph is in evaluation mode, without gradients, and after which everything is as before."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._members = list(job.graph.modules())
        self._parameters = list(job.graph.named_parameters())

    @contextmanager
    def seeing(self, name: str, place: Place) -> Iterator[None]:
        """A block of the callback `name`. Raises `RunError` if it changes a parameter, a buffer or a gradient."""
        learning = [parameter.requires_grad for _, parameter in self._parameters]
        gradients = [parameter.grad for _, parameter in self._parameters]
        held = self._held(gradients)
        before = [tensor._version for _, tensor in held]
        try:
            with self.undisturbed():
                yield
        finally:
            for (_, parameter), learns, gradient in zip(self._parameters, learning, gradients, strict=True):
                if parameter.requires_grad is not learns:
                    parameter.requires_grad_(learns)
                if parameter.grad is not gradient:
                    parameter.grad = gradient
        changed = next((path for (path, tensor), was in zip(held, before, strict=True) if tensor._version != was), None)
        if changed is not None:
            message = f"the callback `{name}` has changed `{changed}`, and callbacks must not change training"
            raise RunError(Diagnostic("FC0702", message, place, f"callbacks.{name}", advice="change a copy: `clone()`"))

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """A block in which only the random state, modes and recurrent state can change, which are restored."""
        modes = [module.training for module in self._members]
        for module in self._members:
            module.training = False
        try:
            with all_undisturbed(self._job.device), torch.no_grad(), self._job.memory.aside():
                yield
        finally:
            for module, mode in zip(self._members, modes, strict=True):
                module.training = mode

    def _held(self, gradients: Sequence[Tensor | None]) -> list[tuple[str, Tensor]]:
        """The tensors that must not change, by name."""
        named = [*self._parameters, *self._job.graph.named_buffers()]
        given = zip(self._parameters, gradients, strict=True)
        return named + [(f"{path}.grad", gradient) for (path, _), gradient in given if gradient is not None]
