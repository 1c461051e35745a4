"""The results of the shape check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from flowconf.graph.shapes.scope import Scope
from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.source.emit import KnownSizes
from flowconf.language.plan import Value
from flowconf.report import Reporter


@dataclass
class Inference:
    """The result of the check: shapes and parameter sizes by full path, the sizes inferred for `_`, and the errors."""

    shapes: dict[str, str] = field(default_factory=dict)
    holes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=Reporter)
    certain: bool = True
    """Whether every value is known: no shape depends on data, and every input declares its shape."""

    @property
    def sizes(self) -> KnownSizes:
        """The sizes for source generation."""
        return KnownSizes(self.holes, self.ranks, self.kinds)


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
