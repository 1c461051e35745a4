"""Misplaced keys: a section indented into another section, a member beside its owner instead of below it.

A key is misplaced if it is not a key of its level, its value does not fit there, and a nearby level has this key,
unset, for a value of this type. The keys of a level come from the annotations of the models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from flowconf.language import registry, schema
from flowconf.language.advice import sections
from flowconf.report import Place
from flowconf.report.origins import Path

TABLES = {"data": registry.datasets, "optimizer": registry.optimizers, "schedule": registry.schedules}
"""The tables from which sections with arguments choose a name."""

Entries = dict[str, Any]
Placing = Callable[[Path], Place]


@dataclass(frozen=True, eq=False)
class Allowed:
    """The values of an annotation: mappings of these models, or with arbitrary names for `named` ones, or lists."""

    annotation: Any
    models: tuple[type[BaseModel], ...] = ()
    named: Allowed | None = None
    items: Allowed | None = None


@dataclass(frozen=True)
class Stray:
    """Keys that belong in the mapping at `home`: the first one, and those after it that move with it."""

    keys: tuple[Path, ...]
    home: Path
    is_empty: bool = False
    """Whether `home` has no value."""

    @property
    def is_too_deep(self) -> bool:
        return self.home == self.keys[0][: len(self.home)]

    def explains(self, path: Path) -> bool:
        """Whether the error at `path` disappears once the keys are moved."""
        moved = any(path[: len(key)] == key or path == (*self.home, key[-1]) for key in self.keys)
        return moved or (path == self.home and not self.is_too_deep)


def strays(model: type[BaseModel], data: object, wrong: Collection[Path], place: Placing) -> list[Stray]:
    """The misplaced keys of `data`. `wrong` are the paths with errors; `place` returns the place of a key."""
    levels = dict(_levels(model, data))
    suspects = {path[:length] for path in wrong for length in range(1, len(path) + 1)}
    found: list[Stray] = []
    for owner, (allowed, members) in levels.items():
        if any(key == owner[: len(key)] for stray in found for key in stray.keys):
            continue
        keys = members if suspects or len(owner) == 1 else ()
        odd = [key for key in keys if (*owner, key) in suspects or _is_section(allowed, owner, key, members)]
        odd = [key for key in odd if not _knows(allowed, members, key)]
        found += _beside(owner, allowed, members, odd, place)
        covered = {key for stray in found for key in stray.keys}
        homes = {key: _above(levels, owner, key, place) for key in odd if (*owner, key) not in covered}
        found += [Stray(((*owner, key),), home) for key, home in homes.items() if home is not None]
    return found


def _levels(model: type[BaseModel], data: object) -> Iterator[tuple[Path, tuple[Allowed, Entries]]]:
    """All mappings with what is allowed there, owners first."""
    pending: list[tuple[Path, Allowed, object]] = [((), allowed_by(model), data)]
    while pending:
        path, allowed, members = pending.pop()
        if isinstance(members, dict):
            yield path, (allowed, members)
            inner = [(key, below(allowed, members, key)) for key, value in members.items() if isinstance(value, dict)]
            pending += [((*path, key), one, members[key]) for key, one in reversed(inner) if one is not None]


def _above(levels: Mapping[Path, tuple[Allowed, Entries]], owner: Path, key: str, place: Placing) -> Path | None:
    """The nearest level above `owner` that has this key for such a value, unless this file sets it there."""
    here = place((*owner, key))
    for length in range(len(owner) - 1, -1, -1):
        home, (allowed, members) = owner[:length], levels[owner[:length]]
        there = place((*home, key)) if key in members else None
        is_written = there is not None and there.file == here.file and there.length == here.length
        if _knows(allowed, members, key) and not is_written:
            return home if _fits(below(allowed, members, key), levels[owner][1][key]) else None
    return None


def _beside(owner: Path, allowed: Allowed, members: Entries, odd: Collection[str], place: Placing) -> Iterator[Stray]:
    """The keys that belong below the key before them in the file."""
    are_steps = allowed.named is not None and schema.Through in allowed.named.models
    if not odd and not (are_steps and any(key in schema.STEP_KEYS for key in members)):
        return
    places = {key: place((*owner, key)) for key in members}
    runs: dict[str, list[str]] = {}
    before: str | None = None
    for key in sorted((key for key in members if places[key].line), key=lambda key: _order(places[key])):
        is_odd = key in odd or (are_steps and before is not None and _is_no_step(key, members[key], members[before]))
        follows = before is not None and places[before].file == places[key].file
        if before is not None and is_odd and follows and _takes(allowed, members, before, key):
            runs.setdefault(before, []).append(key)
        else:
            before = key
    for above, run in runs.items():
        yield Stray(tuple((*owner, key) for key in run), (*owner, above), members[above] is None)


def _order(place: Place) -> tuple[str, int, int]:
    return (place.file or "", place.line, place.column)


def _is_no_step(name: str, step: object, above: object) -> bool:
    """Whether a "step" is rather a key of the step above it: it has the name of such a key, and is not a module."""
    lacks_verb = above is None or (isinstance(above, dict) and not any(verb in above for verb in schema.VERBS))
    is_text = isinstance(step, str) and not _is_module(step)
    return name in schema.STEP_KEYS and (above is None or is_text or (lacks_verb and name in schema.VERBS))


def _takes(allowed: Allowed, members: Entries, before: str, key: str) -> bool:
    """Whether `key` could be a member of `before`, the key before it."""
    inner, there, value = below(allowed, members, before), members[before], members[key]
    if inner is None or not isinstance(there, dict | None) or key in (there or {}):
        return False
    is_known, named = _knows(inner, there, key), inner.named
    if there is None:
        return is_known or named is not None or any(map(is_open, inner.models))
    own = [name for model in allowed.models for name in schema.keys_of(model) if name not in members]
    if not is_known and (named is None or not named.models or sections.meant(key, own)):
        return False
    return _fits(below(inner, there, key), value)


def _is_section(allowed: Allowed, owner: Path, key: str, members: Entries) -> bool:
    """Whether a key is a section of the config that would be read as an argument at its level."""
    table = TABLES.get(str(owner[-1])) if len(owner) == 1 else None
    if table is None or key not in sections.TOP or not any(map(is_open, allowed.models)):
        return False
    name = members.get("name")
    return not (isinstance(name, str) and name in table and table.signature(name).takes(key))


def _fits(allowed: Allowed | None, value: object) -> bool:
    """Whether a value is allowed; a call is if its module is known."""
    if isinstance(value, str) and allowed is not None and {schema.Through, schema.CallBody} & set(allowed.models):
        return _is_module(value)
    try:
        TypeAdapter(None if allowed is None else allowed.annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _is_module(text: str) -> bool:
    name = text.split("(")[0].split(">>")[0].strip()
    return name in registry.modules or "." in name


def below(allowed: Allowed | None, members: object, key: str | int) -> Allowed | None:
    """The types allowed as the value of a key, or as an item; None for an unknown key."""
    if allowed is None:
        return None
    known = (members_of(model) for model in fitting(allowed, members))
    others = allowed.items if isinstance(key, int) else allowed.named
    return next((fields[key] for fields in known if key in fields), others)


def _knows(allowed: Allowed, members: object, key: str) -> bool:
    return any(key in members_of(model) for model in fitting(allowed, members))


def fitting(allowed: Allowed | None, members: object) -> Sequence[type[BaseModel]]:
    """The models that share the most keys with `members`."""
    models = () if allowed is None else allowed.models
    return _sharing_most(models, frozenset(members)) if len(models) > 1 and isinstance(members, dict) else models


@lru_cache(maxsize=1_000)
def _sharing_most(models: Sequence[type[BaseModel]], keys: frozenset[str]) -> Sequence[type[BaseModel]]:
    known = [len(members_of(model).keys() & keys) for model in models]
    return [model for model, count in zip(models, known, strict=True) if count == max(known)]


def is_open(model: type[BaseModel]) -> bool:
    """Whether a model takes any further keys, which are arguments."""
    return model.model_config.get("extra") == "allow"


@cache
def members_of(model: type[BaseModel]) -> Mapping[str | int, Allowed]:
    """The keys of a model, and what is allowed as their values."""
    model.model_rebuild()
    return {field.alias or name: allowed_by(field.rebuild_annotation()) for name, field in model.model_fields.items()}


def allowed_by(annotation: Any) -> Allowed:
    """The values that an annotation, such as a model, allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Allowed(annotation, (annotation,))
    if get_origin(annotation) is dict:
        return Allowed(annotation, named=allowed_by(get_args(annotation)[1]))
    if get_origin(annotation) is list:
        return Allowed(annotation, items=allowed_by(get_args(annotation)[0]))
    choices = [allowed_by(one) for one in _choices(annotation)]
    models = tuple(model for one in choices for model in one.models)
    named = next((one.named for one in choices if one.named is not None), None)
    return Allowed(annotation, models, named, next((one.items for one in choices if one.items is not None), None))


def _choices(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return get_args(annotation)[:1]
    return get_args(annotation) if origin in (Union, UnionType) else ()
