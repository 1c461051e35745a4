"""Looks up words of other tools in the vocabulary. They are suggested before similar names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache, lru_cache

from flowconf.language.advice.vocabulary import ABSENT, ADVICE, CONFIG, ENDINGS, MODULES, NAMES, NOT_MODULES, PAIRS
from flowconf.report import Advice, Available, Suggestion, suggest

_CALL = re.compile(r"([\w.]+)\((\w+=.*)\)")
"""A name with named arguments."""


def meant(word: str, table: Mapping[str, str], allowed: Collection[str]) -> str | None:
    """The first allowed name of a table that other tools call `word`; the table is name -> words of others."""
    folded = _folded(word)
    return next((ours for ours, words in table.items() if ours in allowed and folded in _folded_words(words)), None)


def for_key(key: str, allowed: Collection[str]) -> str | None:
    """The allowed key of a training config that other tools call `key`."""
    return meant(key, CONFIG, allowed)


def for_name(kind: str, plural: str, name: str, allowed: Sequence[str]) -> Advice | None:
    """The advice for an unknown name of a table: what other tools call it, or else the nearest name."""
    call = _CALL.fullmatch(name)
    if call is not None:
        near = for_name(kind, plural, call[1], allowed)
        known = call[1] if call[1] in allowed else near.write if isinstance(near, Suggestion) else None
        given = call[2].replace("=", ": ")
        if known is not None and kind in ("loss", "metric"):
            return f"write `{known}`, and its arguments under `args`: `args: {{{given}}}`"
        return near if known is None else f"write `{known}`, and its arguments beside it: `{given}`"
    word, names = bare(kind, name), NAMES.get(kind, {})
    if word in ADVICE.get(kind, {}):
        return ADVICE[kind][word]
    same = [known for known in allowed if bare(kind, known) == word]
    known_as = [ours for ours in names if word in names[ours].split() and ours in allowed]
    found = list(dict.fromkeys([*same, *known_as]))
    listed = Available(plural, tuple(allowed))
    if found:
        return Suggestion(found[0], instead_of=name, others=tuple(found[1:]), otherwise=listed)
    if word in ABSENT.get(kind, "").split():
        return f"register it with `flowconf.register_{kind.replace(' ', '')}`; {listed}"
    return suggest(name, allowed, plural)


def for_module(name: str, names: Collection[str]) -> str | None:
    """The advice for an unknown module of other tools: its name in flowconf, or an alternative."""
    folded = _folded(name)
    if folded in NOT_MODULES:
        return NOT_MODULES[folded]
    if MODULES.get(folded) in names:
        return f"use `{MODULES[folded]}`"
    form = re.compile(rf"{re.escape(folded)}[123]d", re.IGNORECASE)
    sizes = [f"`{known}`" for known in sorted(names) if form.fullmatch(known)]
    return f"write {', '.join(sizes[:-1])} or {sizes[-1]}" if len(sizes) > 1 else None


def for_pair(key: str, value: object, allowed: Collection[str]) -> tuple[str, str] | None:
    """The allowed key, and its value, that other tools write as `key: value`."""
    text = written(value)
    for pattern, ours in PAIRS.get(key, {}).items():
        found = re.fullmatch(pattern, text, re.IGNORECASE)
        if found is not None:
            name, _, meaning = found.expand(ours).partition(": ")
            return (name, meaning) if name in allowed else None
    return None


def written(value: object) -> str:
    """A value as it is written in YAML."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _folded(word: str) -> str:
    return re.sub(r"[\s_-]", "", word.lower())


@cache
def _folded_words(words: str) -> frozenset[str]:
    """The words of one entry of the vocabulary."""
    return frozenset(map(_folded, words.split()))


@lru_cache(maxsize=4096)
def bare(kind: str, name: str) -> str:
    """A name without package, and without the endings that make no difference."""
    word = _folded(name.rpartition(".")[2])
    ending = next((one for one in ENDINGS.get(kind, ()) if word.endswith(one) and word != one), "")
    return word.removesuffix(ending)
