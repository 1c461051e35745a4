"""Locates an error in a forward pass: the step, its place in the document, and its inputs. No overhead without errors.

Everything is read from the traceback: the lines of generated source, the arguments of modules, and loop variables.
"""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from flowconf.graph import runtime
from flowconf.graph.tracing import ModulePaths, home_of
from flowconf.graph.tree import GraphTree
from flowconf.language.paths import join
from flowconf.language.plan import Step
from flowconf.report import NOWHERE, FlowconfError, Place, dtype_name

NOTE = "in step "
MARK = "_flowconf_step"
"""The attribute of an exception with the path and place of its step."""
MOST = 8
"""The maximum number of rows that are listed."""


def add_notes(problem: BaseException, graph: GraphTree, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Add a note to an exception raised in `graph`: the step and its inputs."""
    if hasattr(problem, MARK):
        return
    with suppress(Exception):  # the original exception must not be hidden by an error here
        found = _FailedStep(given=[*zip(graph.inputs, args, strict=False), *kwargs.items()])
        found.walk(problem, graph)
        setattr(problem, MARK, (found.path, found.place))
        problem.add_note(found.note(graph.plan.label))
        if isinstance(problem, FlowconfError):
            place, path = found.place or NOWHERE, found.path
            problem.diagnostics = tuple(
                replace(one, place=one.place if one.place != NOWHERE else place, path=one.path or path)
                for one in problem.diagnostics
            )


@dataclass(frozen=True)
class _SlicedTensor:
    """A tensor whose slices a statement processes one by one."""

    whole: Tensor
    dim: int | None
    """The dimension of the slices; None for the last dimension split into pieces."""
    item: Any
    """The current slice of a `for` statement; for a comprehension it is found from the call."""
    path: str

    @classmethod
    def around(cls, file: str, line: int, known: Mapping[str, Any], path: str) -> _SlicedTensor | None:
        """The tensor that the statement around a line slices."""
        text = "".join(linecache.getline(file, number) for number in range(max(1, line - 1), line + 2))
        found = re.search(r"(^ *)?for (\w+) in (\w+)\.(?:unbind\((\d+)\)|chunk\()", text, re.MULTILINE)
        whole = known.get(found[3]) if found is not None else None
        if found is None or not isinstance(whole, Tensor):
            return None
        return cls(whole, int(found[4]) if found[4] else None, known.get(found[2]) if found[1] else None, path)

    def number(self, item: Any) -> tuple[int, int] | None:
        """The number of the slice `item` and the count of slices, from its storage; None if it is not a slice."""
        whole = self.whole
        if not isinstance(item, Tensor) or item.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
            return None
        dim, width = (-1, item.shape[-1]) if self.dim is None else (self.dim, 1)
        distance = whole.stride(dim) * width
        if distance == 0:
            return None
        return (item.storage_offset() - whole.storage_offset()) // distance + 1, -(-whole.shape[dim] // width)


@dataclass
class _FailedStep:
    """The state of a walk along a traceback."""

    given: Sequence[tuple[str, Any]]
    """The inputs of the innermost step: names, which may be empty, and values."""
    path: str = ""
    home: str = ""
    """The path of the definition of the module, which differs from `path` for a reused one."""
    place: Place | None = None
    cut: _SlicedTensor | None = None
    """The tensor that the current statement slices."""
    passes: list[tuple[str, str]] = field(default_factory=list)
    """Iterations, slices and rows with their paths, the outermost first."""

    def walk(self, problem: BaseException, graph: GraphTree) -> None:
        members = ModulePaths(graph)
        owner: Any = None
        above = ""
        known: dict[str, Any] = {}
        for frame, line in traceback.walk_tb(problem.__traceback__):
            variables = frame.f_locals
            module: Any = variables.get("self")
            if frame.f_code is nn.Module._wrapped_call_impl.__code__ and owner is not None and module in members:
                part = members.part(module, self.home)
                if part is not None:
                    self.path, self.home = join(self.path, part[0]), part[1]
                self.given = [*(("", value) for value in variables["args"]), *variables["kwargs"].items()]
                self._slice(variables["args"][:1])
            elif frame.f_code is runtime.route.__code__ and "group" in variables:
                self.passes.append((_rows(variables["group"].tolist(), variables["rows"]), self.path))
            program = getattr(module, "_program", None)
            if program is None or frame.f_code.co_filename != program.file or module not in members:
                continue
            if module is not owner:  # a comprehension is a separate frame of the same statement
                owner, above, known = module, self.path, {}
            local, where = program.lines.get(line, ("", None))
            self.path, self.home = join(above, local), home_of(module, members.of(module)[0], local)
            self.place = where or self.place
            known = {**known, **variables}
            text = linecache.getline(program.file, line)
            read = [name for name in re.findall(r"[A-Za-z_]\w*", text) if isinstance(known.get(name), Tensor | dict)]
            self.cut = None
            self.given = [(name, known[name]) for name in dict.fromkeys(read)] or self.given
            step = module.plan.step(local)
            if step is not None:
                self._loops(step, program.file, line, known, members)

    def _loops(self, step: Step, file: str, line: int, known: Mapping[str, Any], members: ModulePaths) -> None:
        """Note the iteration, copy or slice of a step."""
        number = _variable_of_loop(file, line, known)
        if isinstance(number, nn.Module):
            part = members.part(number, self.home)
            self.path, self.home = (join(self.path, part[0]), part[1]) if part is not None else (self.path, self.home)
        elif isinstance(number, int):
            literal = step.repeat if step.repeat is not None else step.limit
            most = "at most " if step.decision == runtime.halts.__name__ else ""
            count = literal.value if literal is not None else "?"
            self.passes.append((f"iteration {number + 1} of {most}{count}", self.path))
        self.cut = _SlicedTensor.around(file, line, known, self.path)
        if self.cut is not None:
            self._slice([self.cut.item])

    def _slice(self, given: Sequence[Any]) -> None:
        """Note the slice that is passed to the current module."""
        found = self.cut.number(given[0]) if self.cut is not None and given else None
        if self.cut is not None and found is not None:
            self.passes.append((f"slice {found[0]} of {found[1]}", self.cut.path))
            self.cut = None

    def note(self, label: str) -> str:
        """The text of the note."""
        where = f" ({self.place})" if self.place is not None else ""
        given = [f"`{name}` {shown(value)}" if name else shown(value) for name, value in self.given]
        passes = [f", {text}" + (f" of `{at}`" if at != self.path else "") for text, at in dict.fromkeys(self.passes)]
        return f"{NOTE}`{self.path or label}`{''.join(passes)}{where}, which got {', '.join(given) or 'nothing'}"


def _variable_of_loop(file: str, line: int, known: Mapping[str, Any]) -> Any:
    """The value of the variable of the `for` statement around a line, or None without one."""
    indent = _indent(linecache.getline(file, line))
    while line > 1 and indent > 8:
        line -= 1
        text = linecache.getline(file, line)
        if text.strip() and _indent(text) < indent:
            indent = _indent(text)
            found = re.match(r"\s*for (\w+) in ", text)
            if found is not None:
                return known.get(found[1])
    return None


def _rows(chosen: Sequence[int], count: int) -> str:
    """The rows of a batch that were passed to a branch."""
    listed = ", ".join(str(row) for row in chosen[:MOST]) + (", ..." if len(chosen) > MOST else "")
    return f"row{'s' if len(chosen) > 1 else ''} {listed} of {count}"


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


def shown(value: Any) -> str:
    """The text of a value: its shape, type and device."""
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {dtype_name(value.dtype)} on {value.device}"
    if isinstance(value, dict):
        return ", ".join(f"`{name}` {shown(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(part) for part in value)}]"
    return f"a {type(value).__name__}"
