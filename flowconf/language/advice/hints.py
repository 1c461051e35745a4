"""What to write instead of a key or value that cannot stand where it does."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from flowconf.language import schema
from flowconf.language.advice import other_tools
from flowconf.language.registry import modules
from flowconf.language.training import TrainingConfig
from flowconf.report import Advice, Suggestion
from flowconf.report.origins import Path

GRAPH_KEYS = tuple(schema.keys_of(schema.GraphDocument))
SECTIONS = tuple(TrainingConfig.model_fields)
ARGUMENTS = ("args", "arguments", "config", "dict_kwargs", "init_args", "kwargs", "options", "params", "parameters")
"""Keys under which other tools keep the arguments of a module."""

LISTS = {
    "flow": "give each step a name of its own, as in `name: Linear(8, 8)`",
    "split": "give each branch a name of its own, as in `name: Linear(8, 8)`",
    "gate": "give each expert a name of its own, as in `name: Linear(8, 8)`",
    "switch": "give each branch a name of its own, as in `name: Linear(8, 8)`",
    "inputs": "write each input with its shape, as in `image: [B, 784]`",
    "outputs": "write each output under a name of its own, as in `name: step`",
    "params": "write each parameter with its value, as in `width: 128`",
    "with": "write each parameter with its value, as in `width: 128`",
    "init": "say it of each parameter, as in `weight: xavier_uniform`",
    "merge": "write `merge: cat`, and `dim: ...` beside it",
    "from": "a step reads one value by `from`, and more of them by `using`",
    "over": "a map goes over one value, and its body gets more of them by `using`",
    "checkpoint": "give one file or run, as in `checkpoint: weights.safetensors`",
    "tag": "a step has one tag",
    "rename": "write each old prefix with the new one, as in `encoder: reader`",
    "frozen": "to freeze a part of a step, say `frozen: true` of that part",
}
"""What to write where a list stands; for keys that want a mapping it serves for a text as well."""

MAPPINGS = ("flow", "split", "gate", "switch", "inputs", "outputs", "params", "with", "init", "rename")
BODIES = {*schema.VERBS, "skip", "router", "while", "until"} - {"graph", "reuse", "split", "gate", "switch"}
YES = {"yes": "true", "on": "true", "y": "true", "true": "true", "no": "false", "off": "false", "n": "false"}
YES |= {"false": "false", "1": "true", "0": "false"}


def for_unknown_key(key: str, owner: object, value: object, allowed: Collection[str]) -> str | None:
    """The help for a key that other tools have, or that belongs into the call of a step."""
    if "tag" not in allowed:
        close = other_tools.meant(key, other_tools.DOCUMENT, allowed)
        of_a_step = other_tools.NO_STEP_KEYS.get(key) if "frozen" in allowed else None
        return f"it is called `{close}` here" if close else of_a_step
    argument = _for_argument(key, owner, value)
    close = other_tools.meant(key, other_tools.STEP, allowed)
    return argument or (f"it is called `{close}` here" if close else other_tools.NO_STEP_KEYS.get(key))


def _for_argument(key: str, step: object, value: object) -> str | None:
    """The help for an argument of a module that stands beside its call instead of in it."""
    text = next((step[verb] for verb in schema.VERBS if verb in step), None) if isinstance(step, Mapping) else None
    name = text.split(">>")[-1].split("(")[0].strip() if isinstance(text, str) else ""
    if name not in modules:
        return None
    if key in ARGUMENTS:
        return f"arguments stand in the call, as in `{_call(name, value)}`"
    known = modules.class_source(name).init.names
    return f"arguments stand in the call, as in `{name}(..., {key}={_written(value)})`" if key in known else None


def for_missing_verb(step: Mapping[str, object], unknown: Sequence[str]) -> tuple[str, str] | None:
    """The key of a step without a verb that stands where the verb should, and the help."""
    for key in unknown:
        known = key if key in modules else other_tools.meant(key, other_tools.MODULES, modules.names())
        if known is not None and key not in other_tools.VERBS:
            return key, f"here that is `through: {_call(known, step[key])}`"
        if key == "flow":
            return key, "write it under `graph`, or under another verb"
        verb = other_tools.meant(key, other_tools.VERBS, schema.VERBS)
        if verb is None:
            continue
        value = step[key]
        name = value.rsplit(".", 1)[-1] if isinstance(value, str) else ""
        if verb == "through" and name.isidentifier():
            name = name if name in modules else other_tools.meant(name, other_tools.MODULES, modules.names()) or name
            rest = {other: step[other] for other in unknown if other != key}
            return key, f"here that is `through: {_call(name, rest)}`"
        return key, f"it is called `{verb}` here"
    return None


def for_wrong_value(where: Path, got: object, kinds: Collection[str]) -> Advice | None:
    """The help for a value of the wrong kind at `where`."""
    key = str(where[-1]) if where else "flow"
    is_text, is_list, owner = isinstance(got, str), isinstance(got, list), where[-2] if len(where) > 1 else None
    if {"literal_error", "bool_type"} & set(kinds) and str(got).lower() in YES and "bool_type" in kinds:
        return Suggestion(YES[str(got).lower()], instead_of=str(got))
    if owner == "flow" or {"body", "step"} & set(kinds):
        if is_list and owner != "flow" and key in BODIES:
            return "write one module behind the other, as in `Linear(8, 8) >> ReLU`"
        if isinstance(got, dict) and any(verb in got for verb in schema.VERBS):
            return "write it as a step of a `flow`, as in `flow: {inner: {...}}`"
        return "write a call, as in `Linear(8, 8)`" if is_list or isinstance(got, bool | int | float) else None
    if owner == "inputs" or (owner in where[:-1] and key == "shape"):
        if isinstance(got, int):
            return Suggestion(f"[B, {got}]", instead_of=str(got))
        return "write a list of sizes, as in `[B, 784]`"
    if isinstance(got, str) and key in MAPPINGS and (run_on := re.match(r"(\w+):(\S.*)", got)):
        return f"write a space behind the colon: `{run_on[1]}: {run_on[2]}`"
    if is_list or (is_text and key in MAPPINGS):
        return LISTS.get(key)
    if is_text and key == "model":
        return f"to use a graph file, write `graph/{got}@model` under `defaults`"
    if owner == "params":
        return "a parameter is a number, a string, `true`, `false` or a list of them"
    return None


def for_name(name: str) -> str | None:
    """The name that is nearest to one with signs that a name cannot have."""
    close = re.sub(r"\W+", "_", name).strip("_")
    close = f"_{close}" if close[:1].isdigit() else close
    return f"`{close}` can be one" if close.isidentifier() and close.isascii() and close != name else None


def another_kind(data: Mapping[str, object], wanted: Collection[str]) -> tuple[str, str, str] | None:
    """For a document of another kind than the keys `wanted`: one of its keys, what is wrong, and the help."""
    strange = [key for key in data if key not in wanted]
    sections = [key for key in strange if key in SECTIONS or key == "model"]
    if "flow" in wanted and sections and len(sections) == len(strange):
        key = sections[0]
        if "model" in data:
            return key, "a training config stands here, and a graph is needed", "name the file of its graph"
        given = [f"`{own}`" for own in wanted if own in data]
        advice = f"put {', '.join(given)} under `model`" if given else "write `flow` here"
        return key, f"`{key}` is a section of a training config, and this is a graph", advice
    if strange and len(strange) == len(data) and not any(get_close_matches(key, wanted, 1, 0.8) for key in data):
        what = "this is neither a graph nor a training config" if "data" in wanted else "this is not a graph"
        advice = "a graph has `inputs` and `flow`"
        advice += "; a training config has `model`, `data` and `loss`" if "data" in wanted else ""
        return strange[0], f"{what}: nothing here is called `{strange[0]}`", advice
    return None


def _call(name: str, given: object) -> str:
    """A call of a module with the arguments that a mapping or list holds, as far as they are plain."""
    if isinstance(given, list):
        return f"{name}({', '.join(_written(value) for value in given)})"
    if not isinstance(given, Mapping):
        return f"{name}(...)"
    flat: dict[str, object] = {}
    for key, value in given.items():
        if key in ARGUMENTS and isinstance(value, list):
            return _call(name, value)
        flat |= dict(value) if key in ARGUMENTS and isinstance(value, Mapping) else {key: value}
    arguments = ", ".join(f"{key}={_written(value)}" for key, value in flat.items())
    return f"{name}({arguments})" if arguments else name


def _written(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_written(item) for item in value)}]"
    return "..." if isinstance(value, Mapping) else repr(value)
