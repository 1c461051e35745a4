"""Where in the graph the process is: a traced view says of every statement which step it belongs to.

A traced view is a view whose generated source has each step's statements inside of `with __at__(self, "step"):`. Hooks
add what one statement cannot say: the branch, the member of a chain, the copy. A graph that is not traced pays nothing.
In a backward pass the place is that of the forward statement whose operation is taken back.
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
from flowconf.language.plan import join

AT = "__at__"
"""The name in traced source of what says where it is."""

OnVisit = Callable[[str], AbstractContextManager[object]]
"""What is done for every visit of a path: it begins and ends with the visit."""

_trail: Trail | None = None


def traced(program: Program) -> Program:
    """The same program, every statement of which says to which step it belongs."""
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
    """The block of a statement that belongs to the step at `path` of `graph`."""
    return _trail.statement(graph, path) if _trail is not None else nullcontext()


class ModulePaths:
    """Where the modules of a graph stand, as far as its document names them: a module that is shared, at each place."""

    def __init__(self, graph: GraphTree) -> None:
        self._names: dict[nn.Module, list[str]] = {}
        for name, module in graph.named_modules(remove_duplicate=False):
            if _is_of_the_plan(graph, name):
                self._names.setdefault(module, []).append(name)

    def __contains__(self, module: object) -> bool:
        return isinstance(module, nn.Module) and module in self._names

    def of(self, module: nn.Module) -> list[str]:
        """The places of a module."""
        return self._names[module]

    def part(self, module: nn.Module, home: str) -> tuple[str, str] | None:
        """What a module is called below the step whose module stands at `home`, and its place; None for the step's own.

        A branch, a member of a chain, a copy.
        """
        below = next((name for name in self._names[module] if name.startswith(f"{home}.")), None)
        if below is None:
            return None
        part = below.removeprefix(f"{home}.").removeprefix("body.")
        return ("" if part == "body" else part), below


def home_of(graph: GraphTree, name: str, path: str) -> str:
    """Where the module of the step at `path` of `graph` stands, which itself stands at `name`."""
    step = graph.plan.step(path)
    return join(name, step.body.home if step is not None and len(step.parts) == 1 else path)


def _is_of_the_plan(view: nn.Module, name: str) -> bool:
    """Whether what stands at `name` is a member of the document, not the inside of a module."""
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
    """Which step of a traced view runs, within the block `followed`.

    Each visit of a path is one of `visit`. A module that is reused is told at the place where it runs.
    """

    def __init__(self, view: GraphTree, visit: OnVisit = lambda path: nullcontext()) -> None:
        self.view, self.visit = view, visit
        self.stack: list[tuple[str, str]] = []
        """The paths that are being visited, the outermost first, with where their modules stand."""
        self.members = ModulePaths(view)
        self._numbers: list[int] = []
        self._paths: list[str] = []
        self._open: list[AbstractContextManager[object]] = []

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Within the block the trail knows where the process is. One trail at a time."""
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
        """The block of a statement of `graph`."""
        above = self.stack[-1][0] if self.stack else ""
        with self._visited(join(above, path), home_of(graph, self.members.of(graph)[0], path)):
            yield

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        """A block outside of the graph that has a name of its own, such as a loss."""
        with self._visited(name, name):
            yield

    def here(self) -> str:
        """The path that runs now, in a backward pass the one that is taken back; empty outside of all."""
        node: Any = torch._C._current_autograd_node()  # None outside of a backward pass, unlike what its stub says
        if node is not None:
            return self.of_node(node._sequence_nr())
        return self.stack[-1][0] if self.stack else ""

    def of_node(self, number: int) -> str:
        """The path in whose visit the autograd node with this sequence number was made."""
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
        """From the next autograd node on, nodes belong to where the process is now."""
        number = torch._C._autograd._get_sequence_nr()
        if self._numbers and self._numbers[-1] == number:
            self._numbers.pop()
            self._paths.pop()
        self._numbers.append(number)
        self._paths.append(self.stack[-1][0] if self.stack else "")

    # what a statement runs: a branch, a member of a chain, a copy

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
