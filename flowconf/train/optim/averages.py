"""Moving averages of the weights, which are evaluated and saved instead of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from flowconf.graph.sharded import held, like
from flowconf.report import listing
from flowconf.train.optim.kept import kept, move
from flowconf.train.optim.state import FEW


class Averages:
    """An exponential moving average of each trained parameter; disabled, at no cost, if `decay` is None.

    The decay is warmed up so that the initial weights are soon forgotten: `min(decay, (1 + step) / (10 + step))`, as in
    TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float | None) -> None:
        self.decay = decay
        self.names = list(named) if decay is not None else []
        parameters = [named[name].detach() for name in self.names]
        self.values = [parameter.clone() for parameter in parameters]
        self._kept: list[Tensor] | None = None
        self._weights = [held(parameter) for parameter in parameters]
        self._averages = [held(value) for value in self.values]

    def update(self, step: int, skipped: Callable[[], bool] = lambda: False) -> None:
        """Update the averages with the weights after `step` steps, unless the last step was `skipped`."""
        if self.decay is not None and not skipped():
            share = _share(self.decay, step) if self._kept is None else self._kept[0]
            move(self._averages, self._weights, share)

    def keep(self, step: int, device: torch.device) -> None:
        """Keep the share of the weights after `step` steps in a tensor, from which updates read it from now on."""
        if self.decay is not None:
            self._kept = kept(self._kept, [_share(self.decay, step)], device)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A block in which the weights of the graph are replaced by the averages."""
        if self.decay is None:
            yield
            return
        before = [weights.clone() for weights in self._weights]
        self._fill(self._averages)
        try:
            yield
        finally:
            self._fill(before)

    def state(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint, by name."""
        return {average_of(name): value for name, value in zip(self.names, self.values, strict=True)}

    def restore(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Restore `state()`; missing averages are initialized from the weights. Returns notes for the user."""
        restarted = []
        for name, value, average, weights in zip(self.names, self.values, self._averages, self._weights, strict=True):
            found = tensors.get(average_of(name))
            if found is not None and found.shape == value.shape:
                value.copy_(like(value, found))
            else:
                average.copy_(weights)
                restarted.append(name)
        return [f"averages start from the current weights for {listing(restarted, FEW)}"] if restarted else []

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self._weights, values)


def _share(decay: float, step: int) -> float:
    """The share of the weights after `step` steps in their average."""
    return 1 - min(decay, (1 + step) / (10 + step))


def average_of(name: str) -> str:
    """The name of the average of a parameter in a checkpoint."""
    return f"average/{name}"
