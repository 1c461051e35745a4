"""Advice for keys and values that are not allowed where they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from flowconf.language import schema
from flowconf.language.advice import foreign_calls, other_tools, vocabulary
from flowconf.language.arguments import written
from flowconf.language.registry import modules
from flowconf.language.training import TrainingConfig
from flowconf.report import Advice, Suggestion
from flowconf.report.origins import Path

GRAPH_KEYS = tuple(schema.keys_of(schema.GraphDocument))
SECTIONS = tuple(TrainingConfig.model_fields)
ARGUMENTS = ("args", "arguments", "config", "dict_kwargs", "init_args", "kwargs", "options", "params", "parameters")
"""Keys that other tools use for the arguments of a module."""

MAPPINGS = {
    "flow": "write each step with its name, as in `name: Linear(8, 8)`",
    "split": "write each branch with its name, as in `name: Linear(8, 8)`",
    "gate": "write each expert with its name, as in `name: Linear(8, 8)`",
    "switch": "write each branch with its name, as in `name: Linear(8, 8)`",
    "inputs": "write each input with its shape, as in `image: [B, 784]`",
    "outputs": "write each output with its name, as in `name: step`",
    "params": "write each parameter with its value, as in `width: 128`",
    "with": "write each parameter with its value, as in `width: 128`",
    "init": "write each parameter with its initial value, as in `weight: xavier_uniform`",
    "rename": "write each old prefix with the new one, as in `encoder: reader`",
    "tie": "write each parameter with the one that it is, as in `weight: embedded.weight`",
    "adapt": "write what is adapted, and how, as in `encoder: {name: lora, rank: 8}`",
}
"""The advice for a list or a string, for keys that require a mapping."""
SINGLE = {
    "merge": "write `merge: cat`, with `dim: ...` beside it",
    "from": "`from` takes one reference; pass further values with `using`",
    "over": "`over` of a map takes one reference; pass further values with `using`",
    "checkpoint": "write a single file or run, as in `checkpoint: weights.safetensors`",
    "tag": "a step has at most one tag",
    "frozen": "to freeze a part of a step, write `frozen: true` in that part",
}
"""The advice for a list, for keys that take one value."""
CALL = re.compile(r"[A-Za-z_][\w.]*(\(.*\))?")
"""A text that looks like the call of a module."""

BODIES = {*schema.VERBS, "skip", "router", "while", "until"} - {"graph", "reuse", "split", "gate", "switch"}
YES = {"yes": "true", "on": "true", "y": "true", "true": "true", "no": "false", "off": "false", "n": "false"}
YES |= {"false": "false", "1": "true", "0": "false"}


def for_unknown_key(key: str, owner: object, value: object, allowed: Collection[str]) -> Advice | None:
    """The advice for a key of other tools, or for one that belongs in the call of a step."""
    is_step = "tag" in allowed
    argument = _for_argument(key, owner, value) if is_step else None
    if argument is not None:
        return argument
    otherwise = vocabulary.NO_STEP_KEYS.get(key) if is_step or "frozen" in allowed else None
    close = other_tools.meant(key, vocabulary.STEP if is_step else vocabulary.DOCUMENT, allowed)
    return Suggestion(close, instead_of=key, otherwise=otherwise) if close else otherwise


def _for_argument(key: str, step: object, value: object) -> str | None:
    """The advice for an argument of a module that is written beside its call instead of in it."""
    text = next((step[verb] for verb in schema.VERBS if verb in step), None) if isinstance(step, Mapping) else None
    name = text.split(">>")[-1].split("(")[0].strip() if isinstance(text, str) else ""
    if name not in modules:
        return None
    if key in ARGUMENTS:
        return f"write arguments in the call, as in `{_call(name, value)}`"
    known = modules.class_source(name).init.names
    return f"write arguments in the call, as in `{name}(..., {key}={written(value)})`" if key in known else None


def for_missing_verb(step: Mapping[str, object], unknown: Sequence[str]) -> tuple[str, Advice] | None:
    """The key that was meant as the verb of a step without one, and the advice."""
    for key in unknown:
        verb = other_tools.meant(key, vocabulary.VERBS, schema.VERBS)
        known = None if verb else _module(key)
        if known is not None:
            return key, f"write `through: {_call(known, step[key])}`"
        if key == "flow":
            return key, "write it under `graph` or another verb"
        if verb is None:
            continue
        value = step[key]
        name = value.rsplit(".", 1)[-1] if isinstance(value, str) else ""
        if verb == "through" and name.isidentifier():
            rest = {other: step[other] for other in unknown if other != key}
            return key, f"write `through: {_call(_module(name) or name, rest)}`"
        return key, Suggestion(verb, instead_of=key)
    return None


def _module(name: str) -> str | None:
    """The module with a name, or with that name in another tool."""
    if name in modules:
        return name
    known = foreign_calls.module_named(name, modules.names()) or vocabulary.MODULES.get(name.lower())
    return known if known in modules else None


def for_wrong_value(where: Path, got: object, kinds: Collection[str]) -> Advice | None:
    """The advice for a value of the wrong type at `where`."""
    key = str(where[-1]) if where else "flow"
    is_text, is_list, owner = isinstance(got, str), isinstance(got, list), where[-2] if len(where) > 1 else None
    if {"literal_error", "bool_type"} & set(kinds) and str(got).lower() in YES and "bool_type" in kinds:
        return Suggestion(YES[str(got).lower()], instead_of=str(got))
    if owner == "flow" or {"body", "step"} & set(kinds):
        if isinstance(got, list) and got and all(isinstance(one, str) and CALL.fullmatch(one.strip()) for one in got):
            return f"write `{' >> '.join(one.strip() for one in got)}`"
        if is_list and owner != "flow" and key in BODIES:
            return "write modules as a chain, as in `Linear(8, 8) >> ReLU`"
        if isinstance(got, dict) and any(verb in got for verb in schema.VERBS):
            return "write it as a step of a `flow`, as in `flow: {inner: {...}}`"
        return "write a call, as in `Linear(8, 8)`" if is_list or isinstance(got, bool | int | float) else None
    if got is None and owner != "inputs" and "inputs" in where:
        return "write `B`, or another name that begins with a capital letter, for an unknown size"
    if owner == "inputs" or (owner in where[:-1] and key == "shape"):
        if isinstance(got, int):
            return Suggestion(f"[B, {got}]", instead_of=str(got))
        return "write a list of sizes, as in `[B, 784]`"
    if isinstance(got, str) and key in MAPPINGS and (run_on := re.match(r"(\w+):(\S.*)", got)):
        return f"write a space after the colon: `{run_on[1]}: {run_on[2]}`"
    if is_list or (is_text and key in MAPPINGS):
        return MAPPINGS.get(key) or SINGLE.get(key)
    if is_text and key == "model":
        return f"to use a graph file, write `graph/{got}@model` under `defaults`"
    if owner == "params":
        return "a parameter is a number, a string, `true`, `false` or a list of them"
    return None


def for_name(name: str) -> str | None:
    """The valid name that is closest to one with invalid characters."""
    close = re.sub(r"\W+", "_", name).strip("_")
    close = f"_{close}" if close[:1].isdigit() else close
    return (
        f"rename it, for example to `{close}`" if close.isidentifier() and close.isascii() and close != name else None
    )


def another_kind(data: Mapping[str, object], wanted: Collection[str], is_mounted: bool) -> tuple[str, str, str] | None:
    """For a document of the wrong kind, without the keys `wanted`: one of its keys, the message, and the advice."""
    strange = [key for key in data if key not in wanted]
    sections = [key for key in strange if key in SECTIONS or key == "model"]
    if "flow" in wanted and sections and len(sections) == len(strange):
        key = sections[0]
        if "model" in data:
            whole = "pass what is under `model`, or the file of the config"
            advice = "name the file of its graph" if is_mounted else whole
            return key, "expected a graph, got a training config", advice
        given = [f"`{own}`" for own in wanted if own in data]
        advice = f"move {', '.join(given)} to `model`" if given else "write `flow`"
        return key, f"`{key}` is a section of a training config, but this is a graph", advice
    if strange and len(strange) == len(data) and not any(get_close_matches(key, wanted, 1, 0.8) for key in data):
        what = "a graph or a training config" if "data" in wanted else "a graph"
        advice = "a graph has `inputs` and `flow`"
        advice += "; a training config has `model`, `data` and `loss`" if "data" in wanted else ""
        return strange[0], f"expected {what}, got the unknown key `{strange[0]}`", advice
    return None


def _call(name: str, given: object) -> str:
    """A call of a module with the arguments in a mapping or list, with `...` for those that are not plain."""
    if isinstance(given, list):
        return f"{name}({', '.join(written(value) for value in given)})"
    if not isinstance(given, Mapping):
        return f"{name}(...)"
    flat: dict[str, object] = {}
    for key, value in given.items():
        if key in ARGUMENTS and isinstance(value, list):
            return _call(name, value)
        flat |= dict(value) if key in ARGUMENTS and isinstance(value, Mapping) else {key: value}
    arguments = ", ".join(f"{key}={written(value)}" for key, value in flat.items())
    return f"{name}({arguments})" if arguments else name
