"""Translates calls of other tools: `Dense(64, activation="relu")` is `Linear(_, 64) >> ReLU` here."""

from __future__ import annotations

import ast
from collections.abc import Collection
from functools import cache

from flowconf.language.advice.vocabulary import CALLS


def translated(node: ast.expr, names: Collection[str]) -> str | None:
    """What to write instead of a call of another tool, or None if it is not known; `names` are those of modules."""
    called = node.func if isinstance(node, ast.Call) else node
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    theirs, ours = _patterns().get(_folded(name), (None, None))
    is_ours = name != (theirs and ast.unparse(theirs.func)) and _folded(name) in map(_folded, names)
    if theirs is None or ours is None or is_ours:
        return None
    given = _given(theirs, node)
    chain = _filled(ours, given)
    links = [chain] if chain is not None else []
    after = given.get("activation")
    if isinstance(after, ast.Constant) and isinstance(after.value, str):
        module = module_named(after.value, names)
        links += [ast.Name(module)] if module is not None else []
    written = " >> ".join(ast.unparse(link) for link in links)
    return written or None


def module_named(name: str, names: Collection[str]) -> str | None:
    """The module with a name in other spelling, such as `relu`, or of another tool."""
    folded = _folded(name)
    _, ours = _patterns().get(folded, (None, None))
    while isinstance(ours, ast.BinOp):
        ours = ours.left
    called = ours.func if isinstance(ours, ast.Call) else ours
    same = next((known for known in names if _folded(known) == folded), None)
    return called.id if isinstance(called, ast.Name) and called.id in names else same


@cache
def _patterns() -> dict[str, tuple[ast.Call, ast.expr]]:
    """The folded name of a foreign module -> its call, and the call to write."""
    found = {}
    for theirs, ours in CALLS.items():
        call = ast.parse(_with_defaults(theirs), mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        found[_folded(call.func.id)] = call, ast.parse(ours, mode="eval").body
    return found


def _with_defaults(pattern: str) -> str:
    """A pattern in which every argument has a default, as Python requires: none for those without."""
    name, _, rest = pattern.partition("(")
    arguments = [one.strip() for one in rest.removesuffix(")").split(",") if one.strip()]
    return f"{name}({', '.join(one if '=' in one else f'{one}=None' for one in arguments)})"


def _given(theirs: ast.Call, node: ast.expr) -> dict[str, ast.expr]:
    """The arguments of a foreign call by name, with the defaults of its pattern."""
    defaults = {str(one.arg): one.value for one in theirs.keywords}
    found = {name: value for name, value in defaults.items() if ast.unparse(value) != "None"}
    if isinstance(node, ast.Call):
        found |= dict(zip(defaults, node.args, strict=False))
        found |= {str(one.arg): one.value for one in node.keywords if one.arg is not None}
    return found


def _filled(ours: ast.expr, given: dict[str, ast.expr]) -> ast.expr | None:
    """The call to write with the arguments that are given; None for one that is an argument itself."""
    match ours:
        case ast.BinOp(left=left, op=op, right=right):
            first, second = _filled(left, given), _filled(right, given)
            return ast.BinOp(first, op, second) if first is not None and second is not None else None
        case ast.Call(func=func, args=args, keywords=keywords):
            values = [_value(one, given) for one in args]
            named = [ast.keyword(one.arg, value) for one in keywords if (value := _value(one.value, given)) is not None]
            return ast.Call(func, [one for one in values if one is not None], named)
        case ast.Name(id="activation"):
            return None
    return ours


def _value(argument: ast.expr, given: dict[str, ast.expr]) -> ast.expr | None:
    if isinstance(argument, ast.Name) and argument.id != "_":
        return given.get(argument.id)
    return argument


def _folded(name: str) -> str:
    return name.lower().replace("_", "")
