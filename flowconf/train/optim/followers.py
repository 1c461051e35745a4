"""Members that follow others: after each step their parameters move towards those that the optimizer has changed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowconf.graph import freezing
from flowconf.graph.graph import Graph
from flowconf.graph.sharded import held
from flowconf.language.changing import Changing, value_at
from flowconf.language.points import RunLength


class Followers:
    """The members of a graph that follow others; without any, nothing is done.

    Parameters are averaged. Buffers, such as the statistics of a normalisation, are those of the member's own forward
    passes, as in BYOL; those of a member in evaluation mode (`frozen: true`) are copied from the one that it follows.
    """

    def __init__(self, graph: Graph) -> None:
        self._moved: list[tuple[list[Tensor], list[Tensor], float | Changing]] = []
        """The parameters that move, those that they follow, and the decay."""
        self._decays = {follow.path: follow.decay for follow in graph.plan.all_follows()}
        self._copied: list[tuple[Tensor, Tensor]] = []
        for follow in graph.plan.all_follows():
            source = graph.module_at(follow.home)
            for _, module in graph.modules_at(follow.path):
                mine, theirs = dict(module.named_parameters()), dict(source.named_parameters())
                self._moved.append(
                    ([held(mine[name]) for name in mine], [held(theirs[name]) for name in mine], follow.decay)
                )
                if freezing.is_evaluating(module):
                    buffers = dict(source.named_buffers())
                    self._copied += [(buffer, buffers[name]) for name, buffer in module.named_buffers()]

    def changing(self, step: int, length: RunLength) -> dict[str, float]:
        """The decays that change during a run in a step of it, by member."""
        found = self._decays.items()
        return {path: value_at(decay, step, length) for path, decay in found if isinstance(decay, Changing)}

    def update(self, step: int, length: RunLength, skipped: Callable[[], bool] = lambda: False) -> None:
        """Move the followers after a step of a run (0: the first one), unless it was `skipped`."""
        if not self._moved or skipped():
            return
        with torch.no_grad():
            for mine, theirs, decay in self._moved:
                torch._foreach_lerp_(mine, theirs, 1 - value_at(decay, step, length))
            for buffer, source in self._copied:
                buffer.copy_(source)
