"""Learning rates over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, optim

from flowconf.language import registry
from flowconf.language.points import RunLength
from flowconf.language.training import ScheduleSection
from flowconf.report import Diagnostic, RunError, listing
from flowconf.train.optim.kept import kept

ScheduleFunction = Callable[[float], float]
ArgsOf = Callable[[ScheduleSection], Mapping[str, Any]]


@dataclass(frozen=True)
class Stretch:
    """A schedule for the steps from `begin` to `end`."""

    name: str
    shape: ScheduleFunction
    warmup: int
    begin: int
    end: int

    def factor(self, step: int) -> float:
        """The factor for a step: linear up to 1 in the last step of the warmup, then by the schedule.

        Raises `RunError` for a negative factor, and for one that is not finite.
        """
        done, length = step - self.begin, self.end - self.begin
        if done < self.warmup:
            return (done + 1) / self.warmup
        found = self.shape(min((done - self.warmup) / max(length - self.warmup, 1), 1.0))
        if not 0 <= found < math.inf:
            message = f"the schedule `{self.name}` returned the learning rate factor {found:g} in step {step + 1:,}"
            raise RunError(Diagnostic("FC0702", message, advice="return a finite number of at least 0"))
        return found


class Schedule:
    """Schedules one after the other."""

    def __init__(
        self,
        sections: Sequence[ScheduleSection],
        length: RunLength,
        args_of: ArgsOf = lambda section: section.args,
    ) -> None:
        """`args_of` gives the arguments of a section."""
        self.stretches: list[Stretch] = []
        begin = 0
        for section in sections:
            end = length.steps if section.until is None else length.steps_before(section.until)
            shape, warmup = made(section.name, args_of(section)), length.steps_before(section.warmup)
            self.stretches.append(Stretch(section.name, shape, warmup, begin, end))
            begin = end

    def factor(self, step: int) -> float:
        """The factor for `step` (the first is 0)."""
        for stretch in self.stretches:
            if step < stretch.end:
                return stretch.factor(step)
        return self.stretches[-1].factor(step)


def made(name: str, args: Mapping[str, Any]) -> ScheduleFunction:
    """A registered schedule with its arguments. Raises what its class raises."""
    schedule = registry.schedules.load(name)
    found: ScheduleFunction = schedule(**args) if isinstance(schedule, type) else partial(schedule, **args)
    return found


class LearningRate:
    """Sets the learning rate of every group before each step: its `lr` times the factors of schedule and phase."""

    def __init__(
        self, optimizers: Iterable[optim.Optimizer], schedules: Sequence[Schedule], of_groups: Sequence[int]
    ) -> None:
        """`of_groups` is the number of the schedule of each parameter group."""
        self.optimizers = list(optimizers)
        self.schedules = schedules
        self.of_groups = of_groups
        self.base = [float(group.get("lr", 1.0)) for group in self.groups]
        self.factors = [1.0] * len(self.base)
        """The factor of the current phase for each group."""
        self.rates = list(self.base)
        """The current learning rate of each group."""
        self._device: torch.device | None = None
        self._kept: list[Tensor] | None = None
        stretches = [stretch for schedule in schedules for stretch in schedule.stretches]
        self._watching: list[tuple[str, Any]] = [
            (one.name, one.shape) for one in stretches if hasattr(one.shape, "observe")
        ]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers, which replace them when their state is loaded."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def set(self, step: int) -> None:
        """Set the learning rates for `step` (the first is 0). Raises `RunError` if the groups have changed."""
        groups = self.groups
        if len(groups) != len(self.base):
            message = f"the optimizer has {len(groups)} groups of parameters, and had {len(self.base)} at the start"
            raise RunError(Diagnostic("FC0702", message, advice="add no groups in `step`"))
        factors = [schedule.factor(step) for schedule in self.schedules]
        for at, (base, number, own) in enumerate(zip(self.base, self.of_groups, self.factors, strict=True)):
            self.rates[at] = base * factors[number] * own
        if self._device is not None:
            self._kept = kept(self._kept, self.rates, self._device)
        for group, rate in zip(groups, self._kept or self.rates, strict=True):
            group["lr"] = rate

    def keep(self, step: int, device: torch.device) -> None:
        """Keep the learning rates of a step in tensors, from which optimizers read them from now on."""
        self._device = device
        self.set(step)

    def observe(self, values: Mapping[str, float]) -> None:
        """Pass a report of the run to the schedules that depend on values."""
        for _, shape in self._watching:
            shape.observe(values)

    def state(self) -> list[tuple[str, dict[str, Any]]]:
        """The name and plain data of each schedule that depends on values, for a checkpoint."""
        return [(name, shape.state()) for name, shape in self._watching]

    def restore(self, states: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Restore `state()` where the schedules are the same. Returns notes for the user."""
        if [name for name, _ in states] != [name for name, _ in self._watching]:
            names = listing(list(dict.fromkeys(name for name, _ in self._watching)))
            return [f"schedules start fresh: {names}"] if states and names else []
        for (_, shape), (_, state) in zip(self._watching, states, strict=True):
            shape.restore(state)
        return []
