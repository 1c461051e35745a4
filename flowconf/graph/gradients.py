"""Parameters that a gradient reaches, and parameters without their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Any

from torch import Tensor


@contextmanager
def gradients_aside(parameters: Iterable[Tensor]) -> Iterator[None]:
    """A block in which parameters have no gradients; afterwards, they have those from before it."""
    before = [(parameter, parameter.grad) for parameter in parameters]
    for parameter, _ in before:
        parameter.grad = None
    yield
    for parameter, grad in before:
        parameter.grad = grad


def nodes(values: Iterable[Tensor], ends: Set[Any] = frozenset()) -> Iterator[Any]:
    """The autograd nodes that a backward pass from `values` reaches. The search stops at `ends`."""
    stack: list[Any] = [value.grad_fn for value in values]
    seen: set[Any] = {None}
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        if node not in ends:
            stack += [below for below, _ in node.next_functions]


def leaves(value: Tensor, ends: Set[Any] = frozenset()) -> tuple[set[Tensor], set[Any]]:
    """The leaves, such as parameters, that a backward pass from `value` reaches, and which of `ends` it meets.

    `ends` are nodes at which the search stops.
    """
    found = set(nodes([value], ends))
    return {node.variable for node in found - ends if hasattr(node, "variable")}, found & ends
