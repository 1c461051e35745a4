"""Misplaced keys: a section indented into another section, a member beside its owner instead of below it.

A key is misplaced if it is not a key of its level, its value does not fit there, and a nearby level has this key,
unset, for a value of this type. The keys of a level come from the annotations of the models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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
    levels = dict(_levels(model, data, ()))
    suspects = {path[:length] for path in wrong for length in range(1, len(path) + 1)}
    found: list[Stray] = []
    for owner, (annotation, members) in levels.items():
        if any(key == owner[: len(key)] for stray in found for key in stray.keys):
            continue
        keys = members if suspects or len(owner) == 1 else ()
        odd = [key for key in keys if (*owner, key) in suspects or _is_section(annotation, owner, key, members)]
        odd = [key for key in odd if not _knows(annotation, members, key)]
        found += _beside(owner, annotation, members, odd, place)
        covered = {key for stray in found for key in stray.keys}
        homes = {key: _above(levels, owner, key, place) for key in odd if (*owner, key) not in covered}
        found += [Stray(((*owner, key),), home) for key, home in homes.items() if home is not None]
    return found


def _levels(annotation: Any, data: object, path: Path) -> Iterator[tuple[Path, tuple[Any, Entries]]]:
    """All mappings with their annotations, owners first."""
    if isinstance(data, dict):
        yield path, (annotation, data)
        for key, value in data.items():
            inner = below(annotation, data, key) if isinstance(value, dict) else None
            if inner is not None:
                yield from _levels(inner, value, (*path, key))


def _above(levels: Mapping[Path, tuple[Any, Entries]], owner: Path, key: str, place: Placing) -> Path | None:
    """The nearest level above `owner` that has this key for such a value, unless this file sets it there."""
    here = place((*owner, key))
    for length in range(len(owner) - 1, -1, -1):
        home, (annotation, members) = owner[:length], levels[owner[:length]]
        there = place((*home, key)) if key in members else None
        is_written = there is not None and there.file == here.file and there.length == here.length
        if _knows(annotation, members, key) and not is_written:
            return home if _fits(below(annotation, members, key), levels[owner][1][key]) else None
    return None


def _beside(owner: Path, annotation: Any, members: Entries, odd: Collection[str], place: Placing) -> Iterator[Stray]:
    """The keys that belong below the key before them in the file."""
    are_steps = schema.Through in _models(_named(annotation))
    if not odd and not (are_steps and any(key in schema.STEP_KEYS for key in members)):
        return
    places = {key: place((*owner, key)) for key in members}
    runs: dict[str, list[str]] = {}
    before: str | None = None
    for key in sorted((key for key in members if places[key].line), key=lambda key: _order(places[key])):
        is_odd = key in odd or (are_steps and before is not None and _is_no_step(key, members[key], members[before]))
        follows = before is not None and places[before].file == places[key].file
        if before is not None and is_odd and follows and _takes(annotation, members, before, key):
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


def _takes(annotation: Any, members: Entries, before: str, key: str) -> bool:
    """Whether `key` could be a member of `before`, the key before it."""
    inner, there, value = below(annotation, members, before), members[before], members[key]
    if not isinstance(there, dict | None) or key in (there or {}):
        return False
    is_known, named = _knows(inner, there, key), _named(inner)
    if there is None:
        return is_known or named is not None or any(map(is_open, _models(inner)))
    own = [name for model in _models(annotation) for name in schema.keys_of(model) if name not in members]
    if not is_known and (named is None or not _models(named) or sections.meant(key, own)):
        return False
    return _fits(below(inner, there, key), value)


def _is_section(annotation: Any, owner: Path, key: str, members: Entries) -> bool:
    """Whether a key is a section of the config that would be read as an argument at its level."""
    table = TABLES.get(str(owner[-1])) if len(owner) == 1 else None
    if table is None or key not in sections.TOP or not any(map(is_open, _models(annotation))):
        return False
    name = members.get("name")
    return not (isinstance(name, str) and name in table and table.signature(name).takes(key))


def _fits(annotation: Any, value: object) -> bool:
    """Whether a value matches an annotation; a call matches if its module is known."""
    if isinstance(value, str) and {schema.Through, schema.CallBody} & set(_models(annotation)):
        return _is_module(value)
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _is_module(text: str) -> bool:
    name = text.split("(")[0].split(">>")[0].strip()
    return name in registry.modules or "." in name


def below(annotation: Any, members: object, key: str | int) -> Any:
    """The annotation of a key's value, or None for an unknown key."""
    for model in fitting(annotation, members):
        model.model_rebuild()
        for name, field in model.model_fields.items():
            if key == (field.alias or name):
                return field.rebuild_annotation()
    return _named(annotation, list if isinstance(key, int) else dict)


def _knows(annotation: Any, members: object, key: str) -> bool:
    return any(key in schema.keys_of(model) for model in fitting(annotation, members))


def fitting(annotation: Any, members: object) -> Sequence[type[BaseModel]]:
    """The models that share the most keys with `members`."""
    models = _models(annotation)
    if len(models) < 2 or not isinstance(members, dict):
        return models
    known = [len(set(schema.keys_of(model)) & set(members)) for model in models]
    return [model for model, count in zip(models, known, strict=True) if count == max(known)]


def is_open(model: type[BaseModel]) -> bool:
    """Whether a model takes any further keys, which are arguments."""
    return model.model_config.get("extra") == "allow"


@cache
def _models(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The models in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for one in _choices(annotation) for model in _models(one))


@cache
def _named(annotation: Any, container: type = dict) -> Any:
    """The annotation of the values of a mapping with arbitrary names, or of the items of a list; None for a model."""
    if get_origin(annotation) is container:
        return get_args(annotation)[-1]
    return next((found for one in _choices(annotation) if (found := _named(one, container)) is not None), None)


def _choices(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return get_args(annotation)[:1]
    return get_args(annotation) if origin in (Union, UnionType) else ()
