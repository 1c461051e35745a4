"""What a gradient reaches, and parameters without theirs."""

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


def leaves(value: Tensor, ends: Set[Any] = frozenset()) -> tuple[set[Tensor], set[Any]]:
    """The leaves, such as parameters, that a backward pass from `value` reaches, and which of `ends` it meets.

    `ends` are nodes at which the search stops.
    """
    found: set[Tensor] = set()
    ended: set[Any] = set()
    seen: set[Any] = {value.grad_fn}
    stack = [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None:
            continue
        if node in ends:
            ended.add(node)
            continue
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.add(variable)
        for below, _ in node.next_functions:
            if below not in seen:
                seen.add(below)
                stack.append(below)
    return found, ended
