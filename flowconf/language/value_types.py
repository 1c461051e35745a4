"""The types of values, for the fields of sections and for the arguments of registered names.

Sections are annotated with these types. The annotation of an argument is read from source, because its module is not
imported before a config uses it, and refers to the type of the same name: `Positive`, `int | None`, torch's
`_size_2_t`. Pydantic validates values against both.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from flowconf.report import nearest

Reference = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
LoggedValue = Annotated[str, Field(min_length=1)]
"""The name of a value that a run reports, such as `val/loss`."""

LARGEST = 2**63
"""The numbers of a graph are below it, so that they remain finite as float32."""

WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    list: "a list",
    dict: "a mapping",
    NoneType: "null",
}
"""A value of each type, as messages describe it."""


@dataclass(frozen=True)
class InWords:
    """The description of a type in messages, where it cannot be derived from its parts."""

    words: str


Identifier = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    InWords("a name (letters, digits and `_`, not starting with a digit)"),
]


class Module:
    """A module as an argument; no value in a config is one."""


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
    "LoggedValue": LoggedValue,
    "_size_any_t": Annotated[int | Sequence[int], InWords("an integer or a list")],
    "_size_1_t": Annotated[int | tuple[int], InWords("an integer")],
    "_size_2_t": Annotated[int | tuple[int, int], InWords("an integer or a list of 2")],
    "_size_3_t": Annotated[int | tuple[int, int, int], InWords("an integer or a list of 3")],
    "_size_4_t": Annotated[int | tuple[int, int, int, int], InWords("an integer or a list of 4")],
    "_size_6_t": Annotated[int | tuple[int, int, int, int, int, int], InWords("an integer or a list of 6")],
}
"""The types of names in annotations. Annotations with other names are not checked."""
RANGES = ("Positive", "Count", "Factor", "Fraction", "Share")
"""The types of numbers with a range."""
GENERIC: dict[str, Any] = {"Optional": Optional, "Union": Union, "Sequence": Sequence, "tuple": tuple, "Tuple": tuple}
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


NULLS = ("None", "none", "nil", "NULL", "Null")
_PYTHON = {"true": "True", "false": "False", "null": "None"}
TRUTHS = {"yes": "true", "on": "true", "no": "false", "off": "false", "y": "true", "n": "false"}


def instead(kind: Any, value: object) -> str | None:
    """What to write for a value of this type instead of one of another type, if that is clear."""
    kinds = [*_choices(kind)]
    literals = [str(one) for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)]
    several = next((len(get_args(kind)) for kind in kinds if get_origin(kind) is tuple), 0)
    text = meant(value, kinds)
    if text is None and several and re.fullmatch(r"\d+(x\d+)*", str(value)):
        sizes = str(value).split("x")
        text = f"[{', '.join(sizes * (several if len(sizes) == 1 else 1))}]"
    if text is None:
        return nearest(value, literals) if isinstance(value, str) else None
    meant_value = ast.literal_eval(_PYTHON.get(text, text))
    return text if meant_value is None or _is_a(meant_value, kind) else None


def is_ambiguous(written: str, value: object) -> bool:
    """Whether a string is a word for true, false or null elsewhere, which an argument with this annotation may take."""
    types = [*_choices(meaning(written))] if written else [str, bool, NoneType]
    return str in types and meant(value, [one for one in types if one in (bool, NoneType)]) is not None


def meant(value: object, types: Sequence[type]) -> str | None:
    """What to write for a value of the wrong type that was probably meant as one of `types`."""
    if isinstance(value, float) and value.is_integer() and int in types and float not in types:
        return str(int(value))
    if not isinstance(value, str):
        return None
    if value in NULLS and NoneType in types:
        return "null"
    if bool in types and value.lower() in TRUTHS:
        return TRUTHS[value.lower()]
    bare = value.replace("_", "").replace(",", "")
    if {int, float} & {*types} and re.fullmatch(r"[-+]?\d{1,300}", bare):
        return str(int(bare))
    return bare if float in types and re.fullmatch(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?", bare) else None


def misfit(written: str, value: object, required: bool = False) -> str | None:
    """The expected value of an argument, if `value` does not match its annotation; null matches unless `required`.

    None if the value matches, and for annotations with unknown types.
    """
    kind = meaning(written)
    if kind is None or (value is None and not required) or _is_a(value, kind):
        return None
    return in_words(kind)


def fits(written: str, required: bool, value: object) -> bool:
    """Whether `misfit` accepts a value for an argument with this annotation."""
    return misfit(written, value, required) is None


def misfit_item(written: str, value: object) -> tuple[int, str] | None:
    """The index of the first item of a list that does not match, and its expected value."""
    if not isinstance(value, list | tuple):
        return None
    for kind in _choices(meaning(written)):
        items = get_args(kind) * (len(value) if get_origin(kind) is Sequence else 1)
        if get_origin(kind) in (Sequence, tuple) and len(items) == len(value):
            wrong = [number for number, item in enumerate(items) if not _is_a(value[number], item)]
            return (wrong[0], in_words(items[wrong[0]])) if wrong else None
    return None


def described(written: str) -> str | None:
    """The expected value of an argument with this annotation; None if it can be a module, or has an unknown type."""
    kind = meaning(written)
    return None if kind is None or Module in _choices(kind) else in_words(kind)


def ranges_in(written: str) -> dict[str, str]:
    """The types of numbers with a range in an annotation, with their descriptions."""
    return {name: in_words(NAMES[name]) for name in RANGES if re.search(rf"\b{name}\b", written)}


@cache
def meaning(written: str) -> Any:
    """The type of an annotation; None if it has an unknown type."""
    try:
        return _type(ast.parse(written, mode="eval").body)
    except (SyntaxError, KeyError, TypeError, ValueError):
        return None


def _type(node: ast.expr) -> Any:
    """The type of a part of an annotation. Raises `KeyError` for an unknown type."""
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
    """Whether a value has a type; lists match tuples."""
    return _adapter(kind).validator.isinstance_python(_with_tuples(value))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=STRICT)


def _with_tuples(value: object) -> object:
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value


def in_words(kind: Any) -> str:
    """The description of a type: `an integer of at least 1`."""
    words = dict.fromkeys(_in_words(one) for one in _alternatives(kind) if one is not NoneType)
    return " or ".join(word for word in words if not any(other.startswith(f"{word} or ") for other in words))


def _in_words(kind: Any) -> str:
    base, *notes = (kind.__origin__, *kind.__metadata__) if get_origin(kind) is Annotated else (kind,)
    for note in reversed(notes):
        if isinstance(note, InWords):
            return note.words
    if get_origin(base) is Literal:
        *others, last = (f"`{choice}`" for choice in get_args(base))
        return f"{'one of ' * (len(others) > 1)}{', '.join(others)}{' or ' * bool(others)}{last}"
    if get_origin(base) in (Union, UnionType):
        return in_words(base)
    if base is Any:
        return "a value"
    if get_origin(base) is dict or (isinstance(base, type) and issubclass(base, BaseModel)):
        return WORDS[dict]
    if get_origin(base) is not None:
        first, *others = get_args(base)
        count = f"{1 + len(others)} " if get_origin(base) is tuple else ""
        items = re.sub(r"\b(number|integer|string)\b", r"\1s", re.sub(r"^an? ", "", in_words(first)))
        return f"a list of {count}{items}"
    bounds = {type(bound): bound for note in notes for bound in (note, *getattr(note, "metadata", ()))}
    if MinLen in bounds and base is str:
        return f"{WORDS[str]} that is not empty"
    return f"{WORDS[base]}{_range(bounds, base is int)}"


def _range(bounds: dict[type, Any], is_whole: bool) -> str:
    """The description of the bounds of a number."""
    if Gt in bounds and not is_whole:
        most = (
            f" and at most {bounds[Le].le}" if Le in bounds else f" and below {bounds[Lt].lt}" if Lt in bounds else ""
        )
        return f" above {bounds[Gt].gt}{most}"
    least = bounds[Ge].ge if Ge in bounds else bounds[Gt].gt + 1 if Gt in bounds else None
    if least is None:
        return ""
    if Le in bounds:
        return f" from {least} to {bounds[Le].le}"
    return f" of at least {least}{f' and below {bounds[Lt].lt}' if Lt in bounds else ''}"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _choices(kind: Any) -> Iterator[Any]:
    """The alternatives of a type, with annotated types unwrapped."""
    if get_origin(kind) is Annotated:
        yield from _choices(kind.__origin__)
    elif get_origin(kind) in (Union, UnionType):
        yield from (choice for one in get_args(kind) for choice in _choices(one))
    else:
        yield kind
