"""The results of the shape check."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from flowconf.graph.shapes.inner_values import InnerValues
from flowconf.graph.shapes.scope import Scope
from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.source.demand import without_copies
from flowconf.graph.source.emit import KnownSizes
from flowconf.language.arguments import Call
from flowconf.language.plan import GraphPlan, Value
from flowconf.report import Place, Reporter

T = TypeVar("T", str, int)


@dataclass(frozen=True)
class Arrival:
    """Where an input of the graph arrives as it is: as an argument, or in a module that looks up rows."""

    input: str
    module: Call
    argument: str
    """The name of the argument, "" for the stream."""
    place: Place
    path: str
    rows: int = 0
    """The number of rows that the module has, if it looks up rows."""


@dataclass
class Inference:
    """The result of the check: shapes and parameter sizes by full path, the sizes inferred for `_`, and the errors."""

    plan: GraphPlan
    shapes: dict[str, str] = field(default_factory=dict)
    holes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    filled: dict[str, Call] = field(default_factory=dict)
    """The calls with these `_`, by the same paths."""
    ranks: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inside: dict[str, InnerValues] = field(default_factory=dict)
    """Path of a module with its own `forward` -> the values inside of it."""
    adapted: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """Path of such a module, and a selector -> the modules inside that it selects for adapters."""
    arrivals: list[Arrival] = field(default_factory=list)
    """Where inputs of the whole graph arrive as they are."""
    tied: dict[str, str] = field(default_factory=dict)
    """Parameter -> the parameter that it is."""
    multiples: dict[str, int] = field(default_factory=dict)
    """Symbol of a size that must be a multiple of a number -> that number."""
    offsets: dict[str, int] = field(default_factory=dict)
    """Symbol of a size such as `2 * k + 1` -> the smallest one that fits."""
    reporter: Reporter = field(default_factory=Reporter)
    certain: bool = True
    """Whether every value is known: no shape depends on data, and every input declares its shape."""

    @property
    def sizes(self) -> KnownSizes:
        """The sizes for source generation."""
        ranks, kinds = self._of_all_copies(self.ranks), self._of_all_copies(self.kinds)
        return KnownSizes(self.holes, ranks, kinds, self.adapted)

    def written(self, path: str) -> str:
        """A full path without the numbers of copies with an index, which are constructed by the same line."""
        return without_copies(self.plan, path, of="indexed")

    def _of_all_copies(self, found: Mapping[str, T]) -> dict[str, T]:
        """What holds for all copies of a repeated step, by the path of the step."""
        known: dict[str, set[T]] = {}
        for name, value in found.items():
            path = re.split(r"[(\[#]", name, maxsplit=1)[0]
            known.setdefault(self.written(path) + name[len(path) :], set()).add(value)
        return {name: next(iter(values)) for name, values in known.items() if len(values) == 1}


@dataclass
class Rehearsal:
    """The result of the check with its values, and the `modules` by path."""

    inference: Inference
    scope: Scope
    modules: dict[str, nn.Module]
    sizes: Sizes

    def value(self, value: Value) -> Any:
        """A value as passed to a loss: with all iterations, if there are several."""
        return self.scope.seen(value)
