"""Overrides on the command line: `key=value`, `+key=value`, `++key=value`, `~key` and `~key=value`.

Hydra's grammar parses them, after calls have been quoted: `model.flow.stem=Linear(784, 256)` needs no quotes from the
user. Each is applied by the same merge as files. A plain `key=value` needs a key that exists, except for what
`MergeRules` makes settable or optional.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowconf.report import (
    Advice,
    ConfigError,
    Diagnostic,
    Label,
    Place,
    Reporter,
    Suggestion,
    nearest,
    shortened,
    suggest,
)
from flowconf.report.origins import MAX_DEPTH, Node, Origins, Path, dotted, from_plain
from flowconf.text.merge import Kind, MergeRules, drop, heads, kind_at, matches, put

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as Parsed

MAX_KEY = 500
WHOLE = "write whole values, as in `key=choice([1,3],[2,3])`"
FORMS = "write `key=value`, `+key=value`, `++key=value` or `~key`"

_PAIRS = {"(": ")", "[": "]", "{": "}"}
_FUNCTION = re.compile(r"\s*([A-Za-z_]\w*)\s*\(")
_ARGUMENT = re.compile(r"\s*[A-Za-z_]\w*\s*=(?!=)")
_AS_YAML = re.compile(r"([\w.]+):\s*(\S.*)")
_TWICE = re.compile(r"([+~]*[\w.]+)==(\S*)")
_COMMA = re.compile(r"([^=]+=-?\d+),(\d{2,})")
_STRANGE = re.compile(r"[^\w.\[\]@:/$|\-]", re.ASCII)
"""What the key of an override cannot contain."""
_ESCAPED = re.compile(r"\\.")
_NAME = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII)
_LITERALS = ("true", "false", "null", "inf", "nan")
"""What Hydra's grammar reads as a value other than a string."""
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
_UNUSUAL = re.compile(r"[^\w\s/\\+.$%*@?|:=,\-\[\]{}'\"]", re.ASCII)
"""What Hydra's grammar cannot read without quotes: `(`, `>`, letters beyond ASCII, and so on."""


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

    Raises:
        ConfigError: FC0103, one for each word that cannot be read.
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
    """What is wrong with a word that is not an override, and the advice."""
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
        return f"is not a valid override: {why}", FORMS
    if isinstance(error, _UnbalancedError):
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


def apply(root: Node, override: Override, rules: MergeRules, groups: Callable[[], list[str]] = list) -> Node:
    """`root` changed by one word.

    Args:
        groups: gives the names of the config groups, for the help when a key does not exist.

    Raises:
        ConfigError: FC0102 for a key that does not exist, or exists where `+` adds one; FC0101 for a group.
    """
    parsed, place = override.parsed, override.place
    path = _path(root, override.key)
    old = root.at(path)
    if parsed.is_delete():
        return _delete(root, override, path, old, rules, groups)
    if parsed.is_add() and old is not None and old.value is not None and not isinstance(parsed.value(), dict):
        message = f"`{override.key}` already exists"
        advice = Suggestion(override.typed.lstrip("+"), override.typed)
        labels = (Label("set here", old.place),)
        raise ConfigError(Diagnostic("FC0102", message, place, override.key, labels, advice))
    adds = parsed.is_add() or parsed.is_force_add()
    value = parsed.value()
    is_section = override.key in rules.tops and override.key != "defaults"
    if not _can_hold(root, path, rules) or not (
        adds or old is not None or is_section or _may_be_set(root, path, rules)
    ):
        raise _unknown(root, override, path, rules, groups)
    if adds and root.at(path[:-1]) is None and (home := _home_of_member(root, override.key, rules)):
        message = f"`{dotted(path[:-1])}` does not exist"
        raise ConfigError(Diagnostic("FC0102", message, place, override.key, (), _renamed(override, dotted(home))))
    return put(root, path, from_plain(value, place), rules)


def may_name_graphs(override: Override, rules: MergeRules) -> bool:
    """Whether a word may leave the name of a graph where the graph belongs, so that the tree is expanded again."""
    value = override.parsed.value()
    removes = override.parsed.is_delete() or value is None
    return removes or isinstance(value, dict | list) or override.key.rpartition(".")[2] == rules.mount


def _path(root: Node, key: str) -> Path:
    """The path of a dotted key; numbers are positions in a list."""
    path: Path = ()
    for step in key.split("."):
        parent = root.at(path)
        is_list = parent is not None and isinstance(parent.value, list)
        path = (*path, int(step) if is_list and step.isdigit() else step)
    return path


def _delete(
    root: Node, override: Override, path: Path, old: Node | None, rules: MergeRules, groups: Callable[[], list[str]]
) -> Node:
    if old is None:
        raise _unknown(root, override, path, rules, groups)
    wanted = override.parsed.value()
    if wanted is not None and wanted != old.plain():
        message = f"`{override.key}` is `{old.plain()}`, not `{wanted}`"
        labels = (Label("set here", old.place),)
        raise ConfigError(
            Diagnostic("FC0102", message, override.place, override.key, labels, f"write `~{override.key}`")
        )
    if old.value is None and kind_at(root, path, rules) is Kind.STEP:
        return root
    return drop(root, path, override.place, rules)


def _may_be_set(root: Node, path: Path, rules: MergeRules) -> bool:
    """Whether a key that does not exist may be set without `+`."""
    if any(matches(parts, path[: len(parts)]) for parts in (pattern.split(".") for pattern in rules.optional)):
        return True
    known = _known(root, path)
    return any(
        path[at] in rules.settable
        and _takes_modifiers(root, path[:at], rules)
        and (at == known or path[at] not in rules.bodies)
        for at in range(known + 1)
    )


def _can_hold(root: Node, path: Path, rules: MergeRules) -> bool:
    """Whether the deepest value that exists on the way can be given what is missing: a mapping, null, or a call."""
    known = _known(root, path)
    if known == len(path):
        return True
    node = root.at(path[:known])
    assert node is not None
    return isinstance(node.value, dict | None) or _takes_modifiers(root, path[:known], rules)


def _known(root: Node, path: Path) -> int:
    """How many steps of `path` exist."""
    return next(length for length in reversed(range(len(path) + 1)) if root.at(path[:length]) is not None)


def _takes_modifiers(root: Node, path: Path, rules: MergeRules) -> bool:
    """Whether modifiers may be set at `path`: on a step, or on a body that is a call or has a verb or flow."""
    kind, node = kind_at(root, path, rules), root.at(path)
    if node is None or not isinstance(node.value, str | dict):
        return False
    return kind is Kind.STEP or (kind is Kind.BODY and (isinstance(node.value, str) or bool(heads(node, kind, rules))))


def _unknown(
    root: Node, override: Override, path: Path, rules: MergeRules, groups: Callable[[], list[str]]
) -> ConfigError:
    """The key does not exist: what was nearest, at the level where it fails."""
    known = _known(root, path)
    parent, above, wrong = root.at(path[:known]), path[:known], str(path[known])
    assert parent is not None
    allowed = [str(name) for name, _ in parent.members()]
    if _takes_modifiers(root, above, rules):
        allowed += sorted(rules.settable)
    allowed += sorted(
        parts[known]
        for pattern in rules.optional
        if len(parts := pattern.split(".")) > known and matches(parts[:known], above)
    )
    allowed = list(dict.fromkeys(name for name in allowed if name != "*"))
    failing, key = dotted((*above, wrong)), override.key
    labels: tuple[Label, ...] = ()
    is_ours = any(name.endswith(f".{wrong}") for name in rules.known)
    meant = wrong if is_ours else rules.synonyms.get(wrong, wrong)
    group = nearest(wrong, [*allowed, *groups()]) if known == 0 and meant == wrong else None
    if group is not None and group not in allowed:
        better = Suggestion(override.typed.replace(wrong, group, 1), override.typed)
        return ConfigError(Diagnostic("FC0101", f"there is no config group `{wrong}`", override.place, key, (), better))
    message = f"`{failing}` does not exist"
    if parent.value is None and above:
        message = f"`{failing}` does not exist: `{dotted(above)}` is removed"
        labels = (Label("removed here", parent.place),)
    elif not isinstance(parent.value, dict | list):
        message = f"`{failing}` does not exist: `{dotted(above)}` is `{parent.value}`"
        labels = (Label("set here", parent.place),)
    close = meant if meant in allowed else nearest(wrong, allowed)
    home = _home(root, meant, rules) if known == 0 else _below(parent, above, wrong) if close is None else None
    member = _home_of_member(root, key, rules)
    if member is not None and (root.at(member) is not None or member[-1] in rules.settable):
        return ConfigError(
            Diagnostic("FC0102", message, override.place, key, labels, _renamed(override, dotted(member)))
        )
    if home is not None:
        advice: Advice = _renamed(override, dotted((*home, *path[known + 1 :])))
    elif close == wrong:  # a key that the config leaves out
        advice = Suggestion(f"+{override.typed}", override.typed)
    elif close is not None:
        advice = _renamed(override, dotted((*above, close, *path[known + 1 :])))
    else:
        ways = [suggest(wrong, allowed, "keys")]
        if isinstance(parent.value, str):
            ways.append(f"to change it, write `{dotted(above)}=...`")
        elif known and isinstance(parent.value, dict | None) and not override.typed.startswith(("~", "+")):
            ways.append(f"to add a new key, write `+{override.typed}`")
        advice = "; ".join(str(way) for way in ways if way)
    return ConfigError(Diagnostic("FC0102", message, override.place, key, labels, advice or None))


def _renamed(override: Override, key: str) -> Suggestion:
    """The advice to set another key, to the same value if it fits."""
    return Suggestion(override.typed.replace(override.key, key, 1), override.typed, otherwise=f"use `{key}`")


def _home(root: Node, key: str, rules: MergeRules) -> Path | None:
    """Where a key belongs that is not at the top: at the highest level that has it, or where the language has it.

    None if that is not certain.
    """
    paths = [path for path, _ in Origins(root).items() if path and path[-1] == key]
    found = min(paths, key=len, default=None)
    if found is not None and sum(len(path) == len(found) for path in paths) > 1:
        return None
    known = next((name for name in rules.known if name.endswith(f".{key}")), None)
    return tuple(known.split(".")) if known is not None and (found is None or len(found) > 2) else found


def _below(parent: Node, above: Path, key: str) -> Path | None:
    """Where the only member of `parent` is that has a key which `parent` itself does not have."""
    found = [name for name, node in parent.members() if any(inner == key for inner, _ in node.members())]
    return (*above, found[0], key) if len(found) == 1 else None


def _home_of_member(root: Node, key: str, rules: MergeRules) -> Path | None:
    """Where a config has what a path in the graph means, such as `word.letter.latent`, or a new key or step there."""
    top, around = rules.tops[:1], {*rules.verbs, rules.mount, rules.flow}
    at: Path = top
    names = [name for name in key.removeprefix(f"{dotted(top)}.").split(".") if name not in around]
    while names:
        found = next(
            (one for one in _members(root, at, rules) if names[0] in (one[-1], _label(root, one, rules))), None
        )
        if found is None:
            break
        at = found
        names.pop(0)
    if not names:
        return at
    if len(names) > 1 or at == top:
        return None
    flow = next((path for path, kind in _around(root, at, rules) if kind is Kind.FLOW), None)
    home = at if names[0] in rules.settable else flow
    return None if home is None else (*home, names[0])


def _around(root: Node, top: Path, rules: MergeRules) -> Iterator[tuple[Path, Kind]]:
    """What is below a place of the graph, without what is below other steps, the nearest first."""
    found = [top]
    for path in found:
        node = root.at(path)
        for name, _ in node.members() if node is not None and isinstance(node.value, dict) else ():
            below = (*path, name)
            kind = kind_at(root, below, rules)
            yield below, kind
            if kind in (Kind.FLOW, Kind.BODY):
                found.append(below)


def _members(root: Node, top: Path, rules: MergeRules) -> Iterator[Path]:
    """The steps and bodies that the graph has one level below a place."""
    for path, kind in _around(root, top, rules):
        if kind is Kind.STEP or (kind is Kind.BODY and path[-1] not in rules.verbs):
            yield path


def _label(root: Node, step: Path, rules: MergeRules) -> str | None:
    """The label of the graph that a step mounts."""
    places = (path for path, kind in _around(root, step, rules) if kind is Kind.PLAIN and path[-1] == rules.label)
    label = root.at((*step, rules.label)) or next(map(root.at, places), None)
    return str(label.value) if label is not None else None


# quoting


class _UnbalancedError(ValueError):
    """A bracket or quote that is not closed."""


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


def quoted(word: str) -> str:
    """A word with quotes around the calls in it, and `a[0]` written as `a.0`, for Hydra's grammar.

    Raises:
        ValueError: a bracket or quote is not closed.
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
                raise _UnbalancedError(f"brackets are nested deeper than {MAX_DEPTH}")
        elif sign in ")]}":
            if not waiting or waiting.pop() != sign:
                raise _UnbalancedError(f"unmatched `{sign}`")
        elif sign == separator and not waiting:
            pieces.append(text[start:at])
            start = at + 1
        at += 1
    if waiting or quote:
        raise _UnbalancedError(f"missing `{waiting[-1] if waiting else quote}`")
    return [*pieces, text[start:]]


def as_choice(override: Override) -> Override:
    """The override of a config group in the form that Hydra takes."""
    from flowconf.text import grammars

    return replace(override, parsed=grammars.as_choice(override.parsed))


def listed(value: Any) -> list[str]:
    """The options that a group override or a defaults entry names."""
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]
