"""Keys at another level than their own: a section indented into another one, a member beside its owner.

A key is astray where it is a name, or nothing at all, its value does not fit, and another level that is near has that
key free for a value of that kind. Levels are read off the annotations of the models, along the data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from flowconf.language import registry, schema
from flowconf.language.advice import sections
from flowconf.report import Place
from flowconf.report.origins import Path

TABLES = {"data": registry.datasets, "optimizer": registry.optimizers, "schedule": registry.schedules}
"""What the sections that hold the arguments of something choose from."""

Members = dict[str, Any]
Placing = Callable[[Path], Place]


@dataclass(frozen=True)
class Stray:
    """Keys that belong into the mapping at `home`: the first, and those behind it that go with it."""

    keys: tuple[Path, ...]
    home: Path
    is_empty: bool = False
    """Whether there is nothing yet at `home`."""

    @property
    def is_too_deep(self) -> bool:
        return self.home == self.keys[0][: len(self.home)]

    def explains(self, path: Path) -> bool:
        """Whether what is wrong at `path` will be right once the keys are where they belong."""
        moved = any(path[: len(key)] == key or path == (*self.home, key[-1]) for key in self.keys)
        return moved or (path == self.home and not self.is_too_deep)


def strays(model: type[BaseModel], data: object, wrong: Collection[Path], place: Placing) -> list[Stray]:
    """The keys of `data` that are astray. `wrong` are the paths that do not fit `model`; `place` is where a key is."""
    levels = dict(_levels(model, data, ()))
    suspects = {path[:length] for path in wrong for length in range(1, len(path) + 1)}
    found: list[Stray] = []
    for owner, (annotation, members) in levels.items():
        if any(key == owner[: len(key)] for stray in found for key in stray.keys):
            continue
        odd = [key for key in members if (*owner, key) in suspects or _is_section(annotation, owner, key, members)]
        odd = [key for key in odd if not _knows(annotation, members, key)]
        found += _beside(owner, annotation, members, odd, place)
        told = {key for stray in found for key in stray.keys}
        homes = {key: _above(levels, owner, key, place) for key in odd if (*owner, key) not in told}
        found += [Stray(((*owner, key),), home) for key, home in homes.items() if home is not None]
    return found


def _levels(annotation: Any, data: object, path: Path) -> Iterator[tuple[Path, tuple[Any, Members]]]:
    """Every mapping with what may stand there, owners first."""
    if isinstance(data, dict):
        yield path, (annotation, data)
        for key, value in data.items():
            inner = _below(annotation, data, key) if isinstance(value, dict) else None
            if inner is not None:
                yield from _levels(inner, value, (*path, key))


def _above(levels: Mapping[Path, tuple[Any, Members]], owner: Path, key: str, place: Placing) -> Path | None:
    """The nearest level above `owner` that has the key for such a value, and where this file does not write it."""
    here = place((*owner, key))
    for length in range(len(owner) - 1, -1, -1):
        home, (annotation, members) = owner[:length], levels[owner[:length]]
        there = place((*home, key)) if key in members else None
        is_written = there is not None and there.file == here.file and there.length == here.length
        if _knows(annotation, members, key) and not is_written:
            return home if _fits(_below(annotation, members, key), levels[owner][1][key]) else None
    return None


def _beside(owner: Path, annotation: Any, members: Members, odd: Collection[str], place: Placing) -> Iterator[Stray]:
    """The keys that belong below the key in front of them, in the text."""
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
    """Whether a step is called like a key of steps, and is no module, or is the verb that the step above it lacks."""
    lacks_verb = above is None or (isinstance(above, dict) and not any(verb in above for verb in schema.VERBS))
    is_text = isinstance(step, str) and not _is_module(step)
    return name in schema.STEP_KEYS and (above is None or is_text or (lacks_verb and name in schema.VERBS))


def _takes(annotation: Any, members: Members, before: str, key: str) -> bool:
    """Whether the key `before`, beside which `key` stands, could have it as a member."""
    inner, there, value = _below(annotation, members, before), members[before], members[key]
    if not isinstance(there, dict | None) or key in (there or {}):
        return False
    is_known, named = _knows(inner, there, key), _named(inner)
    if there is None:
        return is_known or named is not None or any(map(_is_open, _models(inner)))
    own = [name for model in _models(annotation) for name in schema.keys_of(model) if name not in members]
    if not is_known and (named is None or not _models(named) or sections.meant(key, own)):
        return False
    return _fits(_below(inner, there, key), value)


def _is_section(annotation: Any, owner: Path, key: str, members: Members) -> bool:
    """Whether a key is a section of the config, and would be an argument where it stands."""
    table = TABLES.get(str(owner[-1])) if len(owner) == 1 else None
    if table is None or key not in sections.TOP or not any(map(_is_open, _models(annotation))):
        return False
    name = members.get("name")
    return not (isinstance(name, str) and name in table and table.signature(name).takes(key))


def _fits(annotation: Any, value: object) -> bool:
    """Whether a value may stand where the annotation holds; of a call, whether its module is known."""
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


def _below(annotation: Any, members: object, key: str) -> Any:
    """What may stand under a key of what the annotation holds for; None where no such key is known."""
    for model in _fitting(annotation, members):
        model.model_rebuild()
        for name, field in model.model_fields.items():
            if key == (field.alias or name):
                return field.rebuild_annotation()
    return _named(annotation)


def _knows(annotation: Any, members: object, key: str) -> bool:
    return any(key in schema.keys_of(model) for model in _fitting(annotation, members))


def _fitting(annotation: Any, members: object) -> list[type[BaseModel]]:
    """The models that have most of the keys that are there."""
    models = _models(annotation)
    if not isinstance(members, dict):
        return models
    known = [len(set(schema.keys_of(model)) & set(members)) for model in models]
    return [model for model, count in zip(models, known, strict=True) if count == max(known)]


def _is_open(model: type[BaseModel]) -> bool:
    return model.model_config.get("extra") == "allow"


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value may be of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in _choices(annotation) for model in _models(one)]


def _named(annotation: Any) -> Any:
    """What each member of a mapping of names may be; None where the names are keys of a model."""
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    return next((found for one in _choices(annotation) if (found := _named(one)) is not None), None)


def _choices(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return get_args(annotation)[:1]
    return get_args(annotation) if origin in (Union, UnionType) else ()
