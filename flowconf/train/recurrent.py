"""The recurrent state of a graph during a run, which is reset for every epoch and every evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from flowconf.graph.graph import Graph
from flowconf.language.resolve.reserved_names import STATE


class RecurrentState:
    """The values that a graph keeps from one call to the next; without any, all methods are free."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        members = graph.named_modules()
        self.kept = {path: module.__dict__[STATE] for path, module in members if STATE in module.__dict__}

    def begin(self, rows: int) -> None:
        """Before a call with `rows` rows: reset the state if it is of a different number of rows."""
        if self.kept and any(value.shape[:1] != (rows,) for memory in self.kept.values() for value in memory.values()):
            self.forget()

    def cut(self) -> None:
        """After a step: detach the state from the autograd graph."""
        if self.kept:
            self.graph.detach_state()

    def forget(self) -> None:
        """Reset the state; the next call starts from zeros."""
        for memory in self.kept.values():
            memory.clear()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """A block that starts with empty state, and restores the previous state at its end."""
        before = self.state()
        self.forget()
        try:
            yield
        finally:
            self.forget()
            self.restore(before)

    def state(self) -> dict[str, Tensor]:
        """The values for a checkpoint, by the path of the graph that keeps each, and its name there."""
        return {f"{path}/{name}": value for path, memory in self.kept.items() for name, value in memory.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state()`, where the graph still keeps such values."""
        for at, value in state.items():
            path, _, name = at.partition("/")
            if path in self.kept:
                self.kept[path][name] = value
