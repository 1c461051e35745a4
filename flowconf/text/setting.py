"""Applies an override to a composed config, by the same merge as files.

A plain `key=value` needs a key that exists, except for what `MergeRules` makes settable or optional.
"""

from __future__ import annotations

from collections.abc import Callable

from flowconf.report import ConfigError, Diagnostic, Label, Suggestion
from flowconf.report.origins import Node, Path, dotted, from_plain
from flowconf.text.merge import Kind, MergeRules, drop, kind_at, matches, put
from flowconf.text.overrides import Override
from flowconf.text.unknown_keys import UnknownKey, home_of_member, known_steps, renamed, takes_modifiers


def apply(root: Node, override: Override, rules: MergeRules, groups: Callable[[], list[str]] = list) -> Node:
    """`root` changed by one word.

    `groups` gives the names of the config groups, for the help when a key does not exist.

    Raises `ConfigError`: FC0102 for a key that does not exist, or exists where `+` adds one; FC0101 for a group.
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
        raise UnknownKey(root, override, path, rules, groups).error()
    if adds and root.at(path[:-1]) is None and (home := home_of_member(root, override.key, rules)):
        message = f"`{dotted(path[:-1])}` does not exist"
        raise ConfigError(Diagnostic("FC0102", message, place, override.key, (), renamed(override, dotted(home))))
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
        raise UnknownKey(root, override, path, rules, groups).error()
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
    known = known_steps(root, path)
    return any(
        path[at] in rules.settable
        and takes_modifiers(root, path[:at], rules)
        and (at == known or path[at] not in rules.bodies)
        for at in range(known + 1)
    )


def _can_hold(root: Node, path: Path, rules: MergeRules) -> bool:
    """Whether the deepest value that exists on the way can be given what is missing: a mapping, null, or a call."""
    known = known_steps(root, path)
    if known == len(path):
        return True
    node = root.at(path[:known])
    assert node is not None
    return isinstance(node.value, dict | None) or takes_modifiers(root, path[:known], rules)
