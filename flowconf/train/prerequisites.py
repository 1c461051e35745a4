"""Prerequisites: a config whose weights another config needs is trained first, as a separate run.

A `checkpoint: {config: X}` anywhere in the graph refers to the newest finished run of X; `where` asks for one whose
config has certain values. If there is none, X becomes a stage, with the same composition, seed and run folder as
`flowconf train X`, with the values of `where` as overrides, and therefore the same weights. All stages are planned,
checked and printed before the first one runs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flowconf.graph.weights.sources import CONFIG, Conditions, beside, finished_runs, record
from flowconf.language import config as configs
from flowconf.language import references
from flowconf.language.config import Config, GraphAloneError
from flowconf.language.plan import GraphPlan
from flowconf.language.points import Point
from flowconf.language.training import KeepSection
from flowconf.language.values import ABSENT, same, value_of
from flowconf.report import NOWHERE, ConfigError, Diagnostic, Label, Place, shown_path
from flowconf.text.compose import Composition
from flowconf.text.documents import read
from flowconf.text.overrides import word_of
from flowconf.text.write import inline
from flowconf.train.checks.weights import start_of
from flowconf.train.runs.listing import flat, is_ignored

KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)
MOST = 5
"""How many differing keys of a run are listed."""

Source = tuple[Path, tuple[str, ...]]
"""A training config and the overrides that it is trained with."""
Load = Callable[[Source], Config]
"""Loads the training config of a stage."""


@dataclass(frozen=True)
class Wanted:
    """A config whose weights are needed: the config that needs them, the path in its graph, and the place of this.

    `part` is the path in the graph of `file` whose weights are needed, None for the whole graph; `step` is the one
    whose weights are needed, None for the best ones. `where` are the values that the config of a run has to have, and
    `places` where they are written.
    """

    asker: Path
    file: Path
    at: str
    place: Place
    part: str | None = None
    part_place: Place = NOWHERE
    step: int | None = None
    step_place: Place = NOWHERE
    where: Conditions = ()
    places: Sequence[Place] = ()

    @contextmanager
    def in_its_words(self) -> Iterator[None]:
        """A block whose errors about the values of `where` have the places at which they are written."""
        places = dict(zip(self.source[1], self.places, strict=True))

        def moved(one: Diagnostic) -> Diagnostic:
            labels = tuple(
                replace(label, place=places.get(label.place.word or "", label.place)) for label in one.labels
            )
            return replace(one, place=places.get(one.place.word or "", one.place), labels=labels)

        try:
            yield
        except ConfigError as error:
            raise type(error)(*map(moved, error.diagnostics)) from None

    @property
    def source(self) -> Source:
        """The config and its overrides."""
        return self.file, tuple(word_of(key, value) for key, value in self.where)

    @property
    def command(self) -> str:
        """The command that trains it."""
        return f"flowconf train {shlex.join([shown_path(self.file), *self.source[1]])}"


@dataclass
class Prerequisites:
    """The configs to train, in order of dependency, and the finished runs to load weights from."""

    runs: list[Config] = field(default_factory=list)
    reasons: dict[Source, Wanted] = field(default_factory=dict)
    found: dict[Source, FinishedRun] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The plan as lines of text; empty for a single run without prerequisites."""
        lines = [line for found in self.found.values() for line in found.lines()]
        if len(self.runs) > 1:
            lines.append(f"{len(self.runs)} stages:")
            for number, config in enumerate(self.runs, 1):
                file, words = source = source_of(config)
                wanted = self.reasons.get(source)
                why = f": required by `{wanted.at}`, no finished run" if wanted else ""
                lines.append(f"  {number}. {' '.join([shown_path(file), *(words if wanted else ())])}{why}")
        return lines


@dataclass(frozen=True)
class FinishedRun:
    """A finished run to load weights from, the number of runs that it was chosen from, and how it differs.

    `differences` are keys with their values in the run and in the config as it is now; None: it cannot be composed.
    """

    run: Path
    wanted: Wanted
    runs: int
    differences: list[tuple[str, Any, Any]] | None

    def lines(self) -> list[str]:
        """Which run it is, and a warning if it differs from the config."""
        newest = f", the newest of {self.runs} runs" if self.runs > 1 else ""
        line = f"weights of `{self.wanted.at}`: {described(self.run)}{newest}"
        file = shown_path(self.wanted.file)
        if self.differences is None:
            return [line, f"  warning: `{file}` has errors now, so that run was not compared with it"]
        if not self.differences:
            return [line]
        several = self.differences[:MOST]
        listed = [f"`{key}` is {_shown(mine)} in the run, {_shown(now)} now" for key, mine, now in several]
        more = f"; and {len(self.differences) - MOST} more" if len(self.differences) > MOST else ""
        asked = {key: now for key, _, now in several if now is not ABSENT}
        where = f", or add `where: {inline(asked)}`" if asked else ""
        return [
            line,
            f"  warning: that run differs from `{file}`: {'; '.join(listed)}{more}",
            f"  to use the config as it is: `{self.wanted.command}`{where}",
        ]


def plan_prerequisites(config: Config, load: Load) -> Prerequisites:
    """The configs to train before `config`, and last `config` itself.

    Raises `ConfigError` for stages that depend on each other (FC0404), and for an error in any of them.
    """
    needed = Prerequisites()
    _visit(config, [], needed, load, Path(config.training.trainer.runs))
    return needed


def _visit(config: Config, links: list[Wanted], needed: Prerequisites, load: Load, runs: Path) -> None:
    """Add the prerequisites of `config`, then `config`; `links` are the dependencies from the last stage to it."""
    here = config_file(config)
    for wanted in wanted_configs(config):
        above = [here, *(link.asker for link in links)]
        if wanted.file in above:
            raise _circle([*links, wanted], wanted.file)
        if wanted.source in needed.found:
            continue
        if wanted.source in needed.reasons:
            _check_kept(wanted, next(run for run in needed.runs if source_of(run) == wanted.source))
            continue
        now = _composed(wanted)
        finished = finished_runs(wanted.file, runs, wanted.where)
        if finished:
            differences = None if now is None else differences_of(finished[0], now)
            needed.found[wanted.source] = FinishedRun(finished[0], wanted, len(finished), differences)
            continue
        needed.reasons[wanted.source] = wanted
        source = _loaded(wanted, load)
        _check_part(wanted, source.model)
        _check_kept(wanted, source)
        _visit(source, [*links, wanted], needed, load, runs)
    needed.runs.append(config)


def _loaded(wanted: Wanted, load: Load) -> Config:
    try:
        with wanted.in_its_words():
            return load(wanted.source)
    except GraphAloneError:
        message = f"expected a training config, but `{shown_path(wanted.file)}` is a graph"
        advice = "write a training config, with `model`, `data` and `loss`"
        raise ConfigError(Diagnostic("FC0301", message, wanted.place, wanted.at, advice=advice)) from None


def _composed(wanted: Wanted) -> Composition | None:
    """The config as it is now, None if it has errors.

    Raises `ConfigError` for a key of `where` that it does not have (FC0102).
    """
    file = shown_path(wanted.file)
    for (key, _), place in zip(wanted.where, wanted.places, strict=True):
        if not KEY.fullmatch(key) or key.split(".")[0] in ("hydra", "defaults"):
            raise _no_key(f"`{key}` is not a key of `{file}`", place, wanted, "write keys such as `trainer.epochs`")
    try:
        with wanted.in_its_words():
            found = configs.compose(*wanted.source)
    except ConfigError as error:
        if any(one.place in wanted.places for one in error.diagnostics):
            raise
        return None
    for (key, _), place in zip(wanted.where, wanted.places, strict=True):
        if value_of(found.document.data, key) is ABSENT:
            message = f"`{key}` is a config group of `{file}`, which has no value in the composed config"
            raise _no_key(message, place, wanted, "write a value that the option sets")
    return found


def _no_key(message: str, place: Place, wanted: Wanted, advice: str) -> ConfigError:
    return ConfigError(Diagnostic("FC0102", message, place, wanted.at, advice=advice))


def differences_of(run: Path, now: Composition) -> list[tuple[str, Any, Any]]:
    """The keys in which the config of a run differs from a config, with both values; checkpoints are left out."""
    try:
        mine = read(run / CONFIG).data
    except ConfigError:
        return []
    other = now.document.origins.root.written()
    keys = dict.fromkeys(key for data in (other, mine) for key, _ in flat(data))
    compared = [key for key in keys if not is_ignored(key) and "checkpoint" not in key.split(".")]
    pairs = [(key, value_of(mine, key), value_of(other, key)) for key in compared]
    return [(key, one, two) for key, one, two in pairs if not same(one, two)]


def _shown(value: Any) -> str:
    return "not set" if value is ABSENT else f"`{inline(value)}`"


def _check_part(wanted: Wanted, plan: GraphPlan) -> None:
    """Raise `ConfigError` if the requested part is not in the graph of a config."""
    if not wanted.part:
        return
    try:
        references.find_path(plan, wanted.part.split("."))
    except references.NotFound as problem:
        message = f"the path `{wanted.part}` does not exist in the graph of `{shown_path(wanted.file)}`"
        advice = problem.advice_for(wanted.part) or problem.message
        raise ConfigError(Diagnostic("FC0302", message, wanted.part_place, wanted.at, advice=advice)) from None


def _check_kept(wanted: Wanted, source: Config) -> None:
    """Raise `ConfigError` if a run of a config will certainly not keep the weights of the requested step."""
    trainer = source.training.trainer
    keep = trainer.keep or KeepSection()
    may_keep = isinstance(keep.every, Point) or (keep.every is not None and (wanted.step or 0) % keep.every == 0)
    is_over = trainer.steps is not None and wanted.step is not None and wanted.step > trainer.steps
    if wanted.step is None or ((may_keep or keep.best is not None) and not is_over):
        return
    file = shown_path(wanted.file)
    message = f"a run of `{file}` keeps no weights of step {wanted.step:,}"
    why = f"it ends after step {trainer.steps:,}" if is_over else f"set `trainer.keep.every` in `{file}`"
    raise ConfigError(Diagnostic("FC0301", message, wanted.step_place, wanted.at, advice=why))


def _circle(links: list[Wanted], start: Path) -> ConfigError:
    links = links[next(number for number, link in enumerate(links) if link.asker == start) :]
    names = " requires ".join(f"`{shown_path(link.asker)}`" for link in links)
    message = f"circular dependency of stages: {names} requires `{shown_path(start)}`"
    if len(links) == 1:
        message = f"the stage `{shown_path(start)}` depends on itself"
    labels = tuple(
        Label(f"`{shown_path(link.asker)}` loads weights from `{shown_path(link.file)}`", link.place)
        for link in links[:-1]
    )
    last = links[-1]
    return ConfigError(Diagnostic("FC0404", message, last.place, last.at, labels, "load one of them by `path`"))


def wanted_configs(config: Config) -> list[Wanted]:
    """The configs that `config` loads weights from, in the order of its graph; that of `init_from` comes last."""
    start = start_of(config)
    asked = [(path, setting.checkpoint) for path, setting in config.model.all_settings()]
    return [
        Wanted(
            config_file(config),
            beside(source.config, source.place).resolve(),
            path,
            source.place,
            source.at,
            dict(source.places).get("at", source.place),
            source.step,
            dict(source.places).get("step", source.place),
            source.where,
            [dict(source.places)[f"where.{key}"] for key, _ in source.where],
        )
        for path, source in (*asked, ("init_from", start))
        if source is not None and source.config is not None
    ]


def config_file(config: Config) -> Path:
    """The file that a config was composed from."""
    return Path(config.composition.file).resolve()


def source_of(config: Config) -> Source:
    """The file that a config was composed from, and its overrides."""
    return config_file(config), config.composition.overrides


def described(run: Path) -> str:
    """A finished run on one line: its folder, end time, overrides and metrics."""
    known = record(run)
    parts = [f"finished {known.get('ended', 'at an unknown time')}"]
    if known.get("overrides"):
        parts.append(f"with {' '.join(known['overrides'])}")
    metrics = known.get("metrics", {})
    parts += [f"{name} {value:.4g}" for name, value in metrics.items() if name.count("/") == 1]
    return f"{run} ({', '.join(parts)})"
