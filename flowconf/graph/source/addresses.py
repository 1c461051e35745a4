"""Converts paths of a document to Python expressions."""

from __future__ import annotations

from flowconf.graph.source.literals import quoted
from flowconf.language.plan import Chain, GraphPlan, Module, Mount, Shared, Step


def address(graph: GraphPlan, path: str, each: bool = False) -> str:
    """The Python expression for a path of the graph, relative to `self`: attributes, `["branch"]` and `[index]`.

    `each`: the path has no indices of equal copies, and `[*]` is written for all of them.
    """
    head, *rest = path.split(".")
    step = graph.step(head)
    if step is None:
        return path
    text, shared = head, step.body.module
    if isinstance(shared, Shared):
        home = head if shared.path == head else address(graph, shared.path)
        return home + _rest(shared.module, rest, each)
    if step.repeat is not None and rest:
        of_all = each and not (step.copies and rest[0].isdigit())
        text += "[*]" if of_all else f"[{rest.pop(0)}]"
    beside = step.beside()
    if not rest or rest[0] not in beside:
        return text + _rest(step.body.module, rest, each, in_dict(step))
    name = rest.pop(0)
    text += f"[{quoted(name)}]" if len(step.parts) > 1 or in_dict(step) else f".{name}"
    return text + _rest(beside[name].module, rest, each)


def _rest(module: Module, rest: list[str], each: bool, apart: bool = False) -> str:
    if not rest:
        return ""
    if isinstance(module, Shared):
        return _rest(module.module, rest, each)
    if isinstance(module, Mount):
        return f".{address(module.graph, '.'.join(rest), each)}"
    if isinstance(module, Chain):
        key = quoted(rest[0]) if apart else rest[0]
        return f"[{key}]" + _rest(module.members[int(rest[0])].module, rest[1:], each)
    return f".{'.'.join(rest)}"


def in_dict(step: Step) -> bool:
    """Whether the members of a chain are in a `ModuleDict`, because their path has other modules below it."""
    return bool(step.extras) and isinstance(step.body.module, Chain)


def attribute(at: str, name: str) -> str:
    """The expression for a dotted name inside of a module at an expression."""
    return at + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in name.split("."))


def reached(graph: GraphPlan, path: str, then: str, indent: str = "") -> list[str]:
    """Lines that do something with the module at a path of the document, in loops over repeated copies.

    `then` follows the module, as in `.weight = self.other.weight`.
    """
    lines, start, inner = [], "self.", indent
    *repeated, last = address(graph, path, each=True).split("[*]")
    for depth, text in enumerate(repeated):
        name = "copy" if depth == 0 else f"copy_{depth + 1}"
        lines.append(f"{inner}for {name} in {start}{text}:")
        start, inner = name, f"{inner}    "
    return [*lines, f"{inner}{start}{last}{then}"]
