"""The parameters that each term of the loss updates: `updates` limits a term's gradient to subtrees.

Terms that update the same parameters share a backward pass, so a loss without `updates` needs only one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from flowconf.graph.gradients import gradients_aside, leaves
from flowconf.report import Diagnostic, RunError
from flowconf.train.objective.terms import weighted

Targets = frozenset[nn.Parameter] | None
"""The parameters that a term may update; None: all."""


class Routes:
    """The backward passes of a step, for terms in a fixed order."""

    def __init__(self, targets: Sequence[Targets], trained: Sequence[nn.Parameter], divided: bool = False) -> None:
        """`targets` are those of each term, `trained` the parameters that are currently trained.

        `divided` says that the parameters are sharded, so that a backward pass runs on gathered copies of them.
        """
        self.trained = trained
        self.divided = divided
        groups: dict[Targets, list[int]] = {}
        for number, target in enumerate(targets):
            groups.setdefault(target, []).append(number)
        self.passes = [(numbers, _inputs(target, trained)) for target, numbers in groups.items()]

    def total(self, means: Sequence[Tensor], weights: Sequence[float | Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The loss, and the part of it that each backward pass starts from."""
        parts = [weighted([means[n] for n in numbers], [weights[n] for n in numbers]) for numbers, _ in self.passes]
        total = parts[0]
        for part in parts[1:]:
            total = total + part.detach()
        return total, parts

    def reached(self, parts: Sequence[Tensor]) -> set[nn.Parameter]:
        """The parameters that get a gradient in the backward passes of `parts`."""
        found: set[nn.Parameter] = set()
        for part, (_, inputs) in zip(parts, self.passes, strict=True):
            own = reached(part)
            found |= own if inputs is None else own.intersection(inputs)
        return found

    def backward(self, parts: Sequence[Tensor], scaled: Callable[[Tensor], Tensor]) -> None:
        """Add the gradients of `parts` to the parameters that each may update.

        Raises `RunError` for one without a gradient that updates all parameters.
        """
        last = len(parts) - 1
        for number, (part, (_, inputs)) in enumerate(zip(parts, self.passes, strict=True)):
            if inputs is None:
                if not part.requires_grad:
                    message = "nothing to train: the loss of this batch has no gradient"
                    advice = "compute it by functions of torch, without NumPy, `item()` or `detach()`"
                    raise RunError(Diagnostic("FC0403", message, advice=advice))
                torch.autograd.backward(scaled(part), retain_graph=number < last)
            elif inputs and part.requires_grad and self.divided:
                with gradients_aside(set(self.trained).difference(inputs)):
                    torch.autograd.backward(scaled(part), retain_graph=number < last)
            elif inputs and part.requires_grad:
                torch.autograd.backward(scaled(part), retain_graph=number < last, inputs=inputs)


def reached(loss: Tensor) -> set[nn.Parameter]:
    """The parameters that a backward pass from `loss` reaches."""
    return {leaf for leaf in leaves(loss)[0] if isinstance(leaf, nn.Parameter)}


def _inputs(target: Targets, trained: Sequence[nn.Parameter]) -> list[nn.Parameter] | None:
    return None if target is None else [parameter for parameter in trained if parameter in target]
