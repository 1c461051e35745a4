"""Arguments of Python functions that take several texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from flowconf.report.diagnostic import Diagnostic
from flowconf.report.errors import ConfigError


def texts(given: object, argument: str) -> list[str]:
    """The texts in a list that is passed as `argument`.

    Raises `ConfigError` for a single text, whose letters Python would take for the texts, for a mapping, and for other
    elements.
    """
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        found = list(given)
        if all(isinstance(one, str) for one in found):
            return found
        given = next(one for one in found if not isinstance(one, str))
        what, advice = f"a list with a `{type(given).__name__}`", None
    elif isinstance(given, str):
        what, advice = f"the string `{given}`", f"write `{json.dumps([given], ensure_ascii=False)}`"
    elif isinstance(given, Mapping):
        plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
        words = [f"{key}={value}" for key, value in plain.items()]
        what, advice = "a dict", f"write `{json.dumps(words, ensure_ascii=False)}`"
    else:
        what, advice = f"a `{type(given).__name__}`", None
    raise ConfigError(Diagnostic("FC0123", f"`{argument}` must be a list of strings, got {what}", advice=advice))
