"""Notes on steps whose verb a later file or word has replaced, in mistakes that mention them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from flowconf.language.schema import VERBS
from flowconf.report import Diagnostic, Label, Place
from flowconf.report.origins import Node, Origins

TAKE_CALLS = ("also", "fork", "loop", "map")
"""Verbs that a call alone can be the body of."""

Steps = Mapping[tuple[Place, str], Node]
"""Steps whose verb was replaced, by their place and name."""


def noted(found: Iterable[Diagnostic], origins: Origins) -> Iterable[Diagnostic]:
    """The same diagnostics, whose labels of steps say which verb was replaced.

    Example:
        `logits` has shape [B, 7]; `through` replaces `fork` of base.yaml:7:13; write `fork: Linear(64, 7)` to keep it
    """
    steps = {
        (node.key, str(path[-1])): node for path, node in origins.items() if not node.gone.keys().isdisjoint(VERBS)
    }
    for one in found:
        yield replace(one, labels=tuple(_with_note(label, steps) for label in one.labels))


def _with_note(label: Label, steps: Steps) -> Label:
    _, *name = label.message.split("`", 2)
    node = steps.get((label.place, name[0].rpartition(".")[2])) if name else None
    if node is None:
        return label
    old = next(verb for verb in VERBS if verb in node.gone)
    now = next((verb for verb in VERBS if isinstance(node.value, dict) and verb in node.value), "through")
    note = f"; `{now}` replaces `{old}` of {node.gone[old][-2]}"
    if isinstance(node.value, str) and old in TAKE_CALLS:
        note += f"; write `{old}: {node.value}` to keep it"
    return replace(label, message=label.message + note)
