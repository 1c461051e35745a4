"""Every mistake that can be told before a run: what `flowconf check` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowconf.api import Source, compose, load, plan
from flowconf.language import config as configs
from flowconf.language.config import Config, plan_of
from flowconf.language.plan import GraphPlan
from flowconf.report import Diagnostic, FlowconfError, grouped, of_system


@dataclass(frozen=True)
class Account:
    """The mistakes of a config, and how far the check came: members left out, and whether shapes were looked at."""

    mistakes: list[Diagnostic]
    unchecked: tuple[str, ...] = ()
    shapes: bool = True


def check(source: Source, overrides: Sequence[str] = (), origin: str | None = None) -> list[Diagnostic]:
    """Every mistake of the first stage that has one, up to shapes, checkpoint sources and the configs that they name.

    No data is read, and nothing is run.
    """
    return account(source, overrides, origin).mistakes


def account(source: Source, overrides: Sequence[str] = (), origin: str | None = None) -> Account:
    """What `check` finds, with what it could not look at because of it."""
    found: list[Diagnostic] = []
    unchecked: tuple[str, ...] = ()
    resolved: GraphPlan | None = None
    config: Config | None = None
    try:
        if isinstance(source, GraphPlan | Mapping):
            resolved = plan(source, overrides, origin)
        else:
            composition = compose(source, overrides)
            found += composition.document.warnings
            config = None if configs.is_graph(composition.document) else configs.read(composition)
            found += config.warnings if config is not None else ()
            resolved = plan_of(composition) if config is None else config.model
        found += resolved.warnings
        _look_with_torch(resolved, config, found)
    except FlowconfError as error:
        found += error.diagnostics
        unchecked = error.unchecked
    except OSError as problem:
        found.append(of_system(problem))
    return Account(grouped(found), unchecked, resolved is not None)


def _look_with_torch(resolved: GraphPlan, config: Config | None, found: list[Diagnostic]) -> None:
    """Shapes, sources and stages; torch is imported only when everything before them is right."""
    from flowconf.graph import check_checkpoints, check_shapes
    from flowconf.graph.source.emit import emit
    from flowconf.graph.weights.sources import check_source
    from flowconf.train.checks.rehearsal import check_declared
    from flowconf.train.stages import plan_stages

    if config is not None:
        check_declared(config)  # before its shapes: what follows from a wrong input is no mistake of its own
    inference = check_shapes(resolved)
    emit(resolved, inference.sizes)
    asked = [setting.checkpoint for _, setting in resolved.all_settings() if setting.checkpoint is not None]
    absent = [problem for checkpoint in asked for problem in check_source(checkpoint)]
    found += absent or (check_checkpoints(resolved, inference) if config is None else ())
    if config is not None:
        found += plan_stages(config, load, Path(config.training.trainer.runs)).warnings
