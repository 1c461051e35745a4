"""Advice for invalid calls: what is wrong, and what was probably meant."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from flowconf.language.advice import other_tools
from flowconf.language.arguments import written
from flowconf.report import Advice, Suggestion, nearest

AS_TEXT = 'add `{0}` to `params`, or quote it if it is a string: `"{0}"`'
CHAIN = "write `>>` between modules, as in `Linear(8, 8) >> ReLU`"
ALLOWED = "expected a literal, a parameter, arithmetic, a list or a call"
CONSTANTS = {"yes": "true", "on": "true", "no": "false", "off": "false", "nil": "none", "undefined": "none"}
THOUSANDS = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3})*,0\d\d(?:,\d{3})*(?![\w.])(?=[^'\"]*$)")
"""A number with thousands separators that cannot be arguments instead; not in a string."""
PERHAPS_THOUSANDS = re.compile(r"(?<![\w.])[1-9]\d{0,2}(?:,\d{3})+(?![\w.])(?=[^'\"]*$)")
"""A number with thousands separators that could also be several arguments."""
CHAINERS = ("->", "=>", "|>", ">>>", ";")
NO_CALLS: dict[type[ast.expr], str] = {
    ast.Lambda: "register the function in Python, and call it by its name",
    ast.Compare: CHAIN,
    ast.IfExp: "write both modules as branches of a `switch`, or one of them in a pivot",
    ast.BoolOp: CHAIN,
    ast.Tuple: CHAIN,
    ast.List: CHAIN,
    ast.Constant: "write the name of a module or a call, as in `Linear(8, 8)`",
}


@dataclass(frozen=True)
class Unreadable:
    """Why a text cannot be parsed, independent of the version of Python, with the position and the advice."""

    why: str
    offset: int
    length: int
    advice: Advice | None = None


def unreadable(problem: SyntaxError, text: str) -> Unreadable:
    """The error in a text that Python cannot parse."""
    offset = min(problem.offset or 1, len(text) + 1) - 1
    late = _behind_a_name(text) if "positional argument follows keyword" in problem.msg else None
    if late is not None:
        why = f"positional argument `{text[slice(*late)]}` after a keyword argument"
        return Unreadable(why, late[0], late[1] - late[0], "write positional arguments first")
    open_end = re.search(r"(\w[\w.]*\s*)?(//|\*\*|[-+*/%])\s*$", text[:offset])
    if open_end is not None and text[offset : offset + 1] in (")", ",", "]", ""):
        left, sign = (open_end[1] or "").strip(), open_end[2]
        percent = sign == "%" and left.isdigit()
        advice: Advice = (
            Suggestion(f"{int(left) / 100:g}", instead_of=open_end[0].strip())
            if percent
            else f"write a number after `{sign}`"
        )
        why = f"expected a number after `{open_end[0].strip()}`"
        return Unreadable(why, open_end.start(), len(open_end[0].rstrip()), advice)
    found = re.search(r"'(.)' was never closed|unmatched '(.)'|parenthesis '(.)' does not match", problem.msg)
    if found is not None:
        opened, *closing = found.groups()
        if opened:
            pair = {"(": ")", "[": "]", "{": "}"}[opened]
            return Unreadable(f"unclosed `{opened}`", offset, 1, f"write `{pair}` after the last argument")
        return Unreadable(f"unmatched `{closing[0] or closing[1]}`", offset, 1, "remove it")
    if "unterminated string" in problem.msg:
        return Unreadable("unclosed quote", offset, 1, "close the quote")
    rest = text[offset:]
    if not rest:
        return Unreadable("unexpected end", offset, 1)
    sign = re.match(r"\w+|[^\w\s()\[\]\"']+|.", rest, re.DOTALL)
    assert sign is not None
    return Unreadable(f"unexpected `{sign.group()}`", offset, len(sign.group()), _meant(text, rest, sign.group()))


def _behind_a_name(text: str) -> tuple[int, int] | None:
    """The start and end of the first positional argument after a keyword argument."""
    blank = re.sub(r"\b[A-Za-z_]\w*\s*=(?!=)", lambda name: " " * len(name[0]), text)
    with suppress(SyntaxError):
        for call in (node for node in ast.walk(ast.parse(blank, mode="eval")) if isinstance(node, ast.Call)):
            spans = [(one.col_offset, one.end_col_offset or one.col_offset + 1) for one in call.args]
            named = [re.search(r"=\s*$", text[:start]) for start, _ in spans]
            first = next((index for index, name in enumerate(named) if name), len(spans))
            late = next((span for span, name in zip(spans[first:], named[first:], strict=True) if not name), None)
            if late is not None:
                return late
    return None


def _meant(text: str, rest: str, sign: str) -> Advice | None:
    """The advice for an unexpected `sign`, with which the `rest` begins."""
    word = re.match(r"(\w+)\s*[=:]", rest)
    if not rest[0].isascii():
        return "write quotes, commas and operators in ASCII"
    if word and keyword.iskeyword(word[1]):
        return f"`{word[1]}` is a Python keyword and cannot be the name of an argument"
    if text.rstrip().endswith(">>") or text.lstrip().startswith(">>") or re.search(r">>\s*>>", text):
        return "write a module on both sides of each `>>`"
    if any(found in text for found in CHAINERS):
        return CHAIN
    if sign.startswith(("$", "{", "<")):
        return "parameters are used by name, without `$` or brackets"
    if sign.startswith(":") or re.search(r"\w+\s*:\s", text):
        return "write `name=value` for an argument"
    if product := re.match(r"(\d+)x(\d+)\b", rest):
        return Suggestion(f"[{product[1]}, {product[2]}]", instead_of=product[0])
    if "\n" in text.strip() and re.match(r"[A-Z]\w*", rest):
        return CHAIN
    if sign.startswith("="):
        return "the key of a step is its name; write only the call as its value"
    return "separate arguments with commas" if re.search(r"[\w\]\"')]\s+[\w\[\"'(]", text) else None


def thousands(text: str) -> Suggestion | None:
    """The advice for a call with wrong arguments, some of which may be one number with thousands separators."""
    found = PERHAPS_THOUSANDS.search(text)
    return Suggestion(found[0].replace(",", ""), why=": commas separate arguments") if found else None


def no_call(node: ast.expr, names: Collection[str]) -> Advice | None:
    """The advice for an expression that is not a module."""
    inner = node.func if isinstance(node, ast.Call) else node
    if isinstance(inner, ast.Call):
        return "write only the module: the stream is passed automatically, and `from` selects another value"
    if isinstance(inner, ast.Attribute):
        if inner.attr in names:
            return Suggestion(inner.attr, why=": modules are written without a package")
        known = other_tools.for_module(inner.attr, names)
        close = nearest(inner.attr, names)
        return known or (Suggestion(close, why=": modules are written without a package") if close else None)
    if isinstance(inner, ast.Subscript) and isinstance(inner.value, ast.Name):
        return f"write `{inner.value.id}(...)`: arguments are written in parentheses"
    if isinstance(inner, ast.BinOp):
        return _operator(inner)
    if isinstance(inner, ast.Tuple | ast.List) and all(isinstance(part, ast.Name | ast.Call) for part in inner.elts):
        chained = " >> ".join(ast.unparse(part) for part in inner.elts)
        return Suggestion(chained, instead_of=ast.unparse(inner)[1:-1]) if inner.elts else CHAIN
    return next((advice for kind, advice in NO_CALLS.items() if isinstance(inner, kind)), None)


def of_package(name: str | None) -> str | None:
    """The advice for a dotted name of a package that the project does not list."""
    if name is None:
        return None
    package = name.rpartition(".")[0]
    return f'to use what `{package}` offers, list it in `pyproject.toml`: `[tool.flowconf] packages = ["{package}"]`'


def _operator(node: ast.BinOp) -> str | None:
    module = next((side for side in (node.right, node.left) if isinstance(side, ast.Call)), None)
    match node.op:
        case ast.BitOr() | ast.LShift():
            return CHAIN
        case ast.Add() if module is not None:
            return f"write `also: {ast.unparse(module)}`, which adds the output of a module to the stream"
        case ast.Add():
            return (
                "to add the outputs of branches, use `split` with `merge: add`; to add a value, `StateAdd` with `using`"
            )
        case ast.Mult() if isinstance(node.left, ast.Constant) or isinstance(node.right, ast.Constant):
            return "write `repeat: ...` beside `through` for copies in series, or `Scale(...)` for a factor"
        case ast.Mult():
            return "write a `split` with `merge: mul`"
    return None


def no_argument(node: ast.expr, scope: Mapping[str, object]) -> str:
    """The advice for an expression that cannot be an argument."""
    names = [part for part in re.findall(r"[A-Za-z_]\w*", ast.unparse(node)) if part in scope]
    if names and isinstance(node, ast.Attribute | ast.Set | ast.Dict):
        return f"write `{names[-1]}`: parameters are used by name"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
        return "write `**` for a power"
    return ALLOWED


def no_parameter(name: str, known: Collection[str], is_text: bool) -> Advice | None:
    """The advice for a name that is not a `known` parameter, but looks like a value; `is_text`: it may be a string."""
    if name.lower() in CONSTANTS:
        return Suggestion(CONSTANTS[name.lower()], instead_of=name)
    return f'write `"{name}"`: strings require quotes' if is_text and nearest(name, known) is None else None


def divided(text: str) -> Suggestion | None:
    """The advice for a fraction that is the result of a division of integers."""
    return Suggestion(text.replace(" / ", " // ")) if " / " in text and "." not in text else None


def shown(value: object) -> str:
    """The value of an argument as it appears in messages."""
    return f"the string `{value}`" if isinstance(value, str) else f"`{written(value)}`"
