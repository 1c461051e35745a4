"""Plain data as YAML text that reads back as the same data, under YAML 1.2 and 1.1 alike.

Mappings are written as blocks, one key a line; a list is one line. A string is plain only where no reader could
take it for anything else, and in double quotes everywhere else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping

from flowconf.report import Place

Comment = Callable[[tuple[str | int, ...]], str | None]

PLAIN = re.compile(r"[A-Za-z_/][^\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff]*")
PLAIN_IN_LIST = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
LOOKS_OTHERWISE = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Lower-cased, the only texts that begin with a letter and that some reader takes for a value of another kind."""
COMMENT_COLUMN = 60


def dump(data: Mapping[str, object], comment: Comment | None = None) -> str:
    """`data` as YAML; `comment` gives the comment after the value at a path, or None for none."""
    lines = list(_mapping(data, (), comment or (lambda path: None)))
    widest = max((len(text) for text, note in lines if note and len(text) <= COMMENT_COLUMN), default=0)
    return "".join((f"{text.ljust(widest)}  # {note}" if note else text) + "\n" for text, note in lines) or "{}\n"


def inline(value: object) -> str:
    """One value as YAML in one line."""
    return _value(value)


def describe(place: Place, earlier: tuple[Place, ...] = ()) -> str:
    """Where a value was written, and what it was written over, the latest first."""
    over = f" (over {', '.join(str(other) for other in reversed(earlier))})" if earlier else ""
    return " ".join(f"{place}{over}".split())


def _mapping(
    data: Mapping[str, object], path: tuple[str | int, ...], comment: Comment
) -> Iterator[tuple[str, str | None]]:
    indent = "  " * len(path)
    for key, value in data.items():
        here = (*path, key)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_key(key)}:", None
            yield from _mapping(value, here, comment)
        else:
            yield f"{indent}{_key(key)}: {_value(value)}", comment(here)


def _key(key: object) -> str:
    return _value(key, inside=True)


def _value(value: object, inside: bool = False) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float(value)
        case str():
            return value if _is_plain(value, inside) else _quoted(value)
        case Mapping():
            return f"{{{', '.join(f'{_key(key)}: {_value(item, True)}' for key, item in value.items())}}}"
        case list() | tuple():
            return f"[{', '.join(_value(item, True) for item in value)}]"
    raise TypeError(f"{type(value).__name__} is not plain data")


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    digits, exponent, power = repr(value).partition("e")
    return digits + (".0" if exponent and "." not in digits else "") + exponent + power


def _is_plain(text: str, inside: bool) -> bool:
    if not (PLAIN_IN_LIST if inside else PLAIN).fullmatch(text) or text.lower() in LOOKS_OTHERWISE:
        return False
    return not text.endswith((":", " ")) and ": " not in text and " #" not in text and text.isprintable()


def _quoted(text: str) -> str:
    shown = json.dumps(text, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in shown)


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
