"""Loggers: built-in experiment trackers, and those that a project registers.

A logger is a function of the run and its own arguments that returns an object with `log` and `close`. It runs in a
separate thread, so a slow network does not slow the run; a logger that fails is reported once and disabled. With
several processes, only rank 0 has loggers. A resumed run keeps its `id`, and repeated steps are logged again.
"""

from __future__ import annotations

import html
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.report import Diagnostic, MachineError, raised_at
from flowconf.train.runs.listing import flat
from flowconf.train.runs.media import Histogram, Image, Media

__all__ = ["mlflow", "wandb"]

PACKAGES = ("mlflow", "wandb")
"""Loggers that require the package, and the extra of flowconf, of the same name."""
WAITING = 10_000
"""Maximum number of queued entries of a logger; further ones are dropped, and their number is reported."""
PATIENCE = 30.0
"""Seconds that a run waits at its end for its loggers."""


@dataclass(frozen=True)
class LoggedRun:
    """The run, for a logger."""

    id: str
    """Unchanged when the run is resumed."""
    name: str
    """The config's name and the run's time."""
    folder: Path
    config: Mapping[str, Any]
    """The composed config as plain data; environment variables are references, as in the run's `config.yaml`."""
    record: Mapping[str, Any]
    """`run.json`: git state, environment, overrides, seed."""


class Logger(Protocol):
    """Receives the numbers of a run.

    It may also have `log_images`, `log_histograms` and `log_texts`, each a method of the step and what is logged by
    name (`Image`, `Histogram`, `str`). What it has no method for is reported once, and is in the run folder only.
    """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log named numbers after `step` steps."""

    def close(self, status: str) -> None:
        """End the run with the status `finished`, `pruned`, `interrupted` or `failed`."""


def check_packages(config: Config) -> None:
    """Raise `MachineError` if a package that a logger of the config requires is not installed."""
    for name in config.training.loggers:
        if name in PACKAGES and registry.loggers.is_built_in(name) and find_spec(name) is None:
            place = config.origins.key(("loggers", name))
            message = f"the logger `{name}` requires the package `{name}`"
            advice = f"run `pip install 'flowconf[{name}]'`"
            raise MachineError(Diagnostic("FC0601", message, place, f"loggers.{name}", advice=advice))


def start(config: Config, folder: Path, record: Mapping[str, Any], say: Callable[[str], None]) -> list[Aside]:
    """Start the loggers of a run, each in its own thread; `say` reports one that fails."""
    name = f"{folder.parent.name}/{folder.name}"
    written = config.origins.root.written()
    run = LoggedRun(record.get("id", name), name, folder.absolute(), written, record)
    made = {name: partial(registry.loggers.load(name), run, **args) for name, args in config.training.loggers.items()}
    return [Aside(name, make, say) for name, make in made.items()]


class Aside:
    """A logger in its own thread."""

    def __init__(self, name: str, make: Callable[[], Logger], say: Callable[[str], None]) -> None:
        self.name = name
        self._make, self._say = make, say
        self._waiting: queue.Queue[tuple[int, Mapping[str, float], Media] | str] = queue.Queue(WAITING)
        self._lost = 0
        self._lacking: set[str] = set()
        self._works = True
        self._thread = Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float], media: Media) -> None:
        """Queue named numbers and other things, without waiting."""
        if self._works:
            try:
                self._waiting.put_nowait((step, dict(values), media))
            except queue.Full:
                self._lost += 1

    def close(self, status: str) -> None:
        """Wait for queued entries, up to `PATIENCE` seconds."""
        end = time.monotonic() + PATIENCE
        while self._works and self._thread.is_alive() and time.monotonic() < end:
            try:
                self._waiting.put(status, timeout=0.1)
            except queue.Full:
                continue
            self._thread.join(end - time.monotonic())
            break
        if self._thread.is_alive():
            self._works = False
            self._say(f"the logger `{self.name}` does not respond: the end of the run was not logged")
        elif self._lost:
            self._say(f"the logger `{self.name}` was too slow: {self._lost:,} entries were dropped")

    def _work(self) -> None:
        try:
            logger = self._make()
            while not isinstance(entry := self._waiting.get(), str):
                self._log(logger, *entry)
            logger.close(entry)
        except Exception as problem:  # noqa: BLE001 - a network error of any type must not end the run
            self._works = False
            place = raised_at(problem)
            where = "" if place is None else f" ({place})"
            self._say(f"the logger `{self.name}` failed, the run continues without it: {problem}{where}")

    def _log(self, logger: Logger, step: int, values: Mapping[str, float], media: Media) -> None:
        if values:
            logger.log(step, values)
        for kind, found in media.kinds().items():
            log = getattr(logger, f"log_{kind}", None)
            if found and log is not None:
                log(step, found)
            elif found and kind not in self._lacking:
                self._lacking.add(kind)
                self._say(f"the logger `{self.name}` takes no {kind}: they are in the run folder only")


def wandb(
    run: LoggedRun,
    *,
    project: str = "flowconf",
    entity: str | None = None,
    group: str | None = None,
    mode: str | None = None,
    tags: list[str] | None = None,
) -> Logger:
    """Weights & Biases. `mode: offline` writes everything to the run folder, for `wandb sync` later."""
    import wandb as client

    settings = client.Settings(console="off", silent=True)
    tracked = client.init(
        project=project, entity=entity, group=group, mode=mode, tags=tags, id=run.id, name=run.name, resume="allow",
        dir=str(run.folder), config={**run.config, "run": dict(run.record)}, settings=settings,
    )  # fmt: skip
    # A custom step metric: W&B drops entries with decreasing steps, which a resumed run may log.
    tracked.define_metric("step")
    tracked.define_metric("*", step_metric="step")
    return _Wandb(client, tracked)


class _Wandb:
    def __init__(self, client: Any, tracked: Any) -> None:
        self.client, self.tracked = client, tracked

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self.tracked.log({"step": step, **values})

    def log_images(self, step: int, images: Mapping[str, Image]) -> None:
        self.log(step, {name: self.client.Image(str(image.file)) for name, image in images.items()})

    def log_histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        found = {name: (one.counts, one.edges) for name, one in histograms.items()}
        self.log(step, {name: self.client.Histogram(np_histogram=pair) for name, pair in found.items()})

    def log_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self.log(step, {name: self.client.Html(f"<pre>{html.escape(text)}</pre>") for name, text in texts.items()})

    def close(self, status: str) -> None:
        self.tracked.finish(exit_code=0 if status in ("finished", "pruned") else 1)


def mlflow(
    run: LoggedRun, *, tracking_uri: str | None = None, experiment: str = "flowconf", tags: dict[str, str] | None = None
) -> Logger:
    """MLflow. `tracking_uri` is a server or another location that MLflow supports; null: from the environment."""
    import mlflow as client

    server = client.MlflowClient(tracking_uri)
    known = server.get_experiment_by_name(experiment)
    number = known.experiment_id if known is not None else server.create_experiment(experiment)
    found = server.search_runs([number], f"tags.`{ID}` = '{run.id}'")
    if found:
        return _Mlflow(client, server, found[0].info.run_id)
    git = run.record.get("git") or {}
    marks = {ID: run.id, "mlflow.source.git.commit": git.get("commit"), "mlflow.source.name": run.record.get("config")}
    texts = {name: str(text) for name, text in {**marks, **(tags or {})}.items() if text is not None}
    made = server.create_run(number, run_name=run.name, tags=texts)
    settings = [client.entities.Param(key, str(value)[:LONGEST]) for key, value in flat(run.config)]
    for begin in range(0, len(settings), BATCH):
        server.log_batch(made.info.run_id, params=settings[begin : begin + BATCH])
    return _Mlflow(client, server, made.info.run_id)


ID = "flowconf.id"
BATCH, LONGEST = 100, 500
"""MLflow's limits: parameters per batch, and characters per value."""


class _Mlflow:
    def __init__(self, client: Any, server: Any, number: str) -> None:
        self.client, self.server, self.number = client, server, number

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        found = [self.client.entities.Metric(_one_folder(name), value, now, step) for name, value in values.items()]
        self.server.log_batch(self.number, metrics=found)

    def log_images(self, step: int, images: Mapping[str, Image]) -> None:
        for name, image in images.items():
            self.server.log_artifact(self.number, str(image.file), f"images/{name}")

    def log_texts(self, step: int, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            self.server.log_text(self.number, text, f"texts/{name}/{step}.txt")

    def close(self, status: str) -> None:
        words = {"finished": "FINISHED", "pruned": "FINISHED", "interrupted": "KILLED"}
        self.server.set_terminated(self.number, words.get(status, "FAILED"))


def _one_folder(name: str) -> str:
    """`val/loss/label` as `val/loss.label`: MLflow may store metrics as files, and `val/loss` is already one."""
    split, slash, rest = name.partition("/")
    return f"{split}{slash}{rest.replace('/', '.')}"
