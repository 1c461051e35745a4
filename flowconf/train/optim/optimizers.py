"""Optimizers by name: torch's own, with torch's arguments and defaults.

`params` is a list of groups as torch takes them. `fused: null` means the fused kernel wherever torch has one for the
parameters' device, the CPU included: it is two to four times faster there and the default of no torch optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import optim
from torch.torch_version import TorchVersion

Groups = list[dict[str, Any]]

EVERYWHERE = {"cpu", "cuda", "mps"}
FUSED_ADAGRAD = {"cpu", "cuda"} if TorchVersion(torch.__version__) >= "2.13" else {"cpu"}

__all__ = ["adagrad", "adam", "adamw", "nadam", "radam", "rmsprop", "sgd"]


def adamw(
    params: Groups,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> optim.Optimizer:
    """Adam with decoupled weight decay."""
    first, second = betas
    return optim.AdamW(
        params,
        lr,
        (first, second),
        eps,
        weight_decay,
        amsgrad,
        fused=_fused(params, fused, EVERYWHERE, divided=True),
    )


def adam(
    params: Groups,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> optim.Optimizer:
    """Adam; its weight decay is a penalty in the gradient."""
    first, second = betas
    return optim.Adam(
        params,
        lr,
        (first, second),
        eps,
        weight_decay,
        amsgrad,
        fused=_fused(params, fused, EVERYWHERE, divided=True),
    )


def sgd(
    params: Groups,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    fused: bool | None = None,
) -> optim.Optimizer:
    """Stochastic gradient descent, with momentum when it is given."""
    kernel = _fused(params, fused, EVERYWHERE)
    return StaggeredSGD(params, lr, momentum, dampening, weight_decay, nesterov, fused=kernel)


class StaggeredSGD(optim.SGD):
    """torch's SGD, whose fused kernel also takes parameters that get their first gradient later than others do.

    With momentum that kernel wants a buffer of every parameter, or of none. Those that get their first one then take a
    step of their own; the results are those of torch's other kernels.
    """

    def __init__(self, params: Groups, *args: Any, **kwargs: Any) -> None:
        super().__init__(params, *args, **kwargs)
        self._waiting = list(self._parameters())
        """Parameters that may have had no gradient so far."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, as torch's SGD does."""
        if not any(parameter.grad is not None for parameter in self._waiting):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        given = {parameter for parameter in self._parameters() if parameter.grad is not None}
        first = {parameter for parameter in given if "momentum_buffer" not in self.state.get(parameter, {})}
        for some in (given - first, first):
            if some:
                self._step_with(some)
        self._waiting = [parameter for parameter in self._waiting if parameter not in given]
        return loss

    def _step_with(self, some: set[torch.Tensor]) -> None:
        """Take a step with these parameters alone."""
        put_aside = {parameter: parameter.grad for parameter in self._parameters() if parameter not in some}
        for parameter in put_aside:
            parameter.grad = None
        super().step()
        for parameter, grad in put_aside.items():
            parameter.grad = grad

    def _parameters(self) -> Iterator[torch.Tensor]:
        return (parameter for group in self.param_groups for parameter in group["params"])


def adagrad(
    params: Groups,
    *,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    fused: bool | None = None,
) -> optim.Optimizer:
    """Adagrad."""
    return optim.Adagrad(params, lr, lr_decay, weight_decay, eps=eps, fused=_fused(params, fused, FUSED_ADAGRAD))


def rmsprop(
    params: Groups,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> optim.Optimizer:
    """RMSprop."""
    return optim.RMSprop(params, lr, alpha, eps, weight_decay, momentum, centered)


def nadam(
    params: Groups,
    *,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
) -> optim.Optimizer:
    """Adam with Nesterov momentum."""
    first, second = betas
    return optim.NAdam(params, lr, (first, second), eps, weight_decay, momentum_decay, decoupled_weight_decay)


def radam(
    params: Groups,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
) -> optim.Optimizer:
    """Adam with a rectified early phase."""
    first, second = betas
    return optim.RAdam(params, lr, (first, second), eps, weight_decay, decoupled_weight_decay)


def _fused(groups: Groups, wanted: bool | None, devices: set[str], divided: bool = False) -> bool | None:
    """Whether to use the fused kernel; `divided` says that it takes weights of which processes hold parts."""
    tensors: list[torch.Tensor] = [tensor for group in groups for tensor in group["params"]]
    if not divided and any(hasattr(tensor, "full_tensor") for tensor in tensors):
        if wanted:
            raise ValueError("this optimizer's fused kernel takes no weights that are divided: leave out `fused`")
        return None
    if wanted is not None:
        return wanted or None  # torch then takes its next best, which False would turn off as well
    fits = all(tensor.device.type in devices and tensor.is_floating_point() for tensor in tensors)
    return True if fits else None
