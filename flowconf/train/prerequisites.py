"""Prerequisites: a config whose weights another config needs is trained first, as a separate run.

A `checkpoint: {config: X}` anywhere in the graph refers to the newest finished run of X. If there is none, X becomes a
stage, with the same composition, seed and run folder as `flowconf train X`, and therefore the same weights. All stages
are planned, checked and printed before the first one runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flowconf.graph.weights.sources import beside, find_run, record
from flowconf.language import references
from flowconf.language.config import Config, GraphAloneError
from flowconf.language.plan import GraphPlan
from flowconf.report import NOWHERE, ConfigError, Diagnostic, Label, Place, shown_path

Load = Callable[[Path], Config]
"""Loads the training config of a file."""


@dataclass(frozen=True)
class Wanted:
    """A config whose weights are needed: the config that needs them, the path in its graph, and the place of this.

    `part` is the path in the graph of `file` whose weights are needed, None for the whole graph.
    """

    asker: Path
    file: Path
    at: str
    place: Place
    part: str | None = None
    part_place: Place = NOWHERE


@dataclass
class Prerequisites:
    """The configs to train, in order of dependency, and the finished runs to load weights from."""

    runs: list[Config] = field(default_factory=list)
    reasons: dict[Path, Wanted] = field(default_factory=dict)
    found: dict[Path, tuple[Path, Wanted]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The plan as lines of text; empty for a single run without prerequisites."""
        lines = [f"weights of `{wanted.at}`: {told(run)}" for run, wanted in self.found.values()]
        lines += [_differs(run, wanted) for run, wanted in self.found.values() if record(run).get("overrides")]
        if len(self.runs) > 1:
            lines.append(f"{len(self.runs)} stages:")
            for number, config in enumerate(self.runs, 1):
                file = config_file(config)
                wanted = self.reasons.get(file)
                why = f": required by `{wanted.at}`, no finished run" if wanted else ""
                lines.append(f"  {number}. {shown_path(str(file))}{why}")
        return lines


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
        message = f"expected a training config, but `{shown_path(str(wanted.file))}` is a graph"
        advice = "write a training config, with `model`, `data` and `loss`"
        raise ConfigError(Diagnostic("FC0301", message, wanted.place, wanted.at, advice=advice)) from None


def _check_part(wanted: Wanted, plan: GraphPlan) -> None:
    """Raise `ConfigError` if the requested part is not in the graph of a config."""
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
    names = " requires ".join(f"`{shown_path(str(link.asker))}`" for link in links)
    message = f"circular dependency of stages: {names} requires `{shown_path(str(start))}`"
    if len(links) == 1:
        message = f"the stage `{shown_path(str(start))}` depends on itself"
    labels = tuple(
        Label(f"`{shown_path(str(link.asker))}` loads weights from `{shown_path(str(link.file))}`", link.place)
        for link in links[:-1]
    )
    last = links[-1]
    return ConfigError(Diagnostic("FC0404", message, last.place, last.at, labels, "load one of them by `path`"))


def wanted_configs(config: Config) -> list[Wanted]:
    """The configs that the graph of `config` loads weights from, in the order of the graph."""
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


def _differs(run: Path, wanted: Wanted) -> str:
    """What to do about a run whose settings are not those of its config."""
    file = shown_path(str(wanted.file))
    words = shlex.join(record(run)["overrides"])
    return (
        f"  warning: that run differs from `{file}` by `{words}`; "
        f"to use the config as it is: flowconf train {shlex.quote(file)}"
    )


def told(run: Path) -> str:
    """A finished run on one line: its folder, end time, overrides and metrics."""
    known = record(run)
    parts = [f"finished {known.get('ended', 'at an unknown time')}"]
    if known.get("overrides"):
        parts.append(f"with {' '.join(known['overrides'])}")
    metrics = known.get("metrics", {})
    parts += [f"{name} {value:.4g}" for name, value in metrics.items() if name.count("/") == 1]
    return f"{run} ({', '.join(parts)})"
