"""Built-in optimizers: those of torch, with torch's arguments and defaults.

`params` is a list of parameter groups as in torch. `fused: null` uses the fused kernel if torch has one for the device
of the parameters, including the CPU, where it is two to four times faster but never torch's default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import optim
from torch.torch_version import TorchVersion

from flowconf.graph.gradients import gradients_aside
from flowconf.train.optim.fused import Adam, AdamW, Clearing, unwrapped

Groups = list[dict[str, Any]]

EVERYWHERE = {"cpu", "cuda", "mps"}
FUSED_ADAGRAD = {"cpu", "cuda"} if TorchVersion(torch.__version__) >= "2.13" else {"cpu"}

__all__ = [
    "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "asgd", "lbfgs", "muon", "nadam", "radam", "rmsprop",
    "rprop", "sgd", "sparseadam",
]  # fmt: skip


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
    kernel = _fused(params, fused, EVERYWHERE, divided=True)
    kind = AdamW if kernel and not amsgrad else optim.AdamW
    return kind(params, lr, _floats(betas), eps, weight_decay, amsgrad, fused=kernel)


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
    """Adam; weight decay is an L2 penalty added to the gradient."""
    kernel = _fused(params, fused, EVERYWHERE, divided=True)
    kind = Adam if kernel and not amsgrad else optim.Adam
    return kind(params, lr, _floats(betas), eps, weight_decay, amsgrad, fused=kernel)


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
    """Stochastic gradient descent, optionally with momentum."""
    kernel = _fused(params, fused, EVERYWHERE)
    return StaggeredSGD(params, lr, momentum, dampening, weight_decay, nesterov, fused=kernel)


class StaggeredSGD(Clearing, optim.SGD):
    """torch's SGD, with a fused kernel that supports parameters that get their first gradient later than others.

    With momentum, torch's fused kernel requires a buffer for every parameter, or for none. Parameters without a buffer
    are therefore stepped separately; the results equal those of torch's other kernels.
    """

    def __init__(self, params: Groups, *args: Any, **kwargs: Any) -> None:
        super().__init__(params, *args, **kwargs)
        self._waiting = list(self._parameters())
        """Parameters that may not have had a gradient yet."""

    @unwrapped
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step, as in torch's SGD."""
        if not any(parameter.grad is not None for parameter in self._waiting):
            return super().step(closure)
        if float(getattr(self, "found_inf", 0.0)):
            return None  # gradients overflowed: the kernel would skip the step, and leave new buffers uninitialized
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        given = {parameter for parameter in self._parameters() if parameter.grad is not None}
        first = {parameter for parameter in given if "momentum_buffer" not in self.state.get(parameter, {})}
        for some in (given - first, first):
            if some:
                with gradients_aside(parameter for parameter in self._parameters() if parameter not in some):
                    super().step()
        self._waiting = [parameter for parameter in self._waiting if parameter not in given]
        return loss

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
    return optim.NAdam(params, lr, _floats(betas), eps, weight_decay, momentum_decay, decoupled_weight_decay)


def radam(
    params: Groups,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
) -> optim.Optimizer:
    """Rectified Adam."""
    return optim.RAdam(params, lr, _floats(betas), eps, weight_decay, decoupled_weight_decay)


def adamax(
    params: Groups,
    *,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optim.Optimizer:
    """Adam with the infinity norm."""
    return optim.Adamax(params, lr, _floats(betas), eps, weight_decay)


def adadelta(
    params: Groups, *, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
) -> optim.Optimizer:
    """Adadelta."""
    return optim.Adadelta(params, lr, rho, eps, weight_decay)


def adafactor(
    params: Groups,
    *,
    lr: float = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
) -> optim.Optimizer:
    """Adafactor: second moments of matrices are kept as their rows and columns."""
    first, second = eps
    return optim.Adafactor(params, lr, beta2_decay, (first, second), d, weight_decay)


def asgd(
    params: Groups,
    *,
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
) -> optim.Optimizer:
    """Averaged stochastic gradient descent."""
    return optim.ASGD(params, lr, lambd, alpha, t0, weight_decay)


def rprop(
    params: Groups,
    *,
    lr: float = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
) -> optim.Optimizer:
    """Resilient backpropagation, for batches of all rows."""
    return optim.Rprop(params, lr, _floats(etas), _floats(step_sizes))


def sparseadam(
    params: Groups, *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> optim.Optimizer:
    """Adam for sparse gradients, such as those of `Embedding(n, size, sparse=true)`."""
    return optim.SparseAdam(params, lr, _floats(betas), eps)


def muon(
    params: Groups,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
) -> optim.Optimizer:
    """Momentum orthogonalized by Newton-Schulz iterations, for matrices; requires torch 2.9."""
    if not hasattr(optim, "Muon"):
        raise ValueError(f"`muon` requires torch 2.9 or newer, and {torch.__version__} is installed")
    one, two, three = ns_coefficients
    return optim.Muon(
        params, lr, weight_decay, momentum, nesterov, (one, two, three), eps, ns_steps, adjust_lr_fn=adjust_lr_fn
    )


def lbfgs(
    params: Groups,
    *,
    lr: float = 1.0,
    max_iter: int = 20,
    max_eval: int | None = None,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
    history_size: int = 100,
    line_search_fn: str | None = None,
) -> optim.Optimizer:
    """Limited-memory BFGS: each step computes loss and gradient several times; `line_search_fn: strong_wolfe`."""
    return optim.LBFGS(params, lr, max_iter, max_eval, tolerance_grad, tolerance_change, history_size, line_search_fn)


def _floats(pair: tuple[float, float]) -> tuple[float, float]:
    """Two numbers, which may be integers in a config, as torch requires them."""
    return float(pair[0]), float(pair[1])


def _fused(groups: Groups, wanted: bool | None, devices: set[str], divided: bool = False) -> bool | None:
    """Whether to use the fused kernel; `divided` says that it supports sharded weights."""
    tensors: list[torch.Tensor] = [tensor for group in groups for tensor in group["params"]]
    if not divided and any(hasattr(tensor, "full_tensor") for tensor in tensors):
        if wanted:
            raise ValueError("the fused kernel of this optimizer does not support sharded weights: remove `fused`")
        return None
    if wanted is not None:
        return wanted or None  # torch may then use foreach, which False would disable as well
    fits = all(tensor.device.type in devices and tensor.is_floating_point() for tensor in tensors)
    return True if fits else None
