"""Views of a graph whose weights are sharded. This file needs nothing of torch's sharding, which is slow to import."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flowconf.graph.graph import Graph


class Whole(nn.Module):
    """The graph, whose weights are gathered while a view of it runs."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, view: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs of `view` for a batch."""
        found: dict[str, Tensor] = view(**batch)
        return found


class ShardedView(nn.Module):
    """A view of a graph with sharded weights; called and trained like the view itself."""

    whole: Any
    """A `Whole` that `fully_shard` has extended."""

    def __init__(self, whole: Whole, view: nn.Module) -> None:
        super().__init__()
        self.__dict__["whole"] = whole
        self.view = view

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """The outputs of the view for a batch."""
        found: dict[str, Tensor] = self.whole(self.view, batch)
        if not torch.is_grad_enabled():
            self.whole.reshard()  # with gradients the backward pass does it
        return found
