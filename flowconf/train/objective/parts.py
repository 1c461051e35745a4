"""Batches that are computed in parts: what each part contributes, so that together they are the mean over the batch.

How much a part counts has to be known before its backward pass. Where the weights of elements come from fields of the
batch, they are computed first; where the graph computes them, its forward pass runs twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from flowconf.train.objective.gradients import MARK
from flowconf.train.objective.terms import Sums, Term, Values, Wholes

Weighing = Literal["rows", "fields", "graph"]
"""What the weights of the elements of a term follow from."""


class _OfGraph(Tensor):
    """A value of the graph: torch gives everything that is computed from it the same class."""


def weighing(term: Term, values: Values, batch: Values) -> Weighing:
    """What the weights of a term follow from, tried on a batch and the graph's values for it."""
    if term.reduces and term.mask is None:
        return "rows"
    if getattr(term.function, MARK, False):  # it needs the gradients of the values as they are
        return "rows" if term.elements(values, batch)[1] is None else "graph"
    marked = {name: values[name].detach().as_subclass(_OfGraph) for name in term.references}
    elements, weights = term.elements(marked, batch)
    if weights is None:
        return "rows"
    known = isinstance(elements, _OfGraph) and not isinstance(weights, _OfGraph)
    return "fields" if known else "graph"


def have_one_shape(batches: Sequence[Mapping[str, Tensor]]) -> bool:
    """Whether the fields of all parts have the same shapes, except for the number of rows."""
    return len({tuple(field.shape[1:] for field in batch.values()) for batch in batches}) == 1


def wholes_of_fields(
    terms: Sequence[Term], kinds: Sequence[Weighing], values: Values, batches: Sequence[Values]
) -> Wholes:
    """The sums of weights that follow from fields of the batch; `values` are the graph's for any of the parts."""
    rows = [len(next(iter(batch.values()))) for batch in batches]
    zeros = [{name: one.new_zeros((n, *one.shape[1:])) for name, one in values.items()} for n in rows]
    return [
        None if kind == "rows" else whole(term, map(term.sums, zeros, batches))
        for term, kind in zip(terms, kinds, strict=True)
    ]


def whole(term: Term, parts: Iterable[Sums]) -> Sums:
    """The sums over all parts of a batch, in all processes."""
    found = [part.detached() for part in parts]
    sums = Sums(*(torch.stack([getattr(part, name) for part in found]).sum() for name in ("values", "weights")))
    return term.over_processes(sums)


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """A block after which the buffers of `module`, such as running statistics, are those before it."""
    kept = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    yield
    for part, name, buffer, before in kept:
        buffer.copy_(before)
        part._buffers[name] = buffer
