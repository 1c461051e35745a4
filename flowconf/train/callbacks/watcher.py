"""The moments of a run at which it can be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Concatenate, ParamSpec

from torch import Tensor

from flowconf.train.data.feed import Feed, in_parts
from flowconf.train.runs.folder import Run

P = ParamSpec("P")
Take = Callable[[Any, Tensor, int], list[Tensor]]
"""Takes a training step: the job, the rows, and the number of steps before it."""
Saved = tuple[dict[str, Any], dict[str, Tensor]]
"""Plain data and tensors, by name."""


class Watcher:
    """Sees a run, and does not change it. Every method does nothing by default.

    All processes call the methods, with the number of steps so far.
    """

    def begin(self, run: Run, where: Callable[[int], dict[str, object]]) -> None:
        """Before anything else: `run` logs what is seen, and `where` gives the epoch and phase of a step."""

    def reads(self, step: int) -> bool:
        """Before a step, after which there are `step` steps: whether its batch is needed."""
        return False

    def start(self, step: int) -> None:
        """Before the first step of this process."""

    def gradients(self, step: int) -> None:
        """Within a step, when its gradients are known and nothing has moved; `step` is the number of steps after it."""

    def updated(self, step: int) -> None:
        """Within a step, after the optimizers."""

    def step(self, step: int) -> None:
        """After a step."""

    def logged(self, step: int) -> None:
        """After the losses of the last steps are logged: every `trainer.log_every` steps, and at the last one."""

    def evaluated(self, step: int, found: Mapping[str, float]) -> None:
        """After an evaluation, with its values by name."""

    def end(self, step: int) -> None:
        """After the end of the run."""

    def state(self) -> Saved:
        """The state to save. Raises `RunError` for state that cannot be saved."""
        return {}, {}

    def restore(self, saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
        """Restore `state()`. Returns notes for the user."""
        return []


class Watchers:
    """All watchers of a run, of which only the overridden methods are called."""

    def __init__(self, watchers: Iterable[Watcher] = ()) -> None:
        self.all = tuple(watchers)
        self._calls = {
            name: [getattr(one, name) for one in self.all if getattr(type(one), name) is not method]
            for name, method in vars(Watcher).items()
            if not name.startswith("_")
        }

    def tell(self, moment: Callable[Concatenate[Any, P], None], *given: P.args, **named: P.kwargs) -> None:
        """Call a method of all watchers, such as `Watcher.step`."""
        for call in self._calls[moment.__name__]:
            call(*given, **named)

    def recording(self, feed: Feed, take: Take) -> Take:
        """`take`, which notes the batch of a step in `feed` if one of them needs it."""
        return partial(self._recorded, feed, take) if self._calls["reads"] else take

    def state(self) -> Saved:
        """The state of all watchers."""
        plain: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for one in self.all:
            found, held = one.state()
            plain |= found
            tensors |= held
        return plain, tensors

    def restore(self, saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
        """Restore `state()`. Returns notes for the user."""
        return [note for one in self.all for note in one.restore(saved, tensors)]

    def _recorded(self, feed: Feed, take: Take, job: Any, rows: Tensor, step: int) -> list[Tensor]:
        """A step, whose batch is noted if it is needed: its parts, without what an optimizer computes once more."""
        wanted = [reads(step + 1) for reads in self._calls["reads"]]
        feed.seen = [] if any(wanted) else None
        losses = take(job, rows, step)
        if feed.seen is not None:
            del feed.seen[len(in_parts(rows, job.config.training.trainer.accumulate)) :]
        return losses
