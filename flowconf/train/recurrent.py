"""The recurrent state of a graph during a run, which is reset for every epoch and every evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from flowconf.graph.graph import Graph
from flowconf.language.resolve.reserved_names import STATE


class RecurrentState:
    """The values that a graph keeps from one call to the next; without any, all methods are free."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.kept = [module.__dict__[STATE] for module in graph.modules() if STATE in module.__dict__]

    def begin(self, rows: int) -> None:
        """Before a call with `rows` rows: reset the state if it is of a different number of rows."""
        if self.kept and any(value.shape[:1] != (rows,) for memory in self.kept for value in memory.values()):
            self.forget()

    def cut(self) -> None:
        """After a step: detach the state from the autograd graph."""
        if self.kept:
            self.graph.detach_state()

    def forget(self) -> None:
        """Reset the state; the next call starts from zeros."""
        for memory in self.kept:
            memory.clear()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """A block that starts with empty state, and restores the previous state at its end."""
        before: list[dict[str, Tensor]] = [dict(memory) for memory in self.kept]
        self.forget()
        try:
            yield
        finally:
            for memory, values in zip(self.kept, before, strict=True):
                memory.clear()
                memory.update(values)
