"""Training: data, losses, metrics, loops, runs. Called, it trains a config: `run = flowconf.train("digits.yaml")`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowconf.train.runs.finished import TrainedRun


class _TrainingPackage(ModuleType):
    """The package and the function `flowconf.train` have one name; this module is both."""

    def __call__(
        self, file: str | os.PathLike[str], overrides: Sequence[str] = (), *, trust: bool = False
    ) -> TrainedRun:
        """Train a config; see `flowconf.train.python.train`."""
        from flowconf.train.python import train

        return train(file, overrides, trust=trust)


sys.modules[__name__].__class__ = _TrainingPackage
