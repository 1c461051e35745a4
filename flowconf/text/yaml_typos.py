"""Typos in a line of YAML at which parsing stops."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from flowconf.report import Advice, Suggestion


@dataclass(frozen=True)
class Typo:
    """An error in a line: the cause, its first character and length, and what to write."""

    words: str
    start: int
    length: int
    advice: Advice


def find(problem: str, line: str, at: int) -> Typo | None:
    """The typo in a line, where the parser reports a `problem` at the character with index `at`."""
    found = (look(line, at) for pattern, look in _LOOKS if re.search(pattern, problem))
    return next((typo for typo in found if typo is not None), None)


def _comma(line: str, at: int) -> Typo | None:
    """`{through: ReLU after: act}`"""
    key = re.search(r"[\w)\"'\]]\s+(\w+)\s*$", line[:at])
    if not line[at:].startswith(":") or key is None:
        return None
    return Typo(f"missing comma before `{key[1]}`", key.start(1), len(key[1]), f"write `, {key[1]}: ...`")


def _index(line: str, at: int) -> Typo | None:
    """`{from: read.at[0]}`"""
    name, index = re.search(r"[^\s,:{}\[\]]+$", line[:at]), re.match(r"\[[^\[\]]*\]", line[at:])
    if name is None or index is None:
        return None
    text = name[0] + index[0]
    return Typo(
        f"`{text}` needs quotes inside braces or brackets",
        name.start(),
        len(text),
        Suggestion(f'"{text}"', instead_of=text),
    )


def _bracket(line: str, at: int) -> Typo | None:
    """`{x: [B, 8}` and `{x: [B, 8]]`"""
    sign, missing = line[at : at + 1], {"}": "]", "]": "}"}
    if sign not in missing:
        return None
    both = f"{missing[sign]}{sign}"
    advice = Suggestion(missing[sign], instead_of=sign, others=(both,))
    return Typo(f"expected `{missing[sign]}`, got `{sign}`", at, 1, advice)


def _sign_first(line: str, at: int) -> Typo | None:
    """`b: >> ReLU`"""
    first = re.search(r":\s+([>|]+)\s*$", line[:at])
    if first is None:
        return None
    advice = "`>>` needs a module on both sides" if first[1] == ">" else "quote the value, or remove it"
    rest = re.match(r"[>|]*", line[at:].lstrip())
    sign = first[1] + (rest[0] if rest and not line[at:].startswith(" ") else "")
    return Typo(f"a value cannot begin with `{sign}`", first.start(1), len(sign), advice)


def _after_quotes(line: str, at: int) -> Typo | None:
    """`b: "Linear(8, 8)" >> ReLU`"""
    closing = re.search(r"[\"'](?=\s*[>|]*\s*$)", line[:at])
    rest = line[closing.end() :].strip() if closing is not None else ""
    if closing is None or not rest:
        return None
    advice = "quote the whole value"
    return Typo(f"unexpected `{rest}` after the closing quote", line.index(rest, closing.end()), len(rest), advice)


def _item(line: str, at: int) -> Typo | None:
    """`- b: ReLU` among keys"""
    if not line[at:].startswith("- "):
        return None
    return Typo("list item among the keys of a mapping", at, 1, "remove the `- `")


def _key(line: str, at: int) -> Typo | None:
    """`b: ReLU` among items"""
    key = line[at:].split(":")[0].rstrip()
    advice = "begin every entry with `- `, or none"
    return Typo("key among the items of a list", at, len(key), advice)


_LOOKS: tuple[tuple[str, Callable[[str, int], Typo | None]], ...] = (
    (r"expected ',' or '}'", _comma),
    (r"expected ',' or", _index),
    (r"expected ',' or", _bracket),
    ("expected comment or line break", _sign_first),
    ("expected comment or line break|expected key|block end", _after_quotes),
    ("expected key|block end", _item),
    ("expected '-' indicator", _key),
)
"""The message of the parser -> the typo to look for."""
