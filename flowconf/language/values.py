"""The value of a dotted key in a config: as it is written, or the default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowconf.language.advice.sections import SECTIONS
from flowconf.language.training import TrainingConfig

ABSENT = object()
"""The value of a key that is neither written nor has a default."""


def value_of(data: Mapping[str, Any], key: str) -> Any:
    """The value of `key` in the data of a config, its default, or `ABSENT`.

    Example:
        >>> value_of({"trainer": {"epochs": 3}}, "trainer.epochs"), value_of({}, "seed")
        (3, 0)
    """
    found = _written(data, key.split("."))
    return _default(key) if found is ABSENT else found


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; unlike in Python, a truth value is not a number."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _written(data: Any, parts: list[str]) -> Any:
    """The value at the end of some keys, which may contain dots themselves."""
    if not parts:
        return data
    if isinstance(data, list) and parts[0].isdigit() and int(parts[0]) < len(data):
        return _written(data[int(parts[0])], parts[1:])
    for length in range(len(parts), 0, -1) if isinstance(data, Mapping) else ():
        name = ".".join(parts[:length])
        if name in data and (found := _written(data[name], parts[length:])) is not ABSENT:
            return found
    return ABSENT


def _default(key: str) -> Any:
    section, _, name = key.rpartition(".")
    model = SECTIONS.get(section) if section else TrainingConfig
    field = model.model_fields.get(name) if model is not None else None
    return ABSENT if field is None or field.is_required() or field.default_factory is not None else field.default
