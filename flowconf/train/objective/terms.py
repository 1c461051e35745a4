"""What a config asks of the graph's values: terms of the loss and metrics, with their references resolved.

A term's elements are averaged with their weights: `sum(values * mask) / sum(mask)`; a mask of 0 leaves an element out,
whatever its target is. During training the terms are means
of one batch; in an evaluation they are means over all elements of the split, so that batches of any size give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowconf.language import registry
from flowconf.language.training import LossSection, MetricSection, listed
from flowconf.train.objective.losses import Result
from flowconf.train.objective.weighting import final_weight

Values = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Operand:
    """Where a reference is read: a value of the graph, or a field of the batch."""

    name: str
    in_batch: bool

    def read(self, values: Values, batch: Values) -> Tensor:
        return batch[self.name] if self.in_batch else values[self.name]


def sources(references: Sequence[str], fields: Collection[str], in_graph: Callable[[str], bool]) -> tuple[Operand, ...]:
    """Inputs of a loss or metric: the graph's values come first, then the fields of the batch."""
    return tuple(Operand(name, in_batch=not in_graph(name) and name in fields) for name in references)


def targets(references: Sequence[str], fields: Collection[str]) -> tuple[Operand, ...]:
    """Targets and masks: the fields of the batch come first, then the graph's values."""
    return tuple(Operand(name, in_batch=name in fields) for name in references)


@dataclass(frozen=True, slots=True)
class Term:
    """A loss or a metric: a function of some values, its arguments, and the weights of its elements."""

    name: str
    function: Callable[..., Result]
    operands: tuple[Operand, ...]
    mask: Operand | None
    args: dict[str, Any]
    weight: float
    """The factor of the term in an evaluation's loss."""
    reduces: bool
    """Whether the function can give the mean itself."""

    @property
    def references(self) -> list[str]:
        """The values that it needs from the graph."""
        all_of_them = (*self.operands, self.mask) if self.mask else self.operands
        return [source.name for source in all_of_them if not source.in_batch]

    def mean(self, values: Values, batch: Values) -> Tensor:
        """The mean over the elements of one batch."""
        if self.reduces and self.mask is None:
            operands = [source.read(values, batch) for source in self.operands]
            return _tensor(self.function(*operands, reduction="mean", **self.args))
        elements, weights = self.elements(values, batch)
        if weights is None:
            return elements.mean()
        total = weights.sum()
        return (elements * weights).sum() / total.clamp_min(torch.finfo(total.dtype).tiny)

    def elements(self, values: Values, batch: Values) -> tuple[Tensor, Tensor | None]:
        """Every element and its weight (None: 1)."""
        mask = self.mask.read(values, batch) if self.mask is not None else None
        operands = [self._operand(source, values, batch, mask) for source in self.operands]
        return weighed(self.function(*operands, **self.args), mask)

    @staticmethod
    def _operand(source: Operand, values: Values, batch: Values, mask: Tensor | None) -> Tensor:
        """A value; a field of the batch is 0 where the mask leaves it out, so that it may hold anything there."""
        found = source.read(values, batch)
        if mask is None or not source.in_batch or mask.shape != found.shape[: mask.ndim]:
            return found
        return torch.where(_spread(mask != 0, found), found, 0)


def weighed(result: Result, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The elements, and their own weights times `mask`, which lacks the last axes when it has fewer.

    What weighs nothing is 0, even if it was not a number.
    """
    elements, weights = result if isinstance(result, tuple) else (_tensor(result), None)
    if mask is not None:
        if mask.ndim > elements.ndim or mask.shape != elements.shape[: mask.ndim]:
            raise ValueError(
                f"a mask of shape {list(mask.shape)} does not fit elements of shape {list(elements.shape)}: "
                f"its sizes must be their first ones"
            )
        mask = _spread(mask, elements).expand_as(elements)
        weights = mask if weights is None else weights * mask
    if weights is None:
        return elements, None
    weights = weights.to(elements.dtype)
    return torch.where(weights != 0, elements, 0), weights


def _spread(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of the first axes of `like`, with an axis of size 1 for each of the others."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


def _tensor(result: object) -> Tensor:
    """What a function has given. Raises `TypeError` when that is no tensor."""
    if not isinstance(result, Tensor):
        given = "`None`" if result is None else f"a `{type(result).__name__}`"
        raise TypeError(f"it must give a tensor, and gives {given}")
    return result


def gives_mean(loss: str) -> bool:
    """Whether a loss can give its mean itself."""
    return registry.losses.signature(loss).takes("reduction")


def loss_terms(
    sections: Mapping[str, LossSection],
    load: Callable[[str], Callable[..., Result]],
    reduces: Callable[[str], bool],
    fields: Collection[str],
    in_graph: Callable[[str], bool],
) -> list[Term]:
    """The terms of the loss, with their weights in an evaluation."""
    return [
        _term(name, section, load(section.fn), final_weight(section.weight), reduces(section.fn), fields, in_graph)
        for name, section in sections.items()
    ]


def metric_term(
    name: str,
    section: MetricSection,
    function: Callable[..., Result],
    fields: Collection[str],
    in_graph: Callable[[str], bool],
) -> Term:
    """A metric of the same form as a loss."""
    return _term(name, section, function, 1.0, False, fields, in_graph)


def _term(
    name: str,
    section: MetricSection,
    function: Callable[..., Result],
    weight: float,
    reduces: bool,
    fields: Collection[str],
    in_graph: Callable[[str], bool],
) -> Term:
    operands = sources(listed(section.input), fields, in_graph) + targets(listed(section.target), fields)
    masks = targets(listed(section.mask), fields)
    return Term(name, function, operands, masks[0] if masks else None, dict(section.args), weight, reduces)


def means_of(terms: Sequence[Term], values: Values, batch: Values) -> list[Tensor]:
    """Each term's mean over a batch, without its weight."""
    means = []
    for term in terms:
        try:
            means.append(term.mean(values, batch))
        except Exception as problem:
            problem.add_note(f"in the loss `{term.name}`")
            raise
    return means


def weighted(means: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum of some terms."""
    total: Tensor | None = None
    for mean, weight in zip(means, weights, strict=True):
        share = mean if weight == 1 else mean * weight
        total = share if total is None else total + share
    assert total is not None
    return total


class Average:
    """A weighted mean over many batches, kept on the device until it is read."""

    def __init__(self, term: Term) -> None:
        self.term = term
        self.total: Tensor | None = None
        self.count: Tensor | None = None

    def update(self, values: Values, batch: Values) -> None:
        """Add the elements of a batch; one number for the whole batch counts once for each of its rows."""
        try:
            elements, weights = self.term.elements(values, batch)
        except Exception as problem:
            problem.add_note(f"in `{self.term.name}`")
            raise
        exact = torch.float32 if elements.device.type == "mps" else torch.float64
        elements = elements.detach().to(exact)
        if elements.ndim == 0:
            rows = len(next(iter(batch.values())))
            weights = torch.full((), rows, dtype=exact, device=elements.device)
        elif weights is None:
            weights = torch.ones((), dtype=exact, device=elements.device).expand_as(elements)
        weights = weights.to(exact)
        total, count = (elements * weights).sum(), weights.sum()
        self.total = total if self.total is None else self.total + total
        self.count = count if self.count is None else self.count + count

    def compute(self) -> float:
        """The mean; not a number when nothing counted."""
        if self.total is None or self.count is None:
            return float("nan")
        return float(self.total / self.count)
