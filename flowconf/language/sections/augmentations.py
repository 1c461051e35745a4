"""Checks of `data.augment`, whose texts are calls of augmentations, and the further fields that it makes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from flowconf.language.arguments import Call
from flowconf.language.registry import augmentations
from flowconf.language.resolve.calls import CallParser
from flowconf.language.training import PRESENT, TrainingConfig, ViewSection, listed
from flowconf.report import Reporter, counted, suggest

WHERE = ("data", "augment")
Chains = dict[tuple[str, ...], tuple[Call, ...]]
"""Fields that are augmented alike -> the augmentations, one after the other."""
T = TypeVar("T")


def names_in(key: str) -> tuple[str, ...]:
    """The fields of an entry such as `image, mask`."""
    return tuple(name.strip() for name in key.split(","))


def chains(training: TrainingConfig, reporter: Reporter) -> Chains:
    """The augmentations of a config. Mistakes in calls are reported."""
    found: Chains = {}
    for key, section in training.data.augment.items():
        at, text = ((*WHERE, key), section) if isinstance(section, str) else ((*WHERE, key, "through"), section.through)
        parser = CallParser({}, reporter, f"data.augment.{key}", table=augmentations)
        calls = parser.chain(text, reporter.value(at))
        if calls is not None:
            found[names_in(key)] = calls
    return found


def views(training: TrainingConfig, fields: Collection[str] | None = None) -> dict[str, str]:
    """The further fields that the config makes, each with its source; one whose source has a mask has a mask, too.

    `fields` are those of the data set; None: a mask is assumed.
    """
    found: dict[str, str] = {}
    for key, section in training.data.augment.items():
        if isinstance(section, ViewSection):
            for new, old in zip(names_in(key), listed(section.from_), strict=False):
                found[new] = old
                if fields is None or old + PRESENT in fields:
                    found[new + PRESENT] = old + PRESENT
    return found


def with_views(training: TrainingConfig, fields: Mapping[str, T]) -> dict[str, T]:
    """The known fields of a data set, with the views of them."""
    return copied(fields, views(training, fields))


def copied(fields: Mapping[str, T], sources: Mapping[str, str]) -> dict[str, T]:
    """What is known of fields, and the same of further ones, each with its source."""
    return {**fields, **{new: fields[old] for new, old in sources.items() if old in fields}}


def check_fields(training: TrainingConfig, fields: Collection[str], reporter: Reporter) -> None:
    """Report fields that the data set does not have, views that it has already, and fields that are augmented twice."""
    made, known = views(training), dict[str, str]()
    for key, section in training.data.augment.items():
        at, names = (*WHERE, key), names_in(key)
        if isinstance(section, ViewSection):
            sources = listed(section.from_)
            for name in sources:
                if name not in fields:
                    advice = suggest(name, fields, "fields")
                    reporter.error("FC0502", f"the data has no field `{name}`", at=(*at, "from"), advice=advice)
            if len(sources) != len(names):
                message = f"`{key}` names {counted(len(names), 'field')}, but `from` names {len(sources)}"
                reporter.error("FC0123", message, at=(*at, "from"), advice="name a source for each field")
        for name in names:
            if isinstance(section, ViewSection):
                if name in fields:
                    message = f"the data has a field `{name}` already"
                    advice = f"rename the new field, or augment `{name}` itself: `{name}: {section.through}`"
                    reporter.error("FC0123", message, reporter.key(at), at=at, advice=advice)
            elif name not in fields and name not in made:
                advice = suggest(name, fields, "fields")
                reporter.error("FC0502", f"the data has no field `{name}`", reporter.key(at), at=at, advice=advice)
            if name in known:
                message = f"`{name}` is augmented twice: in `{known[name]}` and in `{key}`"
                reporter.error("FC0123", message, reporter.key(at), at=at, advice="write one chain")
            known[name] = key
