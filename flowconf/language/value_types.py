"""The types of values: one vocabulary for the fields of sections and for the arguments of what a config names.

Sections are annotated with these types. The annotation of an argument is read as text, because its module is not
imported before a config uses it, and stands for the type of the same name: `Positive`, `int | None`, torch's
`_size_2_t`. Pydantic holds values against both.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.fields import FieldInfo

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Reference = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    list: "a list",
    dict: "a mapping",
    NoneType: "null",
}
"""What messages call a value of a type."""


@dataclass(frozen=True)
class InWords:
    """What messages call a type, where its parts do not say it."""

    words: str

    @classmethod
    def of(cls, field: FieldInfo | None) -> str | None:
        """What messages call the value of a section's field, where its type says so."""
        notes = [] if field is None else [*field.metadata]
        for one in _alternatives(field.annotation) if field is not None else ():
            notes += getattr(one, "__metadata__", ())
        return next((note.words for note in reversed(notes) if isinstance(note, cls)), None)


class Module:
    """A module as an argument: no value that a config can hold is one."""


WORDS[Module] = "a module"
NAMES: dict[str, Any] = {
    "int": int,
    "float": float,
    "Number": float,
    "bool": Annotated[bool | Literal[0, 1], InWords(WORDS[bool])],
    "str": str,
    "None": None,
    "Module": Module,
    "TransformerEncoderLayer": Module,
    "TransformerDecoderLayer": Module,
    "Positive": Positive,
    "Count": Count,
    "Finite": Finite,
    "Factor": Factor,
    "Fraction": Fraction,
    "Share": Share,
    "_size_any_t": Annotated[int | Sequence[int], InWords("a whole number or a list")],
    "_size_1_t": Annotated[int | tuple[int], InWords("a whole number")],
    "_size_2_t": Annotated[int | tuple[int, int], InWords("a whole number or a list of 2")],
    "_size_3_t": Annotated[int | tuple[int, int, int], InWords("a whole number or a list of 3")],
    "_size_4_t": Annotated[int | tuple[int, int, int, int], InWords("a whole number or a list of 4")],
    "_size_6_t": Annotated[int | tuple[int, int, int, int, int, int], InWords("a whole number or a list of 6")],
}
"""What a name in an annotation stands for. An annotation with any other name is left to the callable."""
RANGES = ("Positive", "Count", "Factor", "Fraction", "Share")
"""The names of numbers in a range."""
GENERIC: dict[str, Any] = {"Optional": Optional, "Union": Union, "Sequence": Sequence, "tuple": tuple, "Tuple": tuple}
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def misfit(written: str, value: object, required: bool = False) -> str | None:
    """What an argument with this annotation must be, where `value` is something else; null fits unless `required`.

    None where the value fits, and where the annotation says more than numbers, sizes and words.
    """
    kind = meaning(written)
    if kind is None or (value is None and not required) or _is_a(value, kind):
        return None
    return in_words(kind)


def fits(written: str, required: bool, value: object) -> bool:
    """Whether a value can be an argument with this annotation, as far as `misfit` knows."""
    return misfit(written, value, required) is None


def misfit_item(written: str, value: object) -> tuple[int, str] | None:
    """Which item of a list is the only reason that it does not fit, and what that item must be."""
    if not isinstance(value, list | tuple):
        return None
    for kind in _choices(meaning(written)):
        items = get_args(kind) * (len(value) if get_origin(kind) is Sequence else 1)
        if get_origin(kind) in (Sequence, tuple) and len(items) == len(value):
            wrong = [number for number, item in enumerate(items) if not _is_a(value[number], item)]
            return (wrong[0], in_words(items[wrong[0]])) if wrong else None
    return None


def described(written: str) -> str | None:
    """What an argument with this annotation must be; None where it may be a module, or says more than plain values."""
    kind = meaning(written)
    return None if kind is None or Module in _choices(kind) else in_words(kind)


def ranges_in(written: str) -> dict[str, str]:
    """The names of numbers in a range that an annotation has, and what each of them is in words."""
    return {name: in_words(NAMES[name]) for name in RANGES if re.search(rf"\b{name}\b", written)}


@cache
def meaning(written: str) -> Any:
    """The type that an annotation stands for; None where it says more than numbers, sizes, words and modules."""
    try:
        return _type(ast.parse(written, mode="eval").body)
    except (SyntaxError, KeyError, TypeError, ValueError):
        return None


def _type(node: ast.expr) -> Any:
    """The type that a part of an annotation stands for. Raises `KeyError` for one that is not known."""
    match node:
        case ast.Constant(value=str(quoted)):
            return _type(ast.parse(quoted, mode="eval").body)
        case ast.Constant(value=None):
            return None
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return NAMES[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _type(left) | _type(right)
        case ast.Subscript(value=ast.Name(id="Literal") | ast.Attribute(attr="Literal"), slice=choices):
            return Literal[ast.literal_eval(choices)]
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inside):
            return GENERIC[name][tuple(map(_type, inside.elts)) if isinstance(inside, ast.Tuple) else _type(inside)]
    raise KeyError


def _is_a(value: object, kind: Any) -> bool:
    """Whether a value, in which a list stands for a tuple, is of a type."""
    return _adapter(kind).validator.isinstance_python(_with_tuples(value))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=STRICT)


def _with_tuples(value: object) -> object:
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value


def in_words(kind: Any) -> str:
    """What a value of a type is: `a whole number of at least 1`."""
    words = dict.fromkeys(_in_words(one) for one in _alternatives(kind) if one is not NoneType)
    return " or ".join(word for word in words if not any(other.startswith(f"{word} or ") for other in words))


def _in_words(kind: Any) -> str:
    base, *notes = (kind.__origin__, *kind.__metadata__) if get_origin(kind) is Annotated else (kind,)
    for note in reversed(notes):
        if isinstance(note, InWords):
            return note.words
    if get_origin(base) is Literal:
        return f"one of {', '.join(f'`{choice}`' for choice in get_args(base))}"
    if get_origin(base) is not None:
        first, *others = get_args(base)
        count = f"{1 + len(others)} " if get_origin(base) is tuple else ""
        items = re.sub(r"\b(number|string)\b", r"\1s", in_words(first).removeprefix("a "))
        return f"a list of {count}{items}"
    bounds = {type(bound): bound for note in notes for bound in getattr(note, "metadata", ())}
    return f"{WORDS[base]}{_range(bounds)}"


def _range(bounds: dict[type, Any]) -> str:
    """The bounds of a number in words."""
    least = bounds[Ge].ge if Ge in bounds else bounds[Gt].gt + 1 if Gt in bounds else None
    if least is None:
        return ""
    if Le in bounds:
        return f" from {least} to {bounds[Le].le}"
    return f" of at least {least}{f' and below {bounds[Lt].lt}' if Lt in bounds else ''}"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union; any other type is its own only alternative."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _choices(kind: Any) -> Iterator[Any]:
    """The alternatives of a type, those of types that have a name of their own included."""
    for one in _alternatives(kind):
        inner = one.__origin__ if get_origin(one) is Annotated else one
        yield from _alternatives(inner)
