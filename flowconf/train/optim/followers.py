"""Members that follow others: after each step their parameters move towards those that the optimizer has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flowconf.graph import freezing
from flowconf.graph.graph import Graph
from flowconf.graph.sharded import held
from flowconf.language.changing import Changing, value_at
from flowconf.language.points import RunLength
from flowconf.train.optim.kept import kept, move


class Followers:
    """The members of a graph that follow others; without any, nothing is done.

    Parameters are averaged. Buffers, such as the statistics of a normalisation, are those of the member's own forward
    passes, as in BYOL; those of a member in evaluation mode (`frozen: true`) are copied from the one that it follows.
    """

    def __init__(self, graph: Graph) -> None:
        self._moved: list[tuple[list[Tensor], list[Tensor], float | Changing]] = []
        """The parameters that move, those that they follow, and the decay."""
        self._decays = {follow.path: follow.decay for follow in graph.plan.all_follows()}
        self._kept: list[Tensor] | None = None
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
        shares: Sequence[float | Tensor] = self._kept or self._shares(step, length)
        for (mine, theirs, _), share in zip(self._moved, shares, strict=True):
            move(mine, theirs, share)
        with torch.no_grad():
            for buffer, source in self._copied:
                buffer.copy_(source)

    def keep(self, step: int, length: RunLength, device: torch.device) -> None:
        """Keep the shares of a step in tensors, from which updates read them from now on."""
        self._kept = kept(self._kept, self._shares(step, length), device)

    def _shares(self, step: int, length: RunLength) -> list[float]:
        """How far each of `_moved` moves after a step."""
        return [1 - value_at(decay, step, length) for _, _, decay in self._moved]
