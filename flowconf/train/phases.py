"""Phases: the current phase of a run, and what it freezes, scales and weights.

The current phase is determined by the config, the step and the evaluations so far. The settings of a phase apply only
while it lasts: every phase starts from the settings of the config.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from flowconf.graph import freezing
from flowconf.graph.graph import Graph
from flowconf.language.points import RunLength
from flowconf.language.training import Condition, Convergence, PhaseSection, Trend, listed

NEVER = math.inf
Evaluation = tuple[float, float]
"""An evaluation: the number of epochs, and the value, where smaller is better."""


class Phases:
    """The progress of a run through its phases. `current` is a name, or None outside of all phases."""

    def __init__(
        self, sections: Mapping[str, PhaseSection], length: RunLength, direction: Callable[[Trend], str]
    ) -> None:
        """`direction` is `min` for a trend of values of which the smaller ones are better, else `max`."""
        self.sections = list(sections.values())
        self.names = list(sections)
        self.length = length
        self.direction = direction
        self.number = -1
        self.ended = True
        self.history: list[tuple[float, dict[str, float]]] = []
        trends = [trend for section in self.sections for trend in _trends(section)]
        self._watched = {trend.metric for trend in trends}
        self._window = max((trend.epochs for trend in trends), default=0.0)
        self.due: float = 0 if self.sections else NEVER
        """The step before which `advance` has to be called again."""

    @property
    def current(self) -> str | None:
        return None if self.ended else self.names[self.number]

    def advance(self, step: int) -> bool:
        """Advance to the phase of `step` (the first is 0); returns whether `current` has changed."""
        before = self.current
        while self._moves(step):
            self.history = self.history[-1:]
        self.due = min((self._step_of(edge) for edge in self._edges()), default=NEVER)
        return self.current != before

    def observe(self, step: int, found: Mapping[str, float]) -> None:
        """Add an evaluation after `step` steps."""
        if self._watched:
            self.history.append((step / self.length.per_epoch, {name: found[name] for name in self._watched}))
            self._forget()
            self.due = step

    def _forget(self) -> None:
        """Keep of the evaluations before all windows only those with the smallest and the largest values.

        No trend needs the others, and a run may have very many.
        """
        kept: list[object] = []
        edge = math.inf
        for metric in self._watched:
            known = [one for one in self.history if math.isfinite(one[1].get(metric, math.nan))]
            if not known:
                return
            before = known[-1][0] - self._window
            edge = min(edge, before)
            values = [(one[1][metric], number) for number, one in enumerate(known) if one[0] < before]
            kept += [known[choose(values)[1]] for choose in (min, max) if values]
        self.history = [one for one in self.history if one[0] >= edge or any(one is other for other in kept)]

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        begun = self.names[self.number] if self.number >= 0 else None
        return {"begun": begun, "ended": self.ended, "evaluations": self.history}

    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Restore `state()`. Returns notes for the user."""
        begun = state["begun"]
        if begun is not None and begun not in self.names:
            return [f"phases restart: the run was in phase `{begun}`, which is no longer in the config"]
        self.number = -1 if begun is None else self.names.index(begun)
        self.ended = state["ended"]
        self.history = [(epoch, values) for epoch, values in state["evaluations"]]
        return []

    def _moves(self, step: int) -> bool:
        """Start or end a phase, if one is due."""
        following = self.number + 1
        if following < len(self.sections):
            when = self.sections[following].when
            if self._is_met(when, step) if when is not None else self.ended:
                self.number, self.ended = following, False
                return True
        until = None if self.ended else self.sections[self.number].until
        if until is not None and self._is_met(until, step):
            self.ended = True
            return True
        return False

    def _edges(self) -> list[Condition]:
        """The conditions of the next change of phase."""
        until = None if self.ended else self.sections[self.number].until
        when = self.sections[self.number + 1].when if self.number + 1 < len(self.sections) else None
        return [condition for condition in (until, when) if condition is not None]

    def _step_of(self, condition: Condition) -> float:
        """The step at which a condition is met; infinite for a trend."""
        return NEVER if condition.trend is not None else self.length.steps_before(condition)

    def _is_met(self, condition: Condition, step: int) -> bool:
        if condition.stalled is not None:
            return improved(self._points(condition.stalled), condition.stalled) is False
        if condition.improving is not None:
            return improved(self._points(condition.improving), condition.improving) is True
        if condition.converged is not None:
            return converged(self._points(condition.converged), condition.converged)
        return step >= self._step_of(condition)

    def _points(self, trend: Trend | Convergence) -> list[Evaluation]:
        sign = -1 if isinstance(trend, Trend) and self.direction(trend) == "max" else 1
        values = [(epoch, sign * found[trend.metric]) for epoch, found in self.history if trend.metric in found]
        return [(epoch, value) for epoch, value in values if math.isfinite(value)]


def improved(points: Sequence[Evaluation], trend: Trend) -> bool | None:
    """Whether the value improved in the last epochs; None without earlier ones."""
    earlier, recent = _parted(points, trend.epochs)
    return min(recent) < min(earlier) - trend.by if earlier else None


def converged(points: Sequence[Evaluation], trend: Convergence) -> bool:
    """Whether the value was almost constant in the last epochs, if there were that many."""
    earlier, recent = _parted(points, trend.epochs)
    return bool(earlier) and max(recent) - min(recent) <= trend.within * abs(sum(recent) / len(recent))


def _parted(points: Sequence[Evaluation], epochs: float) -> tuple[list[float], list[float]]:
    """The values before the last `epochs` epochs, and those in them."""
    if not points:
        return [], []
    edge = points[-1][0] - epochs + 1e-9
    return [value for epoch, value in points if epoch <= edge], [value for epoch, value in points if epoch > edge]


def _trends(section: PhaseSection) -> list[Trend | Convergence]:
    conditions = [condition for condition in (section.when, section.until) if condition is not None]
    return [condition.trend for condition in conditions if condition.trend is not None]


class Frozen:
    """The frozen parts of a graph: as in the config, and as changed by a phase."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._before = freezing.remember(graph)

    def enter(self, section: PhaseSection | None) -> None:
        """Apply the `freeze` and `thaw` of a phase to the settings of the config; None restores the config."""
        freezing.restore(self.graph, self._before)
        if section is not None:
            for has_kind in (False, True):  # a kind is nearer to a parameter than any path
                for text in listed(section.freeze):
                    if (":" in text) is has_kind:
                        self.graph.freeze(text)
                for text in listed(section.thaw):
                    if (":" in text) is has_kind:
                        self.graph.thaw(text)

    def ever_trained(self, sections: Mapping[str, PhaseSection]) -> set[nn.Parameter]:
        """The parameters that are trainable in the config or in any phase."""
        found = {parameter for parameter in self.graph.parameters() if parameter.requires_grad}
        for section in sections.values():
            self.enter(section)
            found |= {parameter for parameter in self.graph.parameters() if parameter.requires_grad}
        self.enter(None)
        return found
