"""JSON Schemas of configs, graphs and pivots for editors, generated from the Pydantic models.

A schema describes one file, while a model describes the composed config, so a schema also allows what composition
resolves: `defaults`, null for a removed member, and `${...}` for any value. Schemas cover keys and types only; `check`
reports everything else. Names of modules, losses and so on are listed as examples, because a project may register more.
The schemas use draft 7, which editors support best.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from flowconf.language import changing, config, points, registry, schema, training, weight_source
from flowconf.language.config import ConfigDocument
from flowconf.language.schema import GraphDocument
from flowconf.language.section import Section
from flowconf.text import hydra_settings

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
INTERPOLATION = {
    "description": "`${key}`: the value of another key of the config. `???`: a value that must be set elsewhere.",
    "type": "string",
    "pattern": r"\$\{|^\?\?\?$",
}
DEFAULTS = {
    "description": "The configs from which this one is composed, in order: `_self_`, a config, or `group: option`.",
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": {
                    "anyOf": [{"type": "string"}, {"type": "null"}, {"type": "array", "items": {"type": "string"}}]
                },
            },
        ]
    },
}


def _hydra(allowed: str | hydra_settings.Table) -> Schema | bool:
    """What may stand below `hydra`, as the table of it says; plain values are not looked at."""
    if isinstance(allowed, Mapping):
        below = {key: _hydra(value) for key, value in allowed.items()}
        return {"type": "object", "additionalProperties": False, "properties": below}
    forms = {hydra_settings.FOLDERS: "array", hydra_settings.MAPPING: "object"}
    return {"type": forms[allowed]} if allowed in forms else True


HYDRA: Schema = {
    "description": "Plain arguments of a sweeper and a launcher.",
    "allOf": [_hydra(hydra_settings.SETTINGS)],
}
NAMES = {
    "modules": "A call such as `Linear(64, 10)`, or a chain of them: `Linear(64, 10) >> ReLU`.",
    "metrics": "The registered name of a metric or loss, or the class name of a torchmetrics metric.",
}
"""The descriptions of names that are more than one of a table."""


def schemas() -> dict[str, Schema]:
    """File name -> schema, with the names that are registered so far."""
    return {
        "config.schema.json": config_schema(),
        "graph.schema.json": _schema_of(GraphDocument, "A flowconf graph", partial=False),
        "pivot.schema.json": pivot_schema(),
    }


def config_schema() -> Schema:
    """A training config. With a defaults list, any part may come from other files, as in a pivot."""
    found = _schema_of(ConfigDocument, "A flowconf training config", partial=False)
    whole = found["properties"]
    keys = {key: {"description": section["description"]} for key, section in whole.items()}
    found["properties"] = {"defaults": DEFAULTS, **keys, "hydra": HYDRA}
    found["if"] = {"required": ["defaults"]}
    found["then"] = {"properties": {key: {"$ref": f"pivot.schema.json#/properties/{key}"} for key in whole}}
    found["else"] = {"required": found.pop("required"), "properties": whole}
    return found


def pivot_schema() -> Schema:
    """A pivot: any part of a config, in which null removes members."""
    found = _schema_of(ConfigDocument, "A flowconf pivot", partial=True)
    found["description"] = "Any part of a training config, merged into another one; null removes a member."
    found["properties"] = {"defaults": DEFAULTS, **found["properties"]}
    return found


def _schema_of(model: type[BaseModel], title: str, partial: bool) -> Schema:
    whole = model.model_json_schema(ref_template="#/definitions/{model}")
    models = {one.__name__: one for one in _models(Section)}
    for name, one in [(model.__name__, whole), *whole["$defs"].items()]:
        _describe(models[name], one)
    shape = _Shaper(partial).schema
    definitions = {name: shape(one) for name, one in whole.pop("$defs").items()}
    found = shape(whole)
    names = {f"Name in {table}": _names(table) for table in registry.TABLES}
    used = {name: one for name, one in names.items() if f"#/definitions/{name}" in str([definitions, found])}
    return {
        "$schema": DRAFT,
        "title": title,
        **found,
        "definitions": {**dict(sorted(definitions.items())), **used, "Interpolation": INTERPOLATION},
    }


def _describe(model: type[BaseModel], node: Schema) -> None:
    """Add the docstrings of a model's fields to its schema."""
    for name, field in model.model_fields.items() if "properties" in node else ():
        text = docstring_of(model, name)
        if text:
            member = {**node["properties"][field.alias or name], "description": text}
            node["properties"][field.alias or name] = dict(sorted(member.items()))


def docstring_of(model: type[BaseModel], name: str) -> str:
    """The docstring of a field, or empty."""
    return next((text for base in model.mro() if (text := _texts().get((base.__name__, name)))), "")


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


@cache
def _texts() -> dict[tuple[str, str], str]:
    """Model and field -> the docstring of the field, from source; too slow to read for every config."""
    found = {}
    for module in (changing, config, points, schema, training, weight_source):
        for model in ast.parse(inspect.getsource(module)).body:
            if not isinstance(model, ast.ClassDef):
                continue
            for pair in pairwise(model.body):
                match pair:
                    case ast.AnnAssign(target=ast.Name(id=field)), ast.Expr(value=ast.Constant(value=str(text))):
                        found[model.name, field] = inspect.cleandoc(text)
    return found


def _names(name: str) -> Schema:
    table = registry.TABLES[name]
    description = NAMES.get(name, f"The registered name of {table.one}.")
    return {"description": description, "type": "string", "examples": table.names()}


class _Shaper:
    """Rewrites Pydantic's schema of a composed config to the schema of one file."""

    def __init__(self, partial: bool) -> None:
        self.partial = partial

    def schema(self, node: Schema) -> Schema:
        """One schema, without Pydantic's titles and without choices that exist only for Python documents."""
        if "$ref" in node:
            return {**_described(node), "allOf": [{"$ref": node["$ref"]}]} if "description" in node else dict(node)
        choices = node.get("oneOf", node.get("anyOf"))
        if choices is not None:
            return {**_described(node), **_one_of([self.schema(choice) for choice in choices if choice])}
        if "names" in node:
            return {**_described(node), **_allof(f"Name in {node['names']}", "description" in node)}
        return self._plain(node)

    def _plain(self, node: Schema) -> Schema:
        left_out = {"title", "names", "removable", "patternProperties", "properties", "default", "required"}
        kept = {key: value for key, value in node.items() if key not in left_out}
        if isinstance(node.get("default"), str | int | float):
            kept["default"] = node["default"]
        if node.get("required") and not self.partial:
            kept["required"] = node["required"]
        if self.partial:
            kept.pop("minProperties", None)
        if "properties" in node:
            member = self._partial_member if self.partial else self._member
            kept["properties"] = {key: member(value) for key, value in node["properties"].items()}
        removable = node.get("removable") or self.partial
        member = self._partial_member if removable else self._member
        if "patternProperties" in node:
            ((pattern, below),) = node["patternProperties"].items()
            kept |= {"propertyNames": {"pattern": pattern}, "additionalProperties": member(below)}
        elif isinstance(node.get("additionalProperties"), dict):
            kept["additionalProperties"] = member(node["additionalProperties"])
        if isinstance(node.get("items"), dict) and node["items"]:
            kept["items"] = self._member(node["items"])
        return kept

    def _member(self, node: Schema) -> Schema:
        """The schema of a key's value: the value, or an interpolation."""
        return _or(self.schema(node), {"$ref": "#/definitions/Interpolation"}, unless=_takes_any_text)

    def _partial_member(self, node: Schema) -> Schema:
        """The schema of a key's value, or null."""
        return _or(self._member(node), {"type": "null"}, unless=_takes_null)


def _described(node: Schema) -> Schema:
    found: Schema = {"description": node["description"]} if "description" in node else {}
    return {**found, "default": node["default"]} if isinstance(node.get("default"), str | int | float) else found


def _allof(definition: str, wrapped: bool) -> Schema:
    reference = {"$ref": f"#/definitions/{definition}"}
    return {"allOf": [reference]} if wrapped else reference


def _one_of(choices: list[Schema]) -> Schema:
    """Choices as one flat `anyOf`; an integer is a number."""
    flat: list[Schema] = []
    for choice in choices:
        flat += choice["anyOf"] if set(choice) == {"anyOf"} else [choice]
    if {"type": "number"} in flat:
        flat = [choice for choice in flat if choice != {"type": "integer"}]
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def _or(node: Schema, other: Schema, unless: Callable[[Schema], bool]) -> Schema:
    if not node or unless(node) or any(unless(choice) for choice in node.get("anyOf", ())):
        return node
    outside: Schema = {key: node[key] for key in ("description", "default") if key in node}
    inside = {key: value for key, value in node.items() if key not in outside}
    if set(inside) == {"allOf"}:
        inside = inside["allOf"][0]
    return {**outside, "anyOf": [*(inside["anyOf"] if set(inside) == {"anyOf"} else [inside]), other]}


def _takes_any_text(node: Schema) -> bool:
    if "Name in" in str(node.get("$ref", node.get("allOf", ""))):
        return True
    return node.get("type") == "string" and not node.keys() & {"pattern", "enum", "const"}


def _takes_null(node: Schema) -> bool:
    return node.get("type") == "null"
