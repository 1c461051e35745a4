"""Losses that need the gradient of a value, such as gradient penalties."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch

T = TypeVar("T", bound=Callable[..., Any])
MARK = "differentiates"


def differentiates(function: T) -> T:
    """Declare that a loss computes gradients with `torch.autograd.grad`, so that evaluations allow it to.

    @flowconf.register_loss
    @flowconf.differentiates
    def slope(score: Tensor, point: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(score.sum(), point, create_graph=True)
        return gradient.flatten(1).norm(dim=1)
    """
    setattr(function, MARK, True)
    return function


def gradients_for(terms: Iterable[Any]) -> AbstractContextManager[Any]:
    """A block outside of training: without gradients, unless one of `terms` needs them."""
    return torch.set_grad_enabled(any(getattr(term.function, MARK, False) for term in terms))
