"""Holds plain data against a Pydantic model and tells every mistake with its place in the user's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from flowconf.diagnostics import Collector, Fix, Place, nearest, suggest
from flowconf.language import schema
from flowconf.text.origins import Origins, Path

M = TypeVar("M", bound=BaseModel)
Problem = dict[str, Any]

EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "none_required": "null",
    "is_instance_of": "a module",
}


PATTERNS = {
    r"^[A-Za-z_][A-Za-z0-9_]*$": "a name (letters, digits and `_`, no digit first)",
    "^[0-9a-f]{64}$": "64 hexadecimal digits",
}
"""What a text must be, in words."""

UNIONS = {
    "checkpoint": "a path or a mapping",
    "using": "a reference, a list of them, or a mapping",
    "input": "a reference or a list of them",
    "target": "a reference or a list of them",
    "mask": "one reference",
}
"""Keys whose values may be of several kinds, of which only the nearest is tried."""

TRUTHS = {"yes": "true", "on": "true", "no": "false", "off": "false", "y": "true", "n": "false"}


def validate(model: type[M], data: object, origins: Origins, path: Path, collector: Collector) -> M | None:
    """An instance of `model`, or None when `data`, which stands at `path` of the document, has mistakes."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        _Report(data, origins, path, collector).tell(model, error)
    except RecursionError:
        collector.error("FC0006", "the document is nested too deeply", origins.value(path))
    return None


class _Report:
    """Turns Pydantic's list of problems into diagnostics, one for each cause."""

    def __init__(self, data: object, origins: Origins, base: Path, collector: Collector) -> None:
        self.data, self.origins, self.base, self.collector = data, origins, base, collector

    def tell(self, model: type[BaseModel], error: ValidationError) -> None:
        grouped: dict[Path, list[Problem]] = {}
        for problem in error.errors(include_url=False):
            grouped.setdefault(self._where(problem["loc"]), []).append(dict(problem))
        for where, problems in grouped.items():
            deeper = any(other[: len(where)] == where for other in grouped if len(other) > len(where))
            alternatives = all(problem["type"] in EXPECTED for problem in problems)
            if not (alternatives and deeper):
                self._tell_one(model, where, problems, grouped)

    def _where(self, loc: Sequence[str | int]) -> Path:
        """The path in the data that a problem is about, without the marks of union members."""
        node, path = self.data, cast(Path, ())
        for position, item in enumerate(loc):
            in_list = isinstance(node, list) and isinstance(item, int) and item < len(node)
            if in_list or (isinstance(node, dict) and item in node):
                node = cast(Any, node)[item]
                path = (*path, item)
            elif position == len(loc) - 1 and isinstance(node, dict) and not str(item).startswith(("<", "[")):
                path = (*path, item)
        return path

    def _tell_one(self, model: type[BaseModel], where: Path, problems: list[Problem], grouped: Iterable[Path]) -> None:
        first = problems[0]
        match first["type"]:
            case "extra_forbidden":
                self._unknown_key(model, where, first["loc"])
            case "missing":
                self._missing_key(where, grouped)
            case "step":
                self._verbs(where)
            case "body":
                self._body(where)
            case "string_pattern_mismatch" if first["loc"][-1] == "[key]":
                message = f"`{where[-1]}` cannot be a name: letters, digits and `_`, and no digit first"
                self._error("FC0126", message, self._key(where), where)
            case "invalid_key":
                message = f"the key `{where[-1]}` must be a text"
                self._error("FC0126", message, self._key(where), where)
            case _:
                self._wrong_value(where, problems)

    def _error(self, code: str, message: str, place: Place, where: Path, **more: Any) -> None:
        self.collector.error(code, message, place, path=dotted((*self.base, *where)), **more)

    def _key(self, where: Path) -> Place:
        return self.origins.key((*self.base, *where))

    def _value(self, where: Path) -> Place:
        """Where a value stands; nothing can be marked where it is empty, so that its key is."""
        empty = where and self._at(where) is None
        return self._key(where) if empty else self.origins.value((*self.base, *where))

    def _owner(self, where: Path) -> str:
        owner = dotted((*self.base, *where[:-1]))
        return f"in `{owner}`" if owner else "at the top of the document"

    def _unknown_key(self, model: type[BaseModel], where: Path, loc: Sequence[str | int]) -> None:
        key, owner = str(where[-1]), self._at(where[:-1])
        allowed = _keys_here(model, loc)
        verb = next((verb for verb in schema.VERBS if isinstance(owner, dict) and verb in owner), None)
        if verb in schema.STEPS and key in schema.STEP_KEYS and "flow" in (*self.base, *where):
            belongs = [name for name, step in schema.STEPS.items() if key in schema.keys_of(step)]
            advice = f"`{key}` belongs to {_listed(belongs)}"
            self._error("FC0125", f"`{key}` means nothing for `{verb}`", self._key(where), where, help=advice)
            return
        close = nearest(key, [name for name in allowed if not (isinstance(owner, dict) and name in owner)])
        place = self._key(where)
        self._error(
            "FC0121",
            f"unknown key `{key}` {self._owner(where)}",
            place,
            where,
            help=f"write `{close}`" if close else _belongs(model, key) or suggest(key, allowed, "keys"),
            fix=Fix(place, close) if close else None,
        )

    def _missing_key(self, where: Path, grouped: Iterable[Path]) -> None:
        key = str(where[-1])
        owner = self._at(where[:-1])
        unknown = [str(p[-1]) for p in grouped if len(p) == len(where) and p[:-1] == where[:-1] and p != where]
        if isinstance(owner, dict) and nearest(key, [name for name in unknown if name in owner]):
            return
        advice = f"write `{key}: ...`"
        if key == "merge":
            advice = f"write `merge: add`, or another of {_listed(list(schema.MERGES[1:]))}, or a module"
        name = self._owner(where).removeprefix("in ") if where[:-1] or self.base else "the document"
        self._error("FC0122", f"{name} needs `{key}`", self._key(where[:-1]), where, help=advice)

    def _verbs(self, where: Path) -> None:
        step, name = self._at(where), where[-1]
        if not isinstance(step, dict):
            self._error(
                "FC0123",
                f"the step `{name}` must be a call or a mapping, got {shown(step)}",
                self._value(where),
                where,
            )
            return
        verbs = [verb for verb in schema.VERBS if verb in step]
        if verbs:
            second = self._key((*where, verbs[1]))
            message = f"the step `{name}` has {len(verbs)} verbs: {_listed(verbs)}"
            self._error("FC0124", message, second, where, help=f"keep one of {_listed(verbs)}")
            return
        if self._misspelled(step, where, schema.VERBS, known=schema.STEP_KEYS):
            return
        removed = self.origins.history((*self.base, *where))
        note = f"; the step was taken away at {removed[-1]}" if removed else ""
        advice = f"add one of {_listed(list(schema.VERBS))}"
        self._error("FC0124", f"the step `{name}` has no verb{note}", self._key(where), where, help=advice)

    def _body(self, where: Path) -> None:
        body = self._at(where)
        if isinstance(body, dict) and self._misspelled(body, where, ("flow", "graph", "through")):
            return
        got = "" if body is None else f", got {shown(body)}"
        message = f"`{where[-1]}` must be a call, or a mapping with `flow`, `graph` or `through`{got}"
        self._error("FC0123", message, self._value(where), where)

    def _misspelled(self, owner: dict[str, Any], where: Path, wanted: Sequence[str], known: Sequence[str] = ()) -> bool:
        """Tell of the first key that is nearly one of those wanted; whether there is one."""
        for key in owner:
            close = nearest(str(key), wanted) if key not in known else None
            if close:
                at = (*where, key)
                place = self._key(at)
                message = f"unknown key `{key}` {self._owner(at)}"
                self._error("FC0121", message, place, at, help=f"write `{close}`", fix=Fix(place, close))
                return True
        return False

    def _wrong_value(self, where: Path, problems: list[Problem]) -> None:
        got = self._at(where)
        if isinstance(got, str) and len(where) > 1 and where[-1] in UNIONS:
            problems = [problem for problem in problems if problem["type"] != "string_type"] or problems
        wanted = list(dict.fromkeys(_expected(problem) for problem in problems))
        if any(problem["type"] in ("string_type", "list_type") for problem in problems):
            wanted = [UNIONS[str(where[-1])]] if where and where[-1] in UNIONS else wanted
        subject = f"`{dotted((*self.base, *where))}`" if (*self.base, *where) else "the document"
        if wanted == ["a whole number", "a text"]:
            wanted = ["a whole number, or a text with parameters"]
        if got is None and where:
            message = f"{subject} has no value, and must be {' or '.join(wanted)}"
        elif problems[0]["type"] == "too_short":
            message = f"{subject} {wanted[0]}"
        else:
            message = f"{subject} must be {' or '.join(wanted)}, got {shown(got)}"
        meant = _meant(got, problems) if isinstance(got, str) else None
        place = self._value(where)
        fix = Fix(place, meant) if meant is not None and place.file is not None else None
        self._error("FC0123", message, place, where, help=f"write `{meant}`" if meant else None, fix=fix)

    def _at(self, where: Path) -> object:
        node: Any = self.data
        for item in where:
            try:
                node = node[item]
            except (KeyError, IndexError, TypeError):
                return None
        return node


def _keys_here(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that the model at `loc` allows, found by walking the models' fields."""
    tag = next((str(item).strip("<>") for item in reversed(loc) if str(item).startswith("<")), None)
    last_tag = max((i for i, item in enumerate(loc) if str(item).startswith("<")), default=-1)
    if tag in schema.STEPS and last_tag == len(loc) - 2:
        return schema.keys_of(schema.STEPS[tag])
    tagged: dict[str | None, type[BaseModel]] = {
        "inline": schema.InlineBody,
        "mounted": schema.MountedBody,
        "settled": schema.CallBody,
        "document": schema.GraphDocument,
        "scaled": schema.Scaled,
    }
    if tag in tagged and last_tag == len(loc) - 2:
        return _field_keys(tagged[tag])
    if tag == "mapping" and last_tag == len(loc) - 2:
        return _field_keys(schema.CheckpointSource if "checkpoint" in loc else schema.InputSpec)
    return _field_keys(_descend(model, loc[:-1]))


def _descend(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel]:
    for item in loc:
        field = model.model_fields.get(str(item)) or next(
            (f for f in model.model_fields.values() if f.alias == item), None
        )
        if field is None:
            continue
        inner = _model_in(field.annotation)
        model = inner if inner is not None else model
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _field_keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _expected(problem: Problem) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in EXPECTED:
        return EXPECTED[kind]
    match kind:
        case "literal_error":
            return f"{'one of ' if ',' in context['expected'] else ''}{context['expected'].replace(chr(39), '`')}"
        case "greater_than":
            return f"greater than {context['gt']:g}"
        case "greater_than_equal":
            return f"at least {context['ge']:g}"
        case "less_than":
            return f"less than {context['lt']:g}"
        case "less_than_equal":
            return f"at most {context['le']:g}"
        case "too_short":
            entries = "entry" if context["min_length"] == 1 else "entries"
            return f"needs at least {context['min_length']} {entries}, and has {context['actual_length'] or 'none'}"
        case "string_too_short":
            return "a text that is not empty"
        case "string_pattern_mismatch":
            return PATTERNS.get(context["pattern"]) or _choices(context["pattern"])
        case "finite_number":
            return "a finite number"
        case _:
            return str(problem["msg"]).lower()


def _choices(pattern: str) -> str:
    """A pattern in words: `^(cpu|cuda:\\d+)$` is one of `cpu` or `cuda:0`."""
    words = pattern.strip("^$").removeprefix("(").removesuffix(")").replace(r"\d+", "0").split("|")
    if not all(re.fullmatch(r"[\w:.-]+", word) for word in words):
        return f"a text of the form `{pattern.strip('^$')}`"
    return f"one of {', '.join(f'`{word}`' for word in words[:-1])} or `{words[-1]}`"


def _meant(got: str, problems: Sequence[Problem]) -> str | None:
    """The value that a text of a wrong kind probably stands for."""
    kinds = {problem["type"] for problem in problems}
    if "literal_error" in kinds:
        literal = next(problem for problem in problems if problem["type"] == "literal_error")
        words = literal["ctx"]["expected"].replace(" or ", ", ").split(", ")
        return nearest(got, [word.strip("'") for word in words])
    if "bool_type" in kinds and got.lower() in TRUTHS:
        return TRUTHS[got.lower()]
    bare = got.replace("_", "").replace(",", "")
    if {"int_type", "float_type"} & kinds and re.fullmatch(r"[-+]?\d+", bare):
        return bare
    return bare if "float_type" in kinds and re.fullmatch(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?", bare) else None


def _belongs(model: type[BaseModel], key: str) -> str | None:
    """The help for a key that would be right somewhere else."""
    sections = [
        name
        for name, field in model.model_fields.items()
        if (inner := _model_in(field.annotation)) is not None and name != "model" and key in _field_keys(inner)
    ]
    if sections:
        return f"`{key}` is a key of {_listed(sections)}"
    return f"`{key}` is a key of a step" if key in schema.STEP_KEYS else None


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def shown(value: object) -> str:
    """A value as a message tells it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f"the text `{value if len(value) <= 40 else value[:37] + '...'}`"
    return "null" if value is None else f"`{value}`"


def dotted(path: Path) -> str:
    """A config key as it is written on the command line."""
    return ".".join(str(item) for item in path)
