"""What a gradient reaches."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from torch import Tensor


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
