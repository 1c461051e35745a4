"""Quotes in overrides: around the calls and other texts that Hydra's grammar cannot read without them."""

from __future__ import annotations

import re

from flowconf.report.origins import MAX_DEPTH

_PAIRS = {"(": ")", "[": "]", "{": "}"}
_FUNCTION = re.compile(r"\s*([A-Za-z_]\w*)\s*\(")
_ARGUMENT = re.compile(r"\s*[A-Za-z_]\w*\s*=(?!=)")
_ESCAPED = re.compile(r"\\.")
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
_UNUSUAL = re.compile(r"[^\w\s/\\+.$%*@?|:=,\-'\"]", re.ASCII)
"""Characters that Hydra's grammar cannot read without quotes: `(`, `>`, `[` as in `at[0]`, letters beyond ASCII."""


class UnbalancedError(ValueError):
    """A bracket or quote that is not closed."""


def quoted(word: str) -> str:
    """A word with quotes around the calls in it, and `a[0]` written as `a.0`, for Hydra's grammar.

    Raises `ValueError`: a bracket or quote is not closed.
    """
    key, equals, value = word.partition("=")
    if "@" not in key and "/" not in key:
        key = re.sub(r"\[(\d+)\]", r".\1", key)
    return key + equals + (_elements(value) if equals else "")


def _elements(text: str, with_names: bool = False) -> str:
    """Elements separated by commas, each quoted where it needs to be; `with_names` for a function's arguments."""
    done = []
    for piece in _split(text, ","):
        name = _ARGUMENT.match(piece) if with_names else None
        head = name.group() if name else ""
        done.append(head + _element(piece[len(head) :]))
    return ",".join(done)


def _element(text: str) -> str:
    bare = text.strip()
    if not bare or bare[0] in "'\"":
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    if bare[0] == "[" and bare[-1] == "]":
        inner = f"[{_elements(bare[1:-1])}]"
    elif bare[0] == "{" and bare[-1] == "}":
        inner = f"{{{','.join(_pair(piece) for piece in _split(bare[1:-1], ','))}}}"
    else:
        inner = _scalar(bare)
    return before + inner + after


def _pair(text: str) -> str:
    key, *value = _split(text, ":")
    if not value:
        return text
    bare = key.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\"":  # the grammar has escapes in keys, but no quotes
        bare = re.sub(r"[\\()\[\]{}:=,\s]", r"\\\g<0>", bare[1:-1])
    return f"{bare}:{_element(text[len(key) + 1 :])}"


def _scalar(text: str) -> str:
    from flowconf.text import grammars

    function = _FUNCTION.match(text)
    if function is not None and text.endswith(")") and function.group(1) in grammars.override_functions():
        return f"{text[: function.end()]}{_elements(text[function.end() : -1], with_names=True)})"
    naked = _INTERPOLATION.sub("", _ESCAPED.sub("", text))
    return grammars.quote(text) if _UNUSUAL.search(naked) else text


def _split(text: str, separator: str) -> list[str]:
    """The pieces between separators outside of brackets and quotes."""
    pieces, waiting, start, at, quote = [], [], 0, 0, ""
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            at += 1
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in _PAIRS:
            waiting.append(_PAIRS[sign])
            if len(waiting) > MAX_DEPTH:
                raise UnbalancedError(f"brackets are nested deeper than {MAX_DEPTH}")
        elif sign in ")]}":
            if not waiting or waiting.pop() != sign:
                raise UnbalancedError(f"unmatched `{sign}`")
        elif sign == separator and not waiting:
            pieces.append(text[start:at])
            start = at + 1
        at += 1
    if waiting or quote:
        raise UnbalancedError(f"missing `{waiting[-1] if waiting else quote}`")
    return [*pieces, text[start:]]
