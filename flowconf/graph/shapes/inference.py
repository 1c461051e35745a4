"""What the shape check finds."""

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
    """What the check found: shapes and parameter sizes by full path, the sizes behind `_`, and the mistakes."""

    shapes: dict[str, str] = field(default_factory=dict)
    holes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=Reporter)
    certain: bool = True
    """Whether every value is known: none depends on numbers, and every input says its shape."""

    @property
    def sizes(self) -> KnownSizes:
        """What the source needs of it."""
        return KnownSizes(self.holes, self.ranks, self.kinds)


@dataclass
class Rehearsal:
    """What the check found, and the values that it found it with: `modules` by the path at which they stand."""

    inference: Inference
    scope: Scope
    modules: dict[str, nn.Module]
    sizes: Sizes

    def value(self, value: Value) -> Any:
        """A value as a loss gets it: that of every iteration where there are several."""
        return self.scope.seen(value)
