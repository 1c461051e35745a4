"""Tracks the current step of a process: a traced view maps every statement to its step.

The generated source of a traced view wraps the statements of each step in `with __at__(self, "step"):`. Hooks add the
branch, the member of a chain, and the copy. Graphs that are not traced have no overhead. In a backward pass the step is
that of the forward statement of the operation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from flowconf.graph.source.emit import GraphClass, Line, Program
from flowconf.graph.tree import GraphTree
from flowconf.language.paths import join

AT = "__at__"
"""The name in traced source of the context manager for the current step."""

OnVisit = Callable[[str], AbstractContextManager[object]]
"""Path -> a context manager for the duration of a visit."""

_trail: Trail | None = None


def traced(program: Program) -> Program:
    """The program with every statement wrapped in the context of its step."""
    classes = tuple(_traced_class(part) for part in program.classes)
    return replace(program, classes=classes, objects={**program.objects, AT: at})


def _traced_class(part: GraphClass) -> GraphClass:
    lines: list[Line] = list(part.lines[: part.forward])
    for path, statement in groupby(part.lines[part.forward :], lambda line: line.path):
        found = list(statement)
        if path:
            lines.append(Line(f'        with {AT}(self, "{path}"):', path, found[0].place))
            found = [replace(line, text=f"    {line.text}") for line in found]
        lines += found
    return replace(part, lines=tuple(lines))


def at(graph: GraphTree, path: str) -> AbstractContextManager[object]:
    """The context of a statement of the step at `path` of `graph`."""
    return _trail.statement(graph, path) if _trail is not None else nullcontext()


class ModulePaths:
    """The paths of the modules of a graph that are named in its document; shared modules have several."""

    def __init__(self, graph: GraphTree) -> None:
        self._names: dict[nn.Module, list[str]] = {}
        for name, module in graph.named_modules(remove_duplicate=False):
            if _is_of_the_plan(graph, name):
                self._names.setdefault(module, []).append(name)

    def __contains__(self, module: object) -> bool:
        return isinstance(module, nn.Module) and module in self._names

    def of(self, module: nn.Module) -> list[str]:
        """The paths of a module."""
        return self._names[module]

    def part(self, module: nn.Module, home: str) -> tuple[str, str] | None:
        """The name of a module below the step at `home`, and its path; None for the module of the step itself.

        It is a branch, a member of a chain, or a copy.
        """
        below = next((name for name in self._names[module] if name.startswith(f"{home}.")), None)
        if below is None:
            return None
        part = below.removeprefix(f"{home}.").removeprefix("body.")
        return ("" if part == "body" else part), below


def home_of(graph: GraphTree, name: str, path: str) -> str:
    """The path of the module of the step at `path` of `graph`, which has the path `name`."""
    step = graph.plan.step(path)
    return join(name, step.body.home if step is not None and len(step.parts) == 1 else path)


def _is_of_the_plan(view: nn.Module, name: str) -> bool:
    """Whether the module at `name` is a member of the document, not a part inside a module."""
    above, _, last = name.rpartition(".")
    owner = view.get_submodule(above)
    if not name or isinstance(owner, GraphTree):
        return True
    if isinstance(owner, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return _is_of_the_plan(view, above)
    around, _, step = above.rpartition(".")
    graph = view.get_submodule(around)
    parts = (
        [part.path for member in graph.plan.steps for part in member.applied()] if isinstance(graph, GraphTree) else []
    )
    return f"{step}.{last}" in parts


class Trail:
    """Tracks the running step of a traced view, within the block `followed`.

    Each visit of a path runs in the context `visit`. A reused module has the path of the step that runs it.
    """

    def __init__(self, view: GraphTree, visit: OnVisit = lambda path: nullcontext()) -> None:
        self.view, self.visit = view, visit
        self.stack: list[tuple[str, str]] = []
        """The visited paths, the outermost first, with the paths of their modules."""
        self.members = ModulePaths(view)
        self._numbers: list[int] = []
        self._paths: list[str] = []
        self._open: list[AbstractContextManager[object]] = []

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Track the process within the block. Only one trail can be active."""
        global _trail
        assert _trail is None
        hooks = [
            register_module_forward_pre_hook(self._called),
            register_module_forward_hook(self._returned, always_call=True),
        ]
        _trail = self
        try:
            yield
        finally:
            _trail = None
            for hook in hooks:
                hook.remove()
            self.stack.clear()
            self._open.clear()

    @contextmanager
    def statement(self, graph: GraphTree, path: str) -> Iterator[None]:
        """The context of a statement of `graph`."""
        above = self.stack[-1][0] if self.stack else ""
        with self._visited(join(above, path), home_of(graph, self.members.of(graph)[0], path)):
            yield

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        """A named block outside of the graph, such as a loss."""
        with self._visited(name, name):
            yield

    def here(self) -> str:
        """The current path, in a backward pass that of the forward operation; empty outside of all."""
        node: Any = torch._C._current_autograd_node()  # None outside of a backward pass, contrary to its stub
        if node is not None:
            return self.of_node(node._sequence_nr())
        return self.stack[-1][0] if self.stack else ""

    def of_node(self, number: int) -> str:
        """The path in whose visit the autograd node with this sequence number was created."""
        found = bisect_right(self._numbers, number) - 1
        return self._paths[found] if found >= 0 and number < 2**63 else ""

    @contextmanager
    def _visited(self, path: str, home: str) -> Iterator[None]:
        with self.visit(path):
            self.stack.append((path, home))
            self._mark()
            try:
                yield
            finally:
                self.stack.pop()
                self._mark()

    def _mark(self) -> None:
        """Assign autograd nodes to the current path, from the next one on."""
        number = torch._C._autograd._get_sequence_nr()
        if self._numbers and self._numbers[-1] == number:
            self._numbers.pop()
            self._paths.pop()
        self._numbers.append(number)
        self._paths.append(self.stack[-1][0] if self.stack else "")

    # parts of a statement: a branch, a member of a chain, a copy

    def _called(self, module: nn.Module, args: Any) -> None:
        if module not in self.members:
            return
        block: AbstractContextManager[object] = nullcontext()
        if module is self.view:
            block = self._visited("", "")
        elif self.stack:
            path, home = self.stack[-1]
            part = self.members.part(module, home)
            block = self._visited(join(path, part[0]), part[1]) if part is not None and part[0] else block
        block.__enter__()
        self._open.append(block)

    def _returned(self, module: nn.Module, args: Any, output: Any) -> None:
        if module in self.members and self._open:
            self._open.pop().__exit__(None, None, None)
