"""Overrides on the command line: `key=value`, `+key=value`, `++key=value`, `~key` and `~key=value`.

Hydra's grammar parses them, after calls have been quoted: `model.flow.stem=Linear(784, 256)` needs no quotes from the
user. `setting.py` applies them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowconf.report import Place, Reporter, shortened
from flowconf.report.origins import MAX_DEPTH
from flowconf.text.quoting import UnbalancedError, quoted

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as Parsed

MAX_KEY = 500
WHOLE = "write whole values, as in `key=choice([1,3],[2,3])`"
FORMS = "write `key=value`, `+key=value`, `++key=value` or `~key`"

_AS_YAML = re.compile(r"([\w.]+):\s*(\S.*)")
_TWICE = re.compile(r"([+~]*[\w.]+)==(\S*)")
_COMMA = re.compile(r"([^=]+=-?\d+),(\d{2,})")
_STRANGE = re.compile(r"[^\w.\[\]@:/$|\-]", re.ASCII)
"""Characters that are not allowed in the key of an override."""
_NAME = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII)
_LITERALS = ("true", "false", "null", "inf", "nan")
"""Words that Hydra's grammar reads as a value other than a string."""


@dataclass(frozen=True)
class Override:
    """One word of the command line, as typed and as Hydra reads it."""

    typed: str
    parsed: Parsed

    @property
    def place(self) -> Place:
        return Place(word=self.typed)

    @property
    def key(self) -> str:
        """The dotted key or the name of the group, without `+` and `~`."""
        return str(self.parsed.key_or_group)


def parse(words: Sequence[str]) -> list[Override]:
    """All words, parsed.

    Raises `ConfigError`: FC0103, one for each word that cannot be read.
    """
    if not words:
        return []
    from flowconf.text import grammars

    notes, found = Reporter(), []
    for word in _joined(words, notes):
        key = word.partition("=")[0]
        if key.count(".") + key.count("[") >= MAX_DEPTH or len(key) > MAX_KEY:
            message = f"the key is too long: at most {MAX_DEPTH} parts and {MAX_KEY} characters"
            notes.error("FC0103", message, Place(word=shortened(word)))
            continue
        try:
            if not key.strip("+~ "):
                raise ValueError("no key")
            found.append(Override(word, grammars.parse_override(quoted(word))))
        except ValueError as error:
            what, advice = _unreadable(word, error)
            notes.error("FC0103", f"`{shortened(word)}` {what}", Place(word=word), advice=advice)
    notes.stop_on_errors()
    return found


def _unreadable(word: str, error: ValueError) -> tuple[str, str]:
    """The error in a word that is not an override, and the advice."""
    from flowconf.text.grammars import NestedSweep

    bare = word.lstrip("+")
    if bare.endswith((".yaml", ".yml", ".toml")):
        return "is a second config file", "give one config file, followed by overrides such as `key=value`"
    if (colon := _AS_YAML.fullmatch(word)) is not None:
        return "has no `=`", f"write `{colon[1]}={colon[2]}`"
    if (twice := _TWICE.fullmatch(word)) is not None:
        return "has two `=`", f"write `{twice[1]}={twice[2]}`"
    if bare and "=" not in word and not word.startswith("~"):
        return "has no value", f"write `{bare}=value` or `~{bare}`"
    why = _wrong_key(word.partition("=")[0].lstrip("+~"))
    if why is not None:
        return f"is not a valid override: {why}", _with_mapping(word) or FORMS
    if isinstance(error, UnbalancedError):
        return f"is not a valid override: {error}", "close it, or quote the value"
    if "integer string conversion" in str(error):  # Python reads no more digits
        return "has a number with too many digits", "quote it, or shorten it"
    if isinstance(error, NestedSweep):
        return f"is not a valid override: {error}", WHOLE
    return "is not a valid override", FORMS


def _joined(words: Sequence[str], notes: Reporter) -> list[str]:
    """The words, without those that are one override split by spaces, around `=` or in brackets; these are reported."""
    kept: list[str] = []
    pending = list(words)
    while pending:
        word, *pending = pending
        pieces = [word]
        if pending and pending[0].startswith("=") and "=" not in word:
            pieces += [pending.pop(0)]
        if len(pieces[-1]) > 0 and pieces[-1].endswith("=") and pending and "=" not in pending[0]:
            pieces += [pending.pop(0)]
        advice = f"write `{''.join(pieces)}`, without spaces around `=`"
        if len(pieces) == 1 and "=" in word and not {"'", '"'} & set(word) and (more := _until_closed(word, pending)):
            pieces, pending = [word, *pending[:more]], pending[more:]
            advice = f"quote it: `{shlex.quote(' '.join(pieces))}`"
        if len(pieces) > 1 and pieces[0].strip("+~ ="):
            message = f"`{shortened(' '.join(pieces))}` is split by spaces"
            notes.error("FC0103", message, Place(word=word), advice=advice)
        else:
            kept += pieces
    return kept


def _until_closed(word: str, words: Sequence[str]) -> int:
    """The number of `words` that close the brackets which `word` opens; 0 if it opens none, or they stay open."""
    unclosed = 0
    for number, text in enumerate((word, *words)):
        unclosed += sum((sign in "{[(") - (sign in "}])") for sign in text)
        if unclosed <= 0:
            return number
    return 0


def _wrong_key(key: str) -> str | None:
    """Why a key cannot be read."""
    if key != key.strip():
        return "space before `=`"
    if ".." in key or key.startswith(".") or key.endswith("."):
        return "the key has an empty part"
    strange = _STRANGE.search(key)
    return f"`{strange.group()}` is not allowed in a key" if strange else None


def _with_mapping(word: str) -> str | None:
    """The advice for a selector with `*` as a part of a key, such as `optimizer.groups.**:norm.lr=1`."""
    key, _, value = word.partition("=")
    parts = key.split(".")
    first = next((number for number, part in enumerate(parts) if "*" in part), 0)
    if not first or len(parts) > first + 2:
        return None
    inner = f"{{{parts[-1]}: {value}}}" if len(parts) > first + 1 else value
    return f'write `{".".join(parts[:first])}={{"{parts[first]}": {inner}}}`'


def refuse_sweeps(overrides: Sequence[Override]) -> None:
    """Raises FC0103 for words with several values, which only a sweep can take."""
    notes = Reporter()
    for one in overrides:
        if one.parsed.is_sweep_override():
            advice = f"add `-m` to sweep, or write `{one.key}=[...]` for a list"
            comma = _COMMA.fullmatch(one.typed)
            if comma is not None:
                advice = f"write `{comma[1]}.{comma[2]}` for a number, or add `-m` to sweep"
            notes.error("FC0103", f"`{one.typed}` has several values", one.place, path=one.key, advice=advice)
    notes.stop_on_errors()


def refuse_hydra(overrides: Sequence[Override]) -> None:
    """Raises FC0103 for settings of Hydra that apply only to sweeps: all but its search path."""
    notes = Reporter()
    for one in overrides:
        if one.parsed.is_hydra_override() and one.key != "hydra.searchpath":
            message = f"`{shortened(one.typed)}` applies only to sweeps (`-m`)"
            notes.error("FC0103", message, one.place, path=one.key, advice="remove it, or add `-m` to sweep")
    notes.stop_on_errors()


def word_of(key: str, value: Any) -> str:
    """The override that sets `key` to plain data: a number, a string, a truth value, None, or a list of them.

    Example:
        >>> word_of("data.shape", [8, 8]), word_of("seed", 1), word_of("trainer.clip", None)
        ('data.shape=[8,8]', 'seed=1', 'trainer.clip=null')
    """
    return f"{key}={_word(value)}"


def _word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower()
    if _NAME.fullmatch(value) and value.lower() not in _LITERALS:
        return value
    from flowconf.text import grammars

    return grammars.quote(value)


def as_choice(override: Override) -> Override:
    """The override of a config group in the form that Hydra takes."""
    from flowconf.text import grammars

    return replace(override, parsed=grammars.as_choice(override.parsed))


def listed(value: Any) -> list[str]:
    """The options that a group override or a defaults entry names."""
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]
