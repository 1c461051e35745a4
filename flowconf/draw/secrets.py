"""Texts that a document reads from the environment: pictures show the references to them instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from flowconf.draw.members import Edge, Level, Member
from flowconf.language.settings import Checkpoint
from flowconf.report.origins import Origins

T = TypeVar("T")


def with_references(shown: T, origins: Origins) -> T:
    """A picture, or its data, with the references to texts from the environment in place of the texts.

    Example:
        `Named('s3cret')` -> `Named('${oc.env:TOKEN}')`
    """
    secrets = {node.value: str(node.reference) for node in origins.secrets if isinstance(node.value, str)}
    replaced: T = _without(secrets, shown) if secrets else shown
    return replaced


def _without(secrets: Mapping[str, str], shown: Any) -> Any:
    match shown:
        case str():
            for secret, reference in secrets.items():
                shown = shown.replace(repr(secret), repr(reference))  # as calls write it
            return shown
        case list() | tuple():
            return type(shown)(_without(secrets, one) for one in shown)
        case dict():
            return {key: _without(secrets, one) for key, one in shown.items()}
        case Checkpoint(config=config, path=path):
            return replace(shown, config=secrets.get(config or "", config), path=secrets.get(path or "", path))
        case Member() | Level() | Edge():
            return replace(shown, **{one.name: _without(secrets, getattr(shown, one.name)) for one in fields(shown)})
    return shown
