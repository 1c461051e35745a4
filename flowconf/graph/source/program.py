"""Runs generated source: from a `Program` to classes, and from classes to modules that can be copied and pickled."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Mapping
from functools import lru_cache
from itertools import count
from types import ModuleType
from typing import Any

import torch
from torch import nn

from flowconf.graph import runtime
from flowconf.graph.source.emit import BETWEEN, GraphClass, Program
from flowconf.language import confined
from flowconf.language.registry import adapters, modules
from flowconf.language.resolve.reserved_names import RUNTIME
from flowconf.report import Place

_numbers = count(1)

Location = tuple[str, Place | None]

Bases = tuple[type[nn.Module], type[nn.Module]]
"""The base classes of generated classes: of nested graphs, and of the outermost one."""


class CompiledProgram:
    """The classes of a program, and the step of each line."""

    def __init__(self, program: Program, bases: Bases) -> None:
        self.program, self.bases = program, bases
        self.file = f"<flowconf graph {next(_numbers)}>"
        self.lines: dict[int, Location] = {}
        self.owners: dict[int, str] = {}
        """The class of each line."""
        text = program.source
        linecache.cache[self.file] = (len(text), None, text.splitlines(keepends=True), self.file)
        module = ModuleType(f"flowconf.generated_{next(_numbers)}")
        sys.modules[module.__name__] = module  # the compiler looks up globals by module name
        namespace: dict[str, Any] = module.__dict__
        namespace |= {"torch": torch, "nn": nn, **program.objects}
        namespace |= {name: getattr(runtime, name) for name in RUNTIME}
        for source, names in program.names.items():
            namespace |= {name: _loaded(source, name) for name in names if name not in namespace}
        packages = (name for name in program.whole if name.partition(".")[0] != "torch")
        namespace |= {name.partition(".")[0]: confined.package(name) for name in packages}
        self.classes: dict[str, type[nn.Module]] = {}
        nested, outermost = bases
        first = len(program.header) + BETWEEN + 1
        for part in program.classes:
            steps = {number: line for number, line in enumerate(part.lines, first) if line.path}
            self.lines |= {number: (line.path, line.place) for number, line in steps.items()}
            self.owners |= dict.fromkeys(steps, part.name)
            code = compile("\n" * (first - 1) + part.text, self.file, "exec")
            exec(code, namespace)  # the text is generated from a Plan: names and literals only
            generated = namespace[part.name]
            base = outermost if part is self.main else nested
            made = type(part.name, (base, generated), {"__module__": module.__name__, "_program": self})
            self.classes[part.name] = namespace[part.name] = made
            first += len(part.lines) + BETWEEN

    @property
    def main(self) -> GraphClass:
        """The class of the whole graph."""
        return self.program.classes[-1]

    def children(self, name: str) -> Mapping[str, str]:
        """The nested graphs of a class: local path -> class."""
        return next(part.children for part in self.program.classes if part.name == name)

    def __reduce__(self) -> tuple[Any, ...]:
        return compiled, (_Same(self.program), self.bases)


class _Same:
    """A program as a cache key: equal if the text and the origin of each line are equal."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.program == other.program

    def __hash__(self) -> int:
        return hash(self.program.source)


@lru_cache(maxsize=256)
def compiled(key: _Same, bases: Bases) -> CompiledProgram:
    """The classes of a program; equal programs are run once."""
    return CompiledProgram(key.program, bases)


def run(program: Program, bases: Bases) -> CompiledProgram:
    """`compiled` for a program that may have objects, which are never shared."""
    if program.objects:
        return CompiledProgram(program, bases)
    return compiled(_Same(program), bases)


def restore(program: CompiledProgram, name: str) -> nn.Module:
    """An empty module of a generated class, for unpickling."""
    cls = program.classes[name]
    return cls.__new__(cls)


def _loaded(source: str, name: str) -> Any:
    """A module class or an adapter by its name and the module that defines it."""
    return adapters.load(name) if adapters.home(name) == source else modules.load(name)
