"""A whole training config: composed, validated, its graph resolved, its sections checked. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowconf.language import check_training, registry, schema
from flowconf.language.advice import hints
from flowconf.language.advice.sections import SECTIONS, TOP
from flowconf.language.plan import GraphPlan
from flowconf.language.resolve import resolve, resolve_model
from flowconf.language.training import TrainingConfig
from flowconf.language.validate import validate
from flowconf.report import ConfigError, Diagnostic, Reporter
from flowconf.text import Composition, Document, MergeRules
from flowconf.text import compose as compose_text
from flowconf.text.source import absolute


class ConfigDocument(TrainingConfig):
    """A training config: the graph, and how it is trained."""

    model: schema.GraphDocument
    """The graph."""


RULES = MergeRules(
    verbs=frozenset(schema.VERBS),
    settable=frozenset({*schema.MODIFIERS, "with", "times", "over", "dim", "batched", "slices", "merge"}),
    optional=frozenset(
        {"seed", "init_from", "trainer.*", "optimizer.*", "schedule.*", "data.*"}
        | {"loss.*.*", "metrics.*.*", "phases.*.*", "loggers.*", "loggers.*.*"}
    ),
    known=(
        *(f"{section}.{key}" for section, model in SECTIONS.items() for key in schema.keys_of(model)),
        "optimizer.lr",
    ),
    tops=TOP,
    removable=frozenset({"loss.*", "metrics.*", "phases.*", "optimizer.groups.*"}),
)
"""What composing has to know of the language."""


GRAPH_ALONE = "this is a graph document, and training needs a config with `model`, `data` and `loss`"


@dataclass(frozen=True)
class Config:
    """A training config that is right as far as can be told without torch."""

    composition: Composition
    model: GraphPlan
    training: TrainingConfig
    warnings: tuple[Diagnostic, ...] = ()


def compose(file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Composition:
    """The files and the command line put together; nothing is checked but how they go together."""
    registry.import_project(Path(os.path.realpath(absolute(file))).parent)
    return compose_text(file, overrides, RULES)


def load(file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """The training config in `file`. Raises `ConfigError` with every mistake of the first stage that has one."""
    return read(compose(file, overrides))


def read(composition: Composition) -> Config:
    """What a composed training config says. Raises `ConfigError`."""
    document = composition.document
    if not document.data:
        advice = "a training config has `model`, `data` and `loss`; a graph has `flow`"
        raise ConfigError(Diagnostic("FC0122", "the config is empty", document.origins.value(()), advice=advice))
    if is_graph(document):
        raise ConfigError(Diagnostic("FC0122", GRAPH_ALONE, document.origins.key(("flow",))))
    reporter = Reporter(document.origins, diagnostics=list(document.warnings))
    found = validate(ConfigDocument, document.data, reporter)
    check_training.check_overruled(composition.overruled, reporter)
    reporter.stop_on_errors()
    assert found is not None
    plan = resolve_model(found.model, document, ("model",), reporter, found.named())
    if not reporter.errors:
        check_training.check(found, plan, reporter)
    reporter.stop_on_errors()
    return Config(composition, plan, found, tuple(reporter.diagnostics))


def is_graph(document: Document) -> bool:
    """Whether a document is a bare graph: it has keys of one, and no `model`."""
    return "model" not in document.data and any(key in document.data for key in hints.GRAPH_KEYS)


def is_graph_file(error: ConfigError) -> bool:
    """Whether a config was refused because it is a bare graph."""
    return any(told.message == GRAPH_ALONE for told in error.diagnostics)


def plan_of(composition: Composition) -> GraphPlan:
    """The Plan of a training config or of a bare graph document. Raises `ConfigError`."""
    return resolve(composition.document) if is_graph(composition.document) else read(composition).model
