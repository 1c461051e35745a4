"""Checks of `data.augment`, whose texts are calls of augmentations."""

from __future__ import annotations

from flowconf.language.arguments import Call
from flowconf.language.registry import augmentations
from flowconf.language.resolve.calls import CallParser
from flowconf.language.training import TrainingConfig
from flowconf.report import Reporter, suggest

WHERE = ("data", "augment")

Chains = dict[tuple[str, ...], tuple[Call, ...]]
"""Fields that are augmented alike -> the augmentations, one after the other."""


def chains(training: TrainingConfig, reporter: Reporter) -> Chains:
    """The augmentations of a config. Mistakes in calls are reported."""
    found: Chains = {}
    for key, text in training.data.augment.items():
        parser = CallParser({}, reporter, f"data.augment.{key}", table=augmentations)
        calls = parser.chain(text, reporter.value((*WHERE, key)))
        if calls is not None:
            found[tuple(name.strip() for name in key.split(","))] = calls
    return found


def check_fields(training: TrainingConfig, fields: tuple[str, ...], reporter: Reporter) -> None:
    """Report fields that the data set does not have, and fields that are augmented twice."""
    known: dict[str, str] = {}
    for key in training.data.augment:
        for name in (name.strip() for name in key.split(",")):
            at = (*WHERE, key)
            if name not in fields:
                advice = suggest(name, fields, "fields")
                reporter.error("FC0502", f"the data has no field `{name}`", reporter.key(at), at=at, advice=advice)
            elif name in known:
                message = f"`{name}` is augmented twice: in `{known[name]}` and in `{key}`"
                reporter.error("FC0123", message, reporter.key(at), at=at, advice="write one chain")
            known[name] = key
