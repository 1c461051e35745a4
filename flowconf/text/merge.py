"""The one merge: files over files, and the command line over both.

Mappings are united, anything else is replaced, and a key keeps its position. Below a `flow` the merge knows what a step
is:

- a step, or body, given with another verb replaces the earlier one instead of mixing with it;
- a mapping without a verb over a call turns the call into a mapping with that verb first;
- null removes a member and keeps its position, so that a later file may restore it.

Where only one of some keys may be set (`until: {epoch: 3}`), one that is given replaces the others.

`???` never replaces anything. Replaced places are kept as history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from flowconf.report import Place
from flowconf.report.origins import Node, Path

MISSING = "???"


@dataclass(frozen=True)
class MergeRules:
    """The keys of the language, as data for merging, TOML and the command line.

    Attributes:
        flow: the key of a mapping of steps.
        verbs: the verbs of a step.
        call: the verb of a step that is only a call.
        mount: the verb that takes a graph, and the folder in which named graphs are looked up.
        label: the key of the name that a mounted graph has in paths.
        bodies: keys of a step, besides its verb, that hold a body.
        settable: keys that the command line may set on any step, and on any body that is a call or has a verb or a
            flow, with everything below them, whether or not they are written there.
        optional: patterns of dotted keys that the command line may set, with everything below them, although no file
            has them; `*` matches any one part. Any other key must exist.
        known: dotted keys that a config has whether or not they are written, for suggestions.
        removable: patterns of members that null removes, besides the members of a flow.
        tops: the keys at the top of a config, the one that holds the graph first.
        synonyms: what other tools call a key -> the key.
        choices: patterns of mappings -> the keys of which only one may be set; one that begins with `**.` is the end of
            a path.
    """

    flow: str
    verbs: frozenset[str]
    call: str
    mount: str
    label: str
    bodies: frozenset[str] = frozenset()
    settable: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    known: tuple[str, ...] = ()
    removable: frozenset[str] = frozenset()
    tops: tuple[str, ...] = ()
    synonyms: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, frozenset[str]] = field(default_factory=dict)


class Kind(Enum):
    """The kind of a value, by its position."""

    PLAIN = "a value outside of any step"
    FLOW = "a mapping of steps"
    STEP = "a step"
    BODY = "what a verb takes: a call, a graph, or branches"


def kind_below(kind: Kind, key: str | int, keys: Iterable[Any], rules: MergeRules) -> Kind:
    """The kind of the member `key` of a mapping that has this kind and these keys."""
    if kind is Kind.FLOW:
        return Kind.STEP
    if key == rules.flow:
        return Kind.FLOW
    if kind is Kind.STEP and (key in rules.verbs or key in rules.bodies):
        return Kind.BODY
    if kind is Kind.BODY:
        is_graph = rules.flow in keys or rules.mount in keys
        return Kind.PLAIN if is_graph and key != rules.mount else Kind.BODY
    return Kind.PLAIN


def heads(node: Node, kind: Kind, rules: MergeRules) -> frozenset[str]:
    """The keys that say what a step or body is: its verbs, or its flow."""
    if kind not in (Kind.STEP, Kind.BODY) or not isinstance(node.value, dict):
        return frozenset()
    return frozenset(node.value.keys() & (rules.verbs | {rules.flow}))


def merge(base: Node | None, new: Node, rules: MergeRules, kind: Kind = Kind.PLAIN, path: Path = ()) -> Node:
    """`new` over `base`, both at `path`."""
    if base is None:
        return new
    if new.value == MISSING:
        return base
    if isinstance(base.value, str) and isinstance(new.value, dict) and kind in (Kind.STEP, Kind.BODY):
        base = _as_mapping(base, new, kind, rules)
    if isinstance(new.value, str) and heads(base, kind, rules) == {rules.call}:
        new = Node({rules.call: new}, new.place)
    ours, theirs = heads(base, kind, rules), heads(new, kind, rules)
    is_call = isinstance(new.value, str)
    if ours and (is_call or theirs) and ours != theirs:
        gone = {key: (*base.value[key].history, base.value[key].key, new.key) for key in ours - theirs}
        return replace(_replaced(base, new), gone={**new.gone, **gone})
    if not isinstance(base.value, dict) or not isinstance(new.value, dict):
        return _replaced(base, new)
    keys = base.value.keys() | new.value.keys()
    others = _alternatives(base, new, path, rules)
    members, gone = dict(base.value), {**base.gone, **others}
    for key in others:
        del members[key]
    for key, child in new.value.items():
        below = kind_below(kind, key, keys, rules)
        old = members.get(key)
        members[key] = merge(old, child, rules, below, (*path, key)) if old else _revived(child, gone.get(key, ()))
    return replace(base, value=members, gone=gone, mount=new.mount or base.mount)


def _alternatives(base: Node, new: Node, path: Path, rules: MergeRules) -> dict[str, tuple[Place, ...]]:
    """The keys of `base` that one of `new` replaces because only one of them may be set, and where that is written."""
    set_now = {key: child.key for key, child in new.value.items() if child.value is not None}
    found: dict[str, tuple[Place, ...]] = {}
    for pattern, keys in rules.choices.items():
        now = keys & set_now.keys()
        if now and is_any([pattern], path):
            others = [(key, base.value[key]) for key in keys & base.value.keys() if key not in new.value]
            found |= {key: (*old.history, old.place, set_now[min(now)]) for key, old in others}
    return found


def removals(base: Node, new: Node, rules: MergeRules) -> Iterator[tuple[Path, Node]]:
    """What `new` removes although `base` never had it: each path, and the mapping of `base` without it."""
    pending: list[tuple[Path, Node, Node, Kind]] = [((), base, new, Kind.PLAIN)]
    while pending:
        path, old, given, kind = pending.pop()
        if not isinstance(old.value, dict) or not isinstance(given.value, dict):
            continue
        keys = old.value.keys() | given.value.keys()
        for key, child in given.value.items():
            below, at = kind_below(kind, key, keys, rules), (*path, key)
            known = old.child(key)
            if known is not None:
                pending.append((at, known, child, below))
            elif child.value is None and key not in old.gone and (below is Kind.STEP or is_any(rules.removable, at)):
                yield at, old


def is_any(patterns: Iterable[str], path: Path) -> bool:
    """Whether one of the dotted patterns matches `path`; `*` matches any one part, and `**` in front any number."""
    for pattern in patterns:
        parts = pattern.removeprefix("**.").split(".")
        if matches(parts, path[-len(parts) :] if pattern.startswith("**.") else path):
            return True
    return False


def matches(pattern: Sequence[str | int], path: Path) -> bool:
    """Whether `path` has the parts of a pattern, of which `*` is any."""
    return len(pattern) == len(path) and all(one in ("*", str(part)) for one, part in zip(pattern, path, strict=True))


def _as_mapping(base: Node, new: Node, kind: Kind, rules: MergeRules) -> Node:
    """A call that gets modifiers, as the mapping with its verb."""
    if heads(new, kind, rules) or base.value == MISSING:
        return base
    call = replace(base, key=base.place, history=())
    return replace(base, value={rules.call: call})


def _replaced(base: Node, new: Node) -> Node:
    if base.place == new.place:
        return new
    return replace(new, history=(*base.history, base.place, *new.history))


def _revived(child: Node, before: tuple[Place, ...]) -> Node:
    return replace(child, history=(*before, *child.history)) if before else child


def nested(path: Path, node: Node) -> Node:
    """`node` below mappings for each step of `path`, all written where its key was."""
    for step in reversed(path):
        node = Node({str(step): node}, node.key, node.key)
    return node


def put(root: Node, path: Path, node: Node, rules: MergeRules) -> Node:
    """`node` merged into `root` at `path`, which may lead through lists; missing mappings are made."""
    for index in reversed(range(len(path))):
        container = root.at(path[:index])
        step = path[index]
        if container is not None and isinstance(container.value, list) and isinstance(step, int):
            items = list(container.value)
            at = path[: index + 1]
            items[step] = merge(items[step], node, rules, kind_at(root, at, rules), at)
            node = replace(container, value=items)
        else:
            node = Node({str(step): node}, node.key, node.key)
    return merge(root, node, rules)


def drop(root: Node, path: Path, place: Place, rules: MergeRules) -> Node:
    """`root` without the member at `path`: a step becomes null and keeps its position, anything else is removed."""
    parent = root.at(path[:-1])
    assert parent is not None
    old = parent.child(path[-1])
    assert old is not None
    if kind_at(root, path[:-1], rules) is Kind.FLOW:
        return _swap(root, path, _replaced(old, Node(None, place, place)))
    if isinstance(parent.value, list):
        rest: Any = [item for index, item in enumerate(parent.value) if index != path[-1]]
        return _swap(root, path[:-1], replace(parent, value=rest))
    rest = {key: child for key, child in parent.value.items() if key != path[-1]}
    gone = {**parent.gone, str(path[-1]): (*old.history, old.place, place)}
    return _swap(root, path[:-1], replace(parent, value=rest, gone=gone))


def _swap(root: Node, path: Path, node: Node) -> Node:
    """`root` with `node` at `path`."""
    if not path:
        return node
    child = root.child(path[0])
    assert child is not None
    inner: Any = list(root.value) if isinstance(root.value, list) else dict(root.value)
    inner[path[0]] = _swap(child, path[1:], node)
    return replace(root, value=inner)


def kind_at(root: Node, path: Path, rules: MergeRules) -> Kind:
    """The kind of the value at `path`, whether or not there is one."""
    kind, node = Kind.PLAIN, root
    for step in path:
        keys = node.value.keys() if isinstance(node.value, dict) else ()
        kind = kind_below(kind, step, keys, rules)
        node = node.child(step) or Node(None)
    return kind
