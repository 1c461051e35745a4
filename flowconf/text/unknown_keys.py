"""Overrides of keys that a config does not have: the error, with what was probably meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from flowconf.report import Advice, ConfigError, Diagnostic, Label, Suggestion, nearest, suggest
from flowconf.report.origins import Node, Origins, Path, dotted
from flowconf.text.merge import Kind, MergeRules, heads, kind_at, matches
from flowconf.text.overrides import Override


@dataclass(frozen=True)
class UnknownKey:
    """An override of a key that a config does not have. `groups` gives the names of the config groups."""

    root: Node
    override: Override
    path: Path
    rules: MergeRules
    groups: Callable[[], list[str]]

    @cached_property
    def known(self) -> int:
        """How many parts of the path exist."""
        return known_steps(self.root, self.path)

    @property
    def above(self) -> Path:
        """The part of the path that exists."""
        return self.path[: self.known]

    @property
    def wrong(self) -> str:
        """The first part that does not exist."""
        return str(self.path[self.known])

    @cached_property
    def parent(self) -> Node:
        """The deepest value that exists."""
        found = self.root.at(self.above)
        assert found is not None
        return found

    @cached_property
    def allowed(self) -> list[str]:
        """The keys that exist where the path fails, or may be set there."""
        found = [str(name) for name, _ in self.parent.members()]
        if takes_modifiers(self.root, self.above, self.rules):
            found += sorted(self.rules.settable)
        patterns = [pattern.split(".") for pattern in self.rules.optional]
        found += sorted(
            parts[self.known]
            for parts in patterns
            if len(parts) > self.known and matches(parts[: self.known], self.above)
        )
        return list(dict.fromkeys(name for name in found if name != "*"))

    def error(self) -> ConfigError:
        """The error, with what is nearest at the level where the path fails, or where the key belongs."""
        override, wrong = self.override, self.wrong
        is_ours = any(name.endswith(f".{wrong}") for name in self.rules.known)
        meant = wrong if is_ours else self.rules.synonyms.get(wrong, wrong)
        group = nearest(wrong, [*self.allowed, *self.groups()]) if self.known == 0 and meant == wrong else None
        if group is not None and group not in self.allowed:
            better = Suggestion(override.typed.replace(wrong, group, 1), override.typed)
            message = f"there is no config group `{wrong}`"
            return ConfigError(Diagnostic("FC0101", message, override.place, override.key, (), better))
        message, labels = self._message()
        return ConfigError(Diagnostic("FC0102", message, override.place, override.key, labels, self._advice(meant)))

    def _message(self) -> tuple[str, tuple[Label, ...]]:
        failing, parent = dotted((*self.above, self.wrong)), self.parent
        if parent.value is None and self.above:
            message = f"`{failing}` does not exist: `{dotted(self.above)}` is removed"
            return message, (Label("removed here", parent.place),)
        if not isinstance(parent.value, dict | list):
            message = f"`{failing}` does not exist: `{dotted(self.above)}` is `{parent.value}`"
            return message, (Label("set here", parent.place),)
        return f"`{failing}` does not exist", ()

    def _advice(self, meant: str) -> Advice | None:
        """What to set instead; `meant` is the key by its name here."""
        root, rules, override, above, wrong = self.root, self.rules, self.override, self.above, self.wrong
        close = meant if meant in self.allowed else nearest(wrong, self.allowed)
        home = _below(self.parent, above, wrong) if close is None else None
        home = _home(root, meant, rules) if self.known == 0 else home
        member, rest = home_of_member(root, override.key, rules), self.path[self.known + 1 :]
        if member is not None and (root.at(member) is not None or member[-1] in rules.settable):
            return renamed(override, dotted(member))
        is_found = close is not None or (home is not None and root.at((*home, *rest)) is not None)
        member = None if is_found or above else home_of_member(root, override.key, rules, misspelled=True)
        if member is not None:
            return renamed(override, dotted(member))
        if home is not None:
            return renamed(override, dotted((*home, *rest)))
        if close == wrong:  # a key that the config leaves out
            return Suggestion(f"+{override.typed}", override.typed)
        if close is not None:
            return renamed(override, dotted((*above, close, *rest)))
        ways = [suggest(wrong, self.allowed, "keys")]
        if isinstance(self.parent.value, str):
            ways.append(f"to change it, write `{dotted(above)}=...`")
        elif above and isinstance(self.parent.value, dict | None) and not override.typed.startswith(("~", "+")):
            ways.append(f"to add a new key, write `+{override.typed}`")
        return "; ".join(str(way) for way in ways if way) or None


def known_steps(root: Node, path: Path) -> int:
    """How many steps of `path` exist."""
    return next(length for length in reversed(range(len(path) + 1)) if root.at(path[:length]) is not None)


def takes_modifiers(root: Node, path: Path, rules: MergeRules) -> bool:
    """Whether modifiers may be set at `path`: on a step, or on a body that is a call or has a verb or flow."""
    kind, node = kind_at(root, path, rules), root.at(path)
    if node is None or not isinstance(node.value, str | dict):
        return False
    return kind is Kind.STEP or (kind is Kind.BODY and (isinstance(node.value, str) or bool(heads(node, kind, rules))))


def renamed(override: Override, key: str) -> Suggestion:
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


def home_of_member(root: Node, key: str, rules: MergeRules, misspelled: bool = False) -> Path | None:
    """Where a config has what a path in the graph means, such as `word.letter.latent`, or a new key or step there.

    `misspelled`: similar names count, and new ones do not.
    """
    top, around = rules.tops[:1], {*rules.verbs, rules.mount, rules.flow}
    at: Path = top
    names = [name for name in key.removeprefix(f"{dotted(top)}.").split(".") if name not in around]
    while names:
        nearest_last = reversed(list(_members(root, at, rules)))
        members = {name: one for one in nearest_last for name in (str(one[-1]), _label(root, one, rules)) if name}
        found = members.get((misspelled and nearest(names[0], members)) or names[0])
        if found is None:
            break
        at = found
        names.pop(0)
    if not names:
        return at
    if len(names) > 1 or at == top:
        return None
    flow = None if misspelled else next((one for one, kind in _around(root, at, rules) if kind is Kind.FLOW), None)
    last = (misspelled and nearest(names[0], rules.settable)) or names[0]
    home = at if last in rules.settable else flow
    return None if home is None else (*home, last)


def _around(root: Node, top: Path, rules: MergeRules) -> Iterator[tuple[Path, Kind]]:
    """What is below a place of the graph, without what is below other steps, nearest first."""
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
