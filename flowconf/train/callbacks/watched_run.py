"""A run, for its callbacks: where it is, and `log`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowconf.graph.graph import Graph
from flowconf.report import Diagnostic, RunError
from flowconf.train.job import Job
from flowconf.train.runs.folder import Run
from flowconf.train.runs.media import Media, check_name, figure_of, histogram_of, image_of, number_of, text_of

Named = Mapping[str, Any]


class WatchedRun:
    """A run from the perspective of one of its callbacks.

    Example:
        run.log({"norm": codes.norm()}, images={"decoded": decoded[:16]}, histograms={"codes": codes})
    """

    def __init__(self, job: Job, run: Run, name: str, where: Callable[[int], dict[str, object]]) -> None:
        self._job, self._run, self._where = job, run, where
        self.name = name
        """The name of the callback in the config, with which everything that it logs begins."""
        self.step = 0
        """The number of steps so far."""

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole run."""
        return self._job.total_steps

    @property
    def epoch(self) -> float:
        """The number of epochs so far."""
        return self.step / self._job.sampler.batches

    @property
    def phase(self) -> str | None:
        """The current phase."""
        return self._job.active.phase

    @property
    def folder(self) -> Path:
        """The run folder. The same callback gets the same folder when the run is resumed."""
        return self._run.folder.absolute()

    @property
    def config(self) -> dict[str, Any]:
        """The composed config as plain data; environment variables are references."""
        found: dict[str, Any] = self._job.config.origins.root.written()
        return found

    @property
    def graph(self) -> Graph:
        """The graph, in evaluation mode, to look at. Raises `RunError` with `fsdp`: no process has all of it."""
        if self._job.team.whole is not None:
            message = f"the callback `{self.name}` uses `run.graph`, which is sharded over the processes"
            place = self._job.config.origins.value(("callbacks", self.name, "name"))
            advice = "name the values that it needs under `read`, or write `strategy: ddp`"
            raise RunError(Diagnostic("FC0702", message, place, f"callbacks.{self.name}", advice=advice))
        return self._job.graph

    def log(
        self,
        scalars: Named | None = None,
        *,
        images: Named | None = None,
        histograms: Named | None = None,
        figures: Named | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        """Log what has been found after the current step, each by its name, in the run folder and by all loggers.

        `scalars` are numbers, or tensors with one element; `images` tensors or arrays with numbers between 0 and 1, or
        bytes: [height, width], [channels, height, width], or [images, channels, height, width] for a grid; `histograms`
        tensors or arrays of any shape; `figures` those of matplotlib. Raises `TypeError` and `ValueError`.
        """
        numbers = {self._named(name): number_of(name, value) for name, value in (scalars or {}).items()}
        media = Media(
            {
                **{self._named(name): image_of(name, one, self._file(name)) for name, one in (images or {}).items()},
                **{self._named(name): figure_of(name, one, self._file(name)) for name, one in (figures or {}).items()},
            },
            {self._named(name): histogram_of(name, values) for name, values in (histograms or {}).items()},
            {self._named(name): text_of(name, text) for name, text in (texts or {}).items()},
        )
        if numbers or media:
            self._run.log(self.step, numbers, media, **self._where(self.step))

    def _named(self, name: object) -> str:
        return f"{self.name}/{check_name(name)}"

    def _file(self, name: str) -> Path:
        return self.folder / "images" / self._named(name) / f"{self.step}.png"
