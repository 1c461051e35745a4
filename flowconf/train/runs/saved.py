"""The data in a checkpoint besides its tensors, as Pydantic models, which validate it when it is read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from flowconf.language.section import Section
from flowconf.language.value_types import Count, Positive


class SavedPhases(Section):
    """The progress of a run through its phases."""

    begun: str | None
    """The latest phase that began; None before the first one."""
    ended: bool
    """Whether it has ended, too."""
    evaluations: list[tuple[float, dict[str, float]]]
    """The evaluations since the last change of phase: the epochs done, and values, smaller ones being better."""


class SavedBest(Section):
    """The best evaluation so far."""

    step: Count
    latest: Count
    waited: Count
    metrics: dict[str, float]
    kept: list[tuple[Count, float]] = []
    """The steps with the best values, whose weights are kept, and the values; the best one first."""
    of: str = ""
    """The name of these values."""
    value: float | None = None
    """That of the latest evaluation; None for NaN."""


class SavedShares(Section):
    """How much of each batch every process computes, as it was measured."""

    measured: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    measured_from: Count


class Progress(Section):
    """The progress of a run."""

    step: Count
    epoch: Count
    position: Count
    """In rows of the epoch."""
    rows: Positive
    """Of the training split."""
    phases: SavedPhases
    best: SavedBest
    schedules: list[tuple[str, dict[str, Any]]] = []
    """The name and state of each learning rate schedule that depends on values of the run."""
    shares: SavedShares | None
    callbacks: dict[str, Any] = {}
    """The state of each callback."""
    terms: list[str]
    """The columns of the losses that have not been logged yet, after the loss itself."""
    log: Count
    """Bytes of the log."""


class SavedPart(Section):
    """One of the optimizers."""

    name: str
    parameters: list[str]
    settings: dict[str, Any] = {}
    """Those that its state depends on as a whole."""


class SavedOptimizer(Section):
    """The state of the optimizers other than tensors."""

    parts: list[SavedPart]
    state: dict[str, dict[str, Any]]
    """Name of a parameter -> what is kept for it; every parameter of the optimizers is there."""

    @model_validator(mode="after")
    def _has_all(self) -> SavedOptimizer:
        if self.state.keys() != {name for part in self.parts for name in part.parameters}:
            raise ValueError("it has the state of other parameters than those of its parts")
        return self


class SavedState(Section):
    """Everything in a checkpoint beside its tensors."""

    progress: Progress
    optimizer: SavedOptimizer
    scaler: dict[str, int | float] | None
