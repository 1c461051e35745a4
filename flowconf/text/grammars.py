"""The grammars of Hydra and OmegaConf: overrides, interpolations and resolvers.

Only this file and `hydra_bridge` know private parts of the two; `tests/text/test_upstream_hydra.py` pins what they use.
Importing this module imports Hydra's parser and OmegaConf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from hydra import version
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import ChoiceSweep, Glob, Quote, QuotedString, Sweep
from hydra.core.override_parser.types import Override as Parsed
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar_parser import parse as parse_interpolation
from omegaconf.grammar_visitor import GrammarVisitor

VERSION_BASE = "1.3"


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def parse_override(word: str) -> Parsed:
    """One override, parsed by Hydra's grammar; `ValueError` where it is not valid."""
    version.setbase(VERSION_BASE)
    try:
        parsed = _parser().parse_overrides([word])[0]
    except HydraException as error:
        raise ValueError(str(error)) from error
    if any(map(_has_sweep, _values_in(parsed._value))):
        raise NestedSweep("the values of a sweep are inside another value")
    return parsed


class NestedSweep(ValueError):
    """Values to try as a part of one value, such as `[choice(1, 2), 3]`, which the grammar reads, and nothing tries."""


def _values_in(value: Any) -> Iterable[Any]:
    match value:
        case ChoiceSweep(list=values) | (list() as values):
            return values
        case dict():
            return value.values()
    return ()


def _has_sweep(value: Any) -> bool:
    return isinstance(value, Sweep | Glob) or any(map(_has_sweep, _values_in(value)))


def as_choice(parsed: Parsed) -> Parsed:
    """An override of a group in the form that Hydra takes: `group=null` is `~group`, `group=1` names the option "1"."""
    value, key = parsed.value(), parsed.get_key_element()
    if parsed.is_delete() or parsed.is_sweep_override() or isinstance(value, str | list):
        return parsed
    return parse_override(f"~{key.lstrip('+')}" if value is None else f"{key}={quote(str(value))}")


@cache
def override_functions() -> frozenset[str]:
    """The functions of Hydra's grammar: `choice`, `range` and so on."""
    return frozenset(create_functions().functions)


def quote(text: str) -> str:
    """The string in quotes, which the grammar removes again."""
    return QuotedString(text, Quote.double if "'" in text and '"' not in text else Quote.single).with_quotes()


def evaluate(text: str, refer: Callable[..., Any], call: Callable[..., Any]) -> Any:
    """A string with `${...}`, evaluated by OmegaConf's grammar; `ValueError` where it is not valid."""
    try:
        return GrammarVisitor(refer, call, None).visit(parse_interpolation(text))
    except OmegaConfBaseException as error:
        raise ValueError(str(error)) from error


@cache
def _nowhere() -> DictConfig:
    setup_globals()
    return OmegaConf.create({"value": None})


def has_resolver(name: str) -> bool:
    """Whether OmegaConf knows a resolver of that name."""
    _nowhere()
    return OmegaConf.has_resolver(name)


def call_resolver(name: str, args: tuple[Any, ...], args_str: tuple[str, ...]) -> Any:
    """The result of a resolver as plain data. It sees nothing of the config but its arguments."""
    config = _nowhere()
    found = BaseContainer._resolvers[name](config, config, config._get_node("value"), args, args_str)
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
