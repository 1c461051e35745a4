"""Optimizers of torch with fused kernels, whose steps take less time beside the kernel.

torch collects parameters, gradients and state in every step, groups them by device and dtype, and counts the steps of
each parameter in a tensor of its own: a tenth to a fifth of a whole training step of a small model. Here that is done
once, and again when other parameters have gradients or the state is loaded. Results and state are the same bits.

torch also wraps `step` of a class in a range of its profiler and calls of hooks: another tenth. A run has no hooks of
optimizers, and `trainer.profile` measures the optimizers itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, optim

Groups = list[dict[str, Any]]
Step = TypeVar("Step", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class FusedGroup:
    """The parameters of a group that have gradients and are of one device and dtype, and their state."""

    group: int
    """The number of the group; torch replaces the groups when a state is loaded."""
    parameters: list[Tensor]
    averages: list[Tensor]
    """Of the gradients."""
    squares: list[Tensor]
    """The averages of the squared gradients."""
    count: Tensor
    """The number of steps of each parameter."""
    counts: list[Tensor]
    """The elements of `count`, which are the state of the parameters."""


def unwrapped(step: Step) -> Step:
    """Mark a `step` as one that torch does not wrap."""
    setattr(step, "hooked", True)  # noqa: B010 - torch's own mark
    return step


class Clearing(optim.Optimizer):
    """An optimizer that clears gradients without torch's preparations for setting them to zero."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, as in torch."""
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


class Collecting(Clearing):
    """Adam or AdamW with its fused kernel, without `amsgrad`."""

    kernel: Callable[..., None]
    _parts: tuple[FusedGroup, ...] = ()
    _without: tuple[Tensor, ...] | None = None
    """The parameters without a gradient; None before the first step."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._parts, self._without = (), None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self._parts, self._without = (), None

    @unwrapped
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step, as in torch. It is torch's own if what was collected does not fit, and with a gradient scaler."""
        if closure is not None or getattr(self, "found_inf", None) is not None:
            return super().step(closure)
        grads = [[grad for one in part.parameters if (grad := one.grad) is not None] for part in self._parts]
        fits = list(map(len, grads)) == [len(part.parameters) for part in self._parts]
        if not self._parts or not fits or any(one.grad is not None for one in self._without or ()):
            super().step()
            if not any(group["capturable"] for group in self.param_groups):
                self._collect()  # not while a step is recorded, which must leave the state where it is
            return None
        with torch.no_grad():
            for part, some in zip(self._parts, grads, strict=True):
                self._update(part, some, self.param_groups[part.group])
        return None

    def _update(self, part: FusedGroup, grads: list[Tensor], group: dict[str, Any]) -> None:
        part.count.add_(1)
        self.kernel(
            part.parameters,
            grads,
            part.averages,
            part.squares,
            [],
            part.counts,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
        )

    def _collect(self) -> None:
        """After a step of torch's, which has made the state: collect the parts, if the step before had the same."""
        every = [(number, one) for number, group in enumerate(self.param_groups) for one in group["params"]]
        without = tuple(one for _, one in every if one.grad is None)
        again = list(map(id, without)) == list(map(id, self._without or ()))
        self._parts = tuple(self._collected(every)) if again and self._without is not None else ()
        self._without = without

    def _collected(self, every: list[tuple[int, Tensor]]) -> Iterator[FusedGroup]:
        """The parts of all groups; `every` are their parameters, each with the number of its group."""
        found: dict[tuple[int, torch.device, torch.dtype], list[Tensor]] = {}
        for number, one in every:
            if one.grad is not None:
                found.setdefault((number, one.device, one.dtype), []).append(one)
        for (number, _, _), parameters in found.items():
            states = [self.state[one] for one in parameters]
            count = torch.stack([state["step"] for state in states])
            for state, own in zip(states, count, strict=True):
                state["step"] = own
            averages, squares, counts = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
            yield FusedGroup(number, parameters, averages, squares, count, counts)


class Adam(Collecting, optim.Adam):
    """torch's Adam with its fused kernel, without `amsgrad`."""

    kernel = staticmethod(torch._fused_adam_)


class AdamW(Collecting, optim.AdamW):
    """torch's AdamW with its fused kernel, without `amsgrad`."""

    kernel = staticmethod(torch._fused_adamw_)
