"""Callbacks that flowconf offers: the values that they read, as histograms or images."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from flowconf.language.value_types import Positive
from flowconf.train.callbacks.watched_run import WatchedRun

__all__ = ["Histograms", "Images"]


class Histograms:
    """Histograms of the values that it reads."""

    def values(self, run: WatchedRun, values: Mapping[str, Tensor]) -> None:
        """Log a histogram of each value."""
        run.log(histograms={_name(reference): value for reference, value in values.items()})


class Images:
    """The values that it reads as images: [rows, height, width] or [rows, channels, height, width]."""

    def __init__(self, *, rows: Positive = 16) -> None:
        self.rows = rows

    def values(self, run: WatchedRun, values: Mapping[str, Tensor]) -> None:
        """Log the first rows of each value as a grid."""
        rows = {_name(reference): value[: self.rows] for reference, value in values.items()}
        run.log(images={name: value[:, None] if value.ndim == 3 else value for name, value in rows.items()})


def _name(reference: str) -> str:
    """A reference as a name of what is logged."""
    return reference.replace("[", ".").replace("]", "").replace(" ", "")
