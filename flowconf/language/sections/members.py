"""`heads.*` in losses, metrics and callbacks: a value for each branch, copy or output below a path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from flowconf.language import references
from flowconf.language.plan import GraphPlan
from flowconf.language.section import Section
from flowconf.language.training import TrainingConfig
from flowconf.report import Reporter

ALL = ".*"

Config = TypeVar("Config", bound=TrainingConfig)
Measured = TypeVar("Measured", bound=Section)


def with_members(training: Config, plan: GraphPlan, reporter: Reporter) -> Config:
    """The config with a list in the place of each `path.*`. One that has no members is reported."""

    def listed(kind: str, sections: Mapping[str, Measured]) -> dict[str, Measured]:
        return {name: _listed((kind, name), section, plan, reporter) for name, section in sections.items()}

    changed = {
        "loss": listed("loss", training.loss),
        "metrics": listed("metrics", training.metrics),
        "callbacks": listed("callbacks", training.callbacks),
    }
    return training.model_copy(update=changed)


def _listed(path: tuple[str, str], section: Measured, plan: GraphPlan, reporter: Reporter) -> Measured:
    changed: dict[str, list[str] | str] = {}
    for key in {"input", "target", "read"} & type(section).model_fields.keys():
        text = getattr(section, key)
        if not isinstance(text, str) or not text.endswith(ALL):
            continue
        owner = text.removesuffix(ALL)
        try:
            changed[key] = references.members(plan, owner)
        except references.NotFound as problem:
            where = (*path, key)
            advice = problem.advice_for(owner)
            reporter.missing(owner, "FC0402", problem.message, reporter.value(where), at=where, advice=advice)
            changed[key] = owner
    return section.model_copy(update=changed) if changed else section
