"""A search for the best values of some keys: `train -m` of a config with `sweep`.

Optuna proposes the values (`study.py`). When a search is resumed, its study is rebuilt from the folders of the runs, so
a search is stored as data alone. With one job, the seed determines all trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path

from flowconf.language.config import RULES, Config
from flowconf.language.sections.directions import direction_of_best
from flowconf.report import ConfigError, Diagnostic, Place, Reporter
from flowconf.report.origins import Node
from flowconf.text.compose import Composition, composing
from flowconf.text.documents import read
from flowconf.text.ranges import Range, divided
from flowconf.train.checks import road
from flowconf.train.checks.ranges import check_search, ranges_of
from flowconf.train.checks.road import Walk
from flowconf.train.commands.study import ENDED, Study
from flowconf.train.commands.swept import Worker, asking, carry_out, note_failure
from flowconf.train.runs.sweeps import Asked, SweepRun, read_runs, refuse_changed, varying
from flowconf.train.screen import Screen
from flowconf.train.stopping import ENDING

OF_HYDRA = ("hydra/sweeper", "hydra/launcher", "hydra.sweeper", "hydra.launcher")


def search_of(asked: Asked) -> Search | None:
    """The search that a command asks for, checked; None if its config has no `sweep`. Raises `FlowconfError`."""
    reporter = Reporter()
    plain, ranges = divided(asked.overrides, reporter)
    settings = [word for word in plain if word.lstrip("+~").startswith(OF_HYDRA)]
    plain = [word for word in plain if word not in settings]
    words = [*plain, *(one.word(one.ends()[0][0]) for one in ranges)]
    try:
        compose = composing(asked.config, words, RULES)
        composition = compose(words)
    except ConfigError:
        if any(map(_is_of_sweep, plain)) or "sweep" in read(asked.config).data:
            raise
        return None  # a grid, or Hydra's sweeper, reports what is wrong
    other = next(_of_hydra(asked, settings), None)
    if composition.document.data.get("sweep") is None:
        if other is None:
            _refuse_intervals(ranges)
        return None
    reporter.stop_on_errors()
    if other is not None:
        text, place = other
        message, advice = f"`{text}` is not used by a search with `sweep`", "remove it, or remove `sweep`"
        raise ConfigError(Diagnostic("FC0123", message, place, advice=advice))
    config = road.composed(composition).to(road.END).checked
    named = {word.lstrip("+").partition("=")[0] for word in words}
    ranges += [one for one in ranges_of(config) if one.key not in named]
    reporter = Reporter(composition.document.origins)
    check_search(config, ranges, lambda words: road.composed(compose(words)).to(road.END), reporter)
    reporter.stop_on_errors()
    own = [word for word in plain if not _is_of_sweep(word)]
    return Search(asked, config, own, ranges, compose)


def _is_of_sweep(word: str) -> bool:
    return word.lstrip("+~").partition("=")[0].partition(".")[0] == "sweep"


def _of_hydra(asked: Asked, words: Sequence[str]) -> Iterator[tuple[str, Place]]:
    """The settings of Hydra's sweepers and launchers in the words and the main file, with their places."""
    yield from ((word, Place(word=word)) for word in words)
    root = read(asked.config).origins.root
    for key, node in _members(root.child("hydra")):
        if f"hydra.{key}" in OF_HYDRA:
            yield f"hydra.{key}", node.key
    for _, entry in _members(root.child("defaults")):
        for key, node in _members(entry):
            if any(name in key for name in OF_HYDRA):
                yield key, node.key


def _refuse_intervals(ranges: Sequence[Range]) -> None:
    """Raise `ConfigError` for an interval in a grid."""
    for one in ranges:
        if not one.choices and one.step is None:
            message = f"`{one.place.word}` is an interval, which a grid cannot try"
            advice = "add `sweep.trials=20` to search"
            raise ConfigError(Diagnostic("FC0103", message, one.place, one.key, advice=advice))


def _members(node: Node | None) -> list[tuple[str, Node]]:
    return [(str(key), child) for key, child in node.members()] if node is not None else []


@dataclass
class Search:
    """A search that has been checked: its config, the words that all runs have, and the ranges of the others."""

    asked: Asked
    config: Config
    words: list[str]
    ranges: list[Range]
    compose: Callable[[Sequence[str]], Composition]
    trains: bool = field(init=False, default=False)
    """Whether a run is being trained in this process."""

    @property
    def planned(self) -> list[tuple[str, ...]]:
        """Nothing: which runs there will be depends on the results of others."""
        return []

    def train_all(self, folder: Path, verbose: bool) -> None:
        """Train all trials that have not ended, in the folder of the search. Raises `KeyboardInterrupt`."""
        section = self.config.training.sweep
        assert section is not None
        study = Study(section, self.ranges, direction_of_best(self.config.training))
        runs = self._runs(study, section.trials, read_runs(folder))
        self.asked.note(folder)
        if section.jobs > 1:
            self._side_by_side(runs, study, section.jobs, folder, verbose)
            return
        for run in runs:
            walk = self._walk(run, folder)
            if walk is not None:
                self.trains = True
                carry_out(walk, run, folder, verbose, asking(run, partial(study.evaluated, run.number)))
                self.trains = False
            study.end(run)

    def _runs(self, study: Study, total: int, begun: Sequence[SweepRun]) -> Iterator[SweepRun]:
        """The unfinished runs of a search, and then new ones, lazily."""
        known = {run.number: run for run in begun}
        left = []
        for number in range(1, max(known, default=0) + 1):
            if number not in known:
                left.append(self._new(number, study))
                continue
            run = known[number]
            self._refuse_another(run)
            study.repeat(run)
            left += [] if run.status in ENDED else [run]
        new = (self._new(number, study) for number in range(max(known, default=0) + 1, total + 1))
        common = set(self.words)
        for run in itertools.chain(left, new):
            Screen().say(f"\nrun {run.number} of {total}: {varying(run.overrides, common)}")
            yield run

    def _new(self, number: int, study: Study) -> SweepRun:
        return SweepRun.new(number, [*self.words, *study.propose(number)], self.config.training)

    def _refuse_another(self, run: SweepRun) -> None:
        """Raise `ConfigError` if the sweep would not make this run now: its config has changed."""
        if any(one.value(run.overrides) is None for one in self.ranges):
            place = self.config.origins.key(("sweep",))
            message = f"the run {run.number} of this sweep is not in the ranges of `sweep.over`: they have changed"
            raise ConfigError(Diagnostic("FC0702", message, place, advice="undo the change, or start a new sweep"))
        refuse_changed(run, road.composed(self.compose(run.overrides)).to(road.BEFORE_TORCH).checked)

    def _walk(self, run: SweepRun, folder: Path) -> Walk | None:
        """The checked config of a run. If it is invalid, this is reported, and the run has failed."""
        try:
            return road.composed(self.compose(run.overrides)).to(road.END)
        except ConfigError as error:
            note_failure(error, run, folder)
            return None

    def _side_by_side(self, runs: Iterator[SweepRun], study: Study, jobs: int, folder: Path, verbose: bool) -> None:
        """Train the runs in separate processes, `jobs` at a time."""
        running: dict[Connection, Worker] = {}
        more = True
        while more or running:
            while more and len(running) < jobs and not (folder / ENDING).exists():
                run = next(runs, None)
                more = run is not None
                walk = None if run is None else self._walk(run, folder)
                if run is not None and walk is not None:
                    worker = Worker.start(walk, run, folder, verbose, jobs)
                    running[worker.connection] = worker
                elif run is not None:
                    study.end(run)
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                worker = running[connection]
                message = worker.message()
                if isinstance(message, SweepRun):
                    del running[connection]
                    worker.process.join()
                    study.end(message)
                else:
                    connection.send(study.evaluated(worker.run.number, message))
            if (folder / ENDING).exists() and not running:
                raise KeyboardInterrupt
