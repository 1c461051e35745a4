"""Facts about a graph besides its Plan: shapes, parameters, the sizes for `_`, and generated source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SourceClass:
    """A generated class: its lines, each with the local path of its step, and the classes of the graphs inside."""

    lines: tuple[tuple[str, str], ...]
    children: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """Facts by path; all are empty before the sizes of a graph are checked.

    `shapes`: of values, as text. `parameters`: sizes of tensors, those of equal copies once. `holes`: the sizes for the
    `_` of a call. `modules`: what the modules inside of those of packages and projects are. `untrained`: the paths of
    tensors without gradients, if they are not those that the document freezes. `classes`: generated classes by name, of
    which `main` is that of the whole graph. `accounts`: what a load of weights did, line by line, by the path that it
    was loaded into.
    """

    shapes: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    holes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    untrained: frozenset[str] | None = None
    classes: Mapping[str, SourceClass] = field(default_factory=dict)
    main: str = ""
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
