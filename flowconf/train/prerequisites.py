"""Prerequisites: a config whose weights another config wants is trained first, as a run of its own.

A `checkpoint: {config: X}` anywhere in the graph means the newest finished run of X. Where there is none, X becomes a
stage: the same composition, seed and run folder as `flowconf train X`, so the same weights. All stages are known,
checked and printed before the first one runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flowconf.graph.weights.sources import beside, find_run, record
from flowconf.language import references
from flowconf.language.config import Config, GraphAloneError
from flowconf.language.plan import GraphPlan
from flowconf.report import NOWHERE, ConfigError, Diagnostic, Label, Place, shown_path

Load = Callable[[Path], Config]
"""Gives the training config in a file."""


@dataclass(frozen=True)
class Wanted:
    """A config whose weights are wanted: who asks for them, at which path of its graph, and where that is written.

    `part`: the path in the graph of `file` of which weights are wanted, None for the whole.
    """

    asker: Path
    file: Path
    at: str
    place: Place
    part: str | None = None
    part_place: Place = NOWHERE


@dataclass
class Prerequisites:
    """The configs to train, sources first, and the finished runs that are used."""

    runs: list[Config] = field(default_factory=list)
    reasons: dict[Path, Wanted] = field(default_factory=dict)
    found: dict[Path, tuple[Path, Wanted]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The plan in words; empty when there is one run and it needs no other."""
        lines = [f"weights of `{wanted.at}`: {told(run)}" for run, wanted in self.found.values()]
        if len(self.runs) > 1:
            lines.append(f"{len(self.runs)} stages:")
            for number, config in enumerate(self.runs, 1):
                file = config_file(config)
                wanted = self.reasons.get(file)
                why = f": `{wanted.at}` needs its weights, and it has no finished run" if wanted else ""
                lines.append(f"  {number}. {shown_path(str(file))}{why}")
        return lines


def plan_prerequisites(config: Config, load: Load) -> Prerequisites:
    """The configs that are trained before `config`, and that one, the last.

    Raises `ConfigError` when stages wait for each other (FC0404), and for what is wrong with any of them.
    """
    needed = Prerequisites()
    _visit(config, [], needed, load, Path(config.training.trainer.runs))
    return needed


def _visit(config: Config, links: list[Wanted], needed: Prerequisites, load: Load, runs: Path) -> None:
    """Add what `config` waits for, then `config`; `links` lead from the last one to it."""
    here = config_file(config)
    for wanted in wanted_configs(config):
        above = [here, *(link.asker for link in links)]
        if wanted.file in above:
            raise _circle([*links, wanted], wanted.file)
        if wanted.file in needed.found or wanted.file in needed.reasons:
            continue
        run = find_run(wanted.file, runs)
        if run is not None:
            needed.found[wanted.file] = (run, wanted)
            continue
        needed.reasons[wanted.file] = wanted
        source = _loaded(wanted, load)
        _check_part(wanted, source.model)
        _visit(source, [*links, wanted], needed, load, runs)
    needed.runs.append(config)


def _loaded(wanted: Wanted, load: Load) -> Config:
    try:
        return load(wanted.file)
    except GraphAloneError:
        message = f"`{shown_path(str(wanted.file))}` is a graph, and cannot be trained by itself"
        advice = "name a training config: one with `model`, `data` and `loss`"
        raise ConfigError(Diagnostic("FC0301", message, wanted.place, wanted.at, advice=advice)) from None


def _check_part(wanted: Wanted, plan: GraphPlan) -> None:
    """Raise `ConfigError` where the part that is wanted of a config's graph is not in it."""
    if not wanted.part:
        return
    try:
        references.find_path(references.Planned(plan), wanted.part.split("."))
    except references.NotFound as problem:
        message = f"the path `{wanted.part}` does not exist in the graph of `{shown_path(str(wanted.file))}`"
        advice = problem.advice_for(wanted.part) or problem.message
        raise ConfigError(Diagnostic("FC0302", message, wanted.part_place, wanted.at, advice=advice)) from None


def _circle(links: list[Wanted], start: Path) -> ConfigError:
    links = links[next(number for number, link in enumerate(links) if link.asker == start) :]
    names = " waits for ".join(f"`{shown_path(str(link.asker))}`" for link in links)
    message = f"stages wait for each other: {names} waits for `{shown_path(str(start))}`"
    if len(links) == 1:
        message = f"the stage `{shown_path(str(start))}` waits for itself"
    labels = tuple(
        Label(f"`{shown_path(str(link.asker))}` takes weights from `{shown_path(str(link.file))}`", link.place)
        for link in links[:-1]
    )
    last = links[-1]
    return ConfigError(Diagnostic("FC0404", message, last.place, last.at, labels, "name one of them by `path`"))


def wanted_configs(config: Config) -> list[Wanted]:
    """The configs that the graph of `config` takes weights from, in the order of the graph."""
    return [
        Wanted(
            config_file(config),
            beside(source.config, source.place).resolve(),
            path,
            source.place,
            source.at,
            dict(source.places).get("at", source.place),
        )
        for path, setting in config.model.all_settings()
        if (source := setting.checkpoint) is not None and source.config is not None
    ]


def config_file(config: Config) -> Path:
    """The file that a config was composed from."""
    return Path(config.composition.file).resolve()


def told(run: Path) -> str:
    """A finished run on one line: where it is, when it ended, what was overridden, how good it is."""
    known = record(run)
    parts = [f"finished {known.get('ended', 'at an unknown time')}"]
    if known.get("overrides"):
        parts.append(f"with {' '.join(known['overrides'])}")
    metrics = known.get("metrics", {})
    parts += [f"{name} {value:.4g}" for name, value in metrics.items() if name.count("/") == 1]
    return f"{run} ({', '.join(parts)})"
