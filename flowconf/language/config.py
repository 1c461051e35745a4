"""Training configs: composition, and the checks that do not need torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowconf.language import projects, schema
from flowconf.language.advice import hints, vocabulary
from flowconf.language.advice.sections import SECTIONS, TOP
from flowconf.language.keys.misplaced import Allowed, allowed_by, members_of
from flowconf.language.keys.validate import validate
from flowconf.language.plan import GraphPlan
from flowconf.language.section import Choice
from flowconf.language.sections import names
from flowconf.language.training import TrainingConfig
from flowconf.report import Advice, ConfigError, Diagnostic, Origins, Reporter, dotted, texts
from flowconf.report import Path as Keys
from flowconf.report.origins import Document
from flowconf.text.compose import Composition
from flowconf.text.compose import compose as compose_text
from flowconf.text.merge import MergeRules
from flowconf.text.source import absolute


class ConfigDocument(TrainingConfig):
    """A training config: the graph, and its training sections."""

    model: schema.GraphDocument
    """The graph."""


def _choices(allowed: Allowed | None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, frozenset[str]]]:
    """The patterns of the choices in what is allowed, and their keys."""
    for model in allowed.models if allowed is not None else ():
        if issubclass(model, Choice):
            yield ".".join(path), frozenset(schema.keys_of(model))
        for key, inner in members_of(model).items():
            yield from _choices(inner, (*path, str(key)))
    if allowed is not None:
        yield from _choices(allowed.named or allowed.items, (*path, "*"))


RULES = MergeRules(
    flow="flow",
    verbs=frozenset(schema.VERBS),
    call="through",
    mount="graph",
    label="label",
    bodies=frozenset({"skip", "router", "while", "until", "merge"}),
    settable=frozenset(schema.STEP_KEYS) - frozenset(schema.VERBS),
    optional=frozenset(
        {"seed", "init_from", "trainer.*", "optimizer.*", "schedule.*", "data.*", "sweep", "sweep.*"}
        | {"data.evaluate.*.*", "data.mixture.*.*", "data.sample.*"}
        | {"loss.*.*", "metrics.*.*", "phases.*.*", "turns.*.*", "loggers.*", "loggers.*.*", "callbacks.*.*"}
    ),
    known=(
        *(f"{section}.{key}" for section, model in SECTIONS.items() for key in schema.keys_of(model)),
        "optimizer.lr",
    ),
    tops=TOP,
    synonyms={word: key for key, words in reversed(vocabulary.CONFIG.items()) for word in words.split()},
    removable=frozenset(
        {"data.evaluate.*", "data.mixture.*", "loss.*", "metrics.*", "phases.*", "turns.*", "callbacks.*"}
        | {"optimizer.groups.*"}
    ),
    choices={
        **dict(_choices(allowed_by(TrainingConfig))),
        **{f"**.{end}": keys for end, keys in _choices(allowed_by(schema.Follows), ("follows",))},
        **dict.fromkeys(("init_from", "**.checkpoint"), frozenset({"path", "config", "hub"})),
    },
)
"""The keys of the language that composition needs."""


class GraphAloneError(ConfigError):
    """A graph document instead of a training config."""

    @classmethod
    def of(cls, document: Document) -> GraphAloneError:
        """The error for a graph document, at its `flow`."""
        message = "expected a training config with `model`, `data` and `loss`, got a graph document"
        return cls(Diagnostic("FC0122", message, document.origins.key(("flow",))))


@dataclass(frozen=True)
class Config:
    """A training config that passed the checks that do not need torch."""

    composition: Composition
    model: GraphPlan
    training: TrainingConfig
    warnings: tuple[Diagnostic, ...] = ()
    fitted: Mapping[str, Any] | None = None
    """Of a run that exists: what its data set has determined from the training rows."""

    @property
    def origins(self) -> Origins:
        """Where every value of the config was written."""
        return self.composition.document.origins

    def diagnostic(self, code: str, message: str, at: Keys, advice: Advice | None = None) -> Diagnostic:
        """An error about the value at a path of the config."""
        return Diagnostic(code, message, self.origins.value(at), dotted(at), advice=advice)


def compose(file: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Composition:
    """Compose the files and the command line. Only the composition is checked."""
    words = texts(overrides, "overrides")
    warnings = projects.import_project(Path(os.path.realpath(absolute(file))).parent)
    found = compose_text(file, words, RULES)
    document = replace(found.document, warnings=(*warnings, *found.document.warnings))
    return replace(found, document=document)


def config_keys(composition: Composition, reporter: Reporter) -> ConfigDocument | None:
    """A training config with valid keys and types; errors are reported to `reporter`."""
    document = composition.document
    if not document.data:
        advice = "a training config has `model`, `data` and `loss`; a graph has `flow`"
        reporter.error("FC0122", "the config is empty", document.origins.value(()), advice=advice)
        return None
    found = validate(ConfigDocument, document.data, reporter)
    names.check_overruled(composition.overruled, reporter)
    return found


def graph_keys(document: Document, reporter: Reporter) -> schema.GraphDocument | None:
    """A graph document with valid keys and types; errors are reported to `reporter`."""
    return validate(schema.GraphDocument, document.data, reporter)


def is_graph(document: Document) -> bool:
    """Whether a document is a graph document: it has keys of one, and no `model`."""
    return "model" not in document.data and any(key in document.data for key in hints.GRAPH_KEYS)
