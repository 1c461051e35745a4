"""Terms of the loss and metrics, with their references resolved.

A term is the weighted mean of its elements: `sum(values * mask) / sum(mask)`; a mask of 0 excludes an element, whatever
its target is. During training a term is the mean of one batch; in an evaluation it is the mean over all elements of the
split, independent of the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from flowconf.language import registry
from flowconf.language.changing import last_value
from flowconf.language.plan import GraphPlan
from flowconf.language.references import names_value
from flowconf.language.training import LossSection, MetricSection, listed
from flowconf.train.objective.losses import Result

Values = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Operand:
    """A resolved reference: a value of the graph, or a field of the batch."""

    name: str
    in_batch: bool

    def read(self, values: Values, batch: Values) -> Tensor:
        return batch[self.name] if self.in_batch else values[self.name]


def sources(references: Sequence[str], fields: Collection[str], in_graph: Callable[[str], bool]) -> tuple[Operand, ...]:
    """Inputs of a loss or metric: values of the graph take precedence over fields of the batch."""
    return tuple(Operand(name, in_batch=not in_graph(name) and name in fields) for name in references)


def targets(references: Sequence[str], fields: Collection[str]) -> tuple[Operand, ...]:
    """Targets and masks: fields of the batch take precedence over values of the graph."""
    return tuple(Operand(name, in_batch=name in fields) for name in references)


@dataclass(frozen=True, slots=True)
class Sums:
    """The weighted sum of the elements of a term, and the sum of their weights: scalars, whose quotient is the mean."""

    values: Tensor
    weights: Tensor

    def share_of(self, whole: Sums) -> Tensor:
        """What this part contributes to the mean over the `whole`, of which it is a part.

        The contributions of all parts add up to that mean, and their gradients to its gradient, also if the weights
        have one.
        """
        values, total = self.values, positive(whole.weights)
        if self.weights.requires_grad:
            values = values - whole.values / total * (self.weights - self.weights.detach())
        return values / total

    def detached(self) -> Sums:
        return Sums(self.values.detach(), self.weights.detach())


Wholes = Sequence[Sums | None]
"""The sums of each term over a whole batch; None where its parts count by their rows."""


def sums_of(elements: Tensor, weights: Tensor | None, batch: Values) -> Sums:
    """The sums of elements and their weights (None: 1), in at least 32 bits; a scalar has the weight of the rows."""
    if elements.dtype in (torch.bfloat16, torch.float16):
        elements = elements.float()
    if elements.ndim == 0:
        rows = next((len(field) for field in batch.values()), 1)  # a rehearsal may know no field
        return Sums(elements * rows, elements.new_full((), rows))
    if weights is None:
        return Sums(elements.sum(), elements.new_full((), elements.numel()))
    weights = weights.to(elements.dtype)
    return Sums((elements * weights).sum(), weights.sum())


def positive(total: Tensor) -> Tensor:
    """A sum of weights by which can be divided: what is divided by 0 is 0 as well."""
    return total.clamp_min(torch.finfo(total.dtype).tiny)


@dataclass(frozen=True, slots=True)
class Term:
    """A loss or a metric: a function, its operands and arguments, and the mask of its elements."""

    name: str
    function: Callable[..., Result]
    operands: tuple[Operand, ...]
    mask: Operand | None
    args: dict[str, Any]
    weight: float
    """The weight of the term in the loss of an evaluation."""
    reduces: bool
    """Whether the function can return the mean itself: not where the data may hold ignored elements only."""

    @property
    def references(self) -> list[str]:
        """The values of the graph that it requires."""
        all_of_them = (*self.operands, self.mask) if self.mask else self.operands
        return [source.name for source in all_of_them if not source.in_batch]

    def mean(self, values: Values, batch: Values) -> Tensor:
        """The mean over the elements of one batch."""
        if self.reduces and self.mask is None:
            operands = [(batch if one.in_batch else values)[one.name] for one in self.operands]
            return _tensor(self.function(*operands, reduction="mean", **self.args))
        elements, weights = self.elements(values, batch)
        if weights is None:
            return elements.mean()
        own = sums_of(elements, weights, batch)
        return own.values / positive(own.weights)

    def sums(self, values: Values, batch: Values) -> Sums:
        """The sums over the elements of one batch; a scalar for the whole batch is weighted by the number of rows."""
        return sums_of(*self.elements(values, batch), batch)

    def part(self, values: Values, batch: Values, whole: Sums) -> Tensor:
        """What a part of a batch contributes to the mean over the `whole` batch."""
        return self.sums(values, batch).share_of(whole)

    def elements(self, values: Values, batch: Values) -> tuple[Tensor, Tensor | None]:
        """The elements and their weights (None: 1)."""
        mask = self.mask.read(values, batch) if self.mask is not None else None
        operands = [self._operand(source, values, batch, mask) for source in self.operands]
        return weighed(self.function(*operands, **self.args), mask)

    def over_processes(self, own: Sums) -> Sums:
        """The sums of this process, added up over all that train, without gradients."""
        return own.detached()

    @staticmethod
    def _operand(source: Operand, values: Values, batch: Values, mask: Tensor | None) -> Tensor:
        """A value; masked elements of a batch field are set to 0, because they may have any value."""
        found = source.read(values, batch)
        if mask is None or not source.in_batch or mask.shape != found.shape[: mask.ndim]:
            return found
        return torch.where(spread(mask != 0, found), found, 0)


def weighed(result: Result, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The elements, and their weights multiplied by `mask`, which may have fewer dimensions.

    Elements of weight 0 are set to 0, even if they are NaN.
    """
    elements, weights = result if isinstance(result, tuple) else (_tensor(result), None)
    if mask is not None:
        if mask.ndim > elements.ndim or mask.shape != elements.shape[: mask.ndim]:
            raise ValueError(
                f"a mask of shape {list(mask.shape)} does not match elements of shape {list(elements.shape)}: "
                f"it must have their leading dimensions"
            )
        mask = spread(mask, elements).expand(elements.shape)
        weights = mask if weights is None else weights * mask
    if weights is None:
        return elements, None
    weights = weights.to(elements.dtype)
    return torch.where(weights != 0, elements, 0), weights


def spread(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of the leading dimensions of `like`, with a dimension of size 1 for each of the others."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


def _tensor(result: object) -> Tensor:
    """The result of a function. Raises `TypeError` if it is not a tensor."""
    if not isinstance(result, Tensor):
        given = "`None`" if result is None else f"a `{type(result).__name__}`"
        raise TypeError(f"it must return a tensor, got {given}")
    return result


def loss_terms(sections: Mapping[str, LossSection], plan: GraphPlan, fields: Collection[str]) -> list[Term]:
    """The terms of the loss, with the weights that evaluations use."""
    in_graph, losses = partial(names_value, plan), registry.losses
    found = []
    for name, section in sections.items():
        weight, reduces = last_value(section.weight), losses.signature(section.fn).takes("reduction")
        found.append(term_of(name, section, losses.load(section.fn), fields, in_graph, weight, reduces))
    return found


def term_of(
    name: str,
    section: MetricSection,
    function: Callable[..., Result],
    fields: Collection[str],
    in_graph: Callable[[str], bool],
    weight: float = 1.0,
    reduces: bool = False,
) -> Term:
    """A loss or metric with its references resolved."""
    operands = sources(listed(section.input), fields, in_graph) + targets(listed(section.target), fields)
    masks = targets(listed(section.mask), fields)
    return Term(name, function, operands, masks[0] if masks else None, dict(section.args), weight, reduces)


def means_of(
    terms: Sequence[Term], values: Values, batch: Values, wholes: Wholes = (), share: float = 1.0
) -> list[Tensor]:
    """The unweighted mean of each term over a batch; of a part, what it contributes to the mean over the whole batch.

    `wholes` are the sums over the whole batch, and `share` is that of the part in its rows.
    """
    means = []
    for term, whole in zip(terms, wholes or repeat(None), strict=False):
        try:
            if whole is not None:
                means.append(term.part(values, batch, whole))
            else:
                mean = term.mean(values, batch)
                means.append(mean if share == 1 else mean * share)
        except Exception as problem:
            problem.add_note(f"in the loss `{term.name}`")
            raise
    return means


def weighted(means: Sequence[Tensor], weights: Sequence[float | Tensor]) -> Tensor:
    """The weighted sum of the means of terms."""
    total: Tensor | None = None
    for mean, weight in zip(means, weights, strict=True):
        share = mean if isinstance(weight, float | int) and weight == 1 else mean * weight
        total = share if total is None else total + share
    assert total is not None
    return total


class Average:
    """A weighted mean over many batches, accumulated on the device."""

    def __init__(self, term: Term) -> None:
        self.term = term
        self.total: Tensor | None = None
        self.count: Tensor | None = None

    def update(self, values: Values, batch: Values) -> None:
        """Add the elements of a batch; a scalar for the whole batch is weighted by the number of rows."""
        try:
            elements, weights = self.term.elements(values, batch)
        except Exception as problem:
            problem.add_note(f"in `{self.term.name}`")
            raise
        exact = torch.float32 if elements.device.type == "mps" else torch.float64
        own = sums_of(elements.detach().to(exact), weights, batch)
        self.total = own.values if self.total is None else self.total + own.values
        self.count = own.weights if self.count is None else self.count + own.weights

    def compute(self) -> float:
        """The mean; NaN if there were no elements."""
        if self.total is None or self.count is None:
            return float("nan")
        return float(self.total / self.count)
