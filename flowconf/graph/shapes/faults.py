"""Whose fault it is that a module cannot be built or called: which argument, and what a person would write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)

from flowconf.graph.shapes.fake_values import as_list
from flowconf.graph.shapes.sizes import EXPECTS, Sizes, first_line, reworded
from flowconf.language.arguments import Argument, Call, Literal
from flowconf.language.registry import modules
from flowconf.report import Advice

DIMENSIONS = {1: "length", 2: "height, width", 3: "depth, height, width"}
LOOK_UP = ("Embedding", "EmbeddingBag")
"""Modules that take whole numbers."""
EITHER = ("BatchNorm1d", "InstanceNorm1d", "AdaptiveAvgPool1d", "AdaptiveMaxPool1d", "AvgPool1d", "MaxPool1d")
"""Modules for one dimension that take [batch, channels] as well."""

COUNTS = (
    "kernel_size", "stride", "dilation", "groups", "num_groups", "num_heads", "nhead", "num_layers",
    "hidden_size", "upscale_factor", "downscale_factor", "experts", "branches",
)  # fmt: skip
"""Arguments that are counts, and no size of a parameter that would show."""
PADS = ("ZeroPad", "ConstantPad")
"""Modules for so many dimensions that take any more of them."""
FRACTIONS = re.compile(
    r"(Alpha|Feature)*Dropout\w*|(Log)?Soft(max|min|plus|shrink)2?d?|(Leaky|PRe|S|C|E|G)E?LU|SiLU|Mish|LogSigmoid"
    r"|Hardswish|Hardsigmoid|(Adaptive)?(Max|Avg)Pool\dd"
)
"""Modules without sizes that take numbers with a fraction only."""
DIMS = {"Flatten": ("start_dim", "end_dim"), "Transpose": ("first", "second")}
"""Modules whose arguments are dimensions, if not `dim`."""

LAYERS = ("num_layers", "num_encoder_layers", "num_decoder_layers")
MOST_LAYERS = 1_000
"""A module makes at most so many layers of its own: torch takes minutes for more."""
INNER = {"num_heads": "nhead", "embed_dim": "d_model"}
"""Names of arguments that torch's layers pass on to their parts, and their own."""
TELLS = "(?:got|index|negative dimension|string|not)"
"""What torch says in front of a value that does not fit."""


@dataclass(frozen=True)
class StreamFault:
    """Why a stream cannot enter a module, in words that follow the module's path, and the help."""

    message: str
    advice: Advice | None = None


def bound(call: Call) -> dict[str, Argument]:
    """The plain arguments of a call by name, without those of a `*`."""
    pairs = modules.class_source(call.name).init.bound(call.args, call.kwargs)
    return {p.name: given for p, given in pairs if p.kind != "*" and isinstance(given, Literal)}


def number_of(call: Call, name: str, item: int) -> Literal | None:
    """One of several numbers that an argument holds, where each of them is written."""
    given = [one for p, one in modules.class_source(call.name).init.bound(call.args, call.kwargs) if p.name == name]
    first = given[0] if len(given) == 1 else None
    found = first.items if isinstance(first, Literal) and first.items else given
    one = found[item] if item < len(found) else None
    return one if isinstance(one, Literal) else first if isinstance(first, Literal) else None


def argument(call: Call, words: str) -> Literal | None:
    """The argument that torch's words are about: by its name, or else by its value."""
    for torch_name, ours in INNER.items():
        words = re.sub(rf"\b{torch_name}\b", ours, words) if ours in bound(call) else words
    named: list[tuple[int, Literal]] = []
    spaced = words.lower().replace("_", " ")
    valued: list[Literal] = []
    for name, given in bound(call).items():
        assert isinstance(given, Literal)
        if isinstance(given.value, tuple) and str(as_list(given.value)) in words:
            return given
        found = [match.start() for match in re.finditer(rf"(?<![\w.]){name}(?!\w)", words)]
        if found or (len(name) > 3 and re.search(rf"\b{name.replace('_', ' ')}\b", spaced)):
            named.append((found[-1] if found else 0, given))
        elif re.search(rf"{TELLS} '?{re.escape(str(given.value))}'?(?![\w.])", words):
            valued.append(given)
    if named:
        first = "must be within" in words  # the first word is what is wrong, the others what it is held against
        return (min if first else max)(named, key=lambda at: at[0])[1]
    return valued[-1] if valued else None


def with_values(call: Call, words: str) -> str:
    """What a constructor asks of two of its arguments, with their names in this call and their values."""
    found = re.fullmatch(r"(\w+)(?: \(\d+\))? must be divisible by (\w+)(?: \(\d+\))?", words)
    given = bound(call)
    shown = []
    for torch_name in found.groups() if found is not None else ():
        name = torch_name if torch_name in given else INNER.get(torch_name, torch_name)
        value = given.get(name)
        shown.append(f"`{name}` {value.value}" if isinstance(value, Literal) else f"`{name}`")
    return f"{shown[0]} cannot be divided by {shown[1]}" if shown else words


def no_size(call: Call, built: nn.Module | None, words: str) -> tuple[str, Literal] | None:
    """The argument, with its name, that makes a size of less than 1; `built` is what was made all the same."""
    known = modules.home(call.name).startswith(("torch.", "flowconf."))
    for name, given in bound(call).items() if known else ():
        if name in COUNTS and isinstance(given, Literal) and _below_one(given.value, zero=True, negative=True):
            return name, given
    if built is None and "negative dimension" not in words:
        return None
    if built is not None and all(parameter.numel() for parameter in built.parameters()):
        return None
    least = {name: given for name, given in bound(call).items() if isinstance(given, Literal)}
    wrong = {name: given for name, given in least.items() if _below_one(given.value, zero=built is not None)}
    return next(iter(wrong.items()), None)


def endless(call: Call) -> tuple[str, Literal] | None:
    """The argument, with its name, that asks for so many layers that making them would not end."""
    counts = {name: given for name, given in bound(call).items() if name in LAYERS and isinstance(given, Literal)}
    return next(((n, c) for n, c in counts.items() if isinstance(c.value, int) and c.value > MOST_LAYERS), None)


def _below_one(value: object, zero: bool, negative: bool = False) -> bool:
    if isinstance(value, tuple):
        return any(_below_one(item, zero, negative) for item in value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and (value < 1 if zero and negative else value == 0 if zero else value < 0)  # type: ignore[operator]


def stream(call: Call, value: Any, giver: str, sizes: Sizes) -> StreamFault | None:
    """Why a stream of this kind, type or rank cannot enter a module; None when it is something else."""
    text, gives = f"`{call}`", f"`{giver}` gives {sizes.show(value)}"
    if isinstance(value, list):
        advice = "write `merge: cat`, or a module that takes a list"
        return StreamFault(f"{text} takes one tensor, and {gives}, the list of its branches", advice=advice)
    if isinstance(value, dict):
        names = " or ".join(f"`{giver}.{name}`" for name in list(value)[:3])
        return StreamFault(f"{text} takes one tensor, and {gives}", advice=f"read one of them by `from`: {names}")
    if isinstance(value, tuple):
        advice = "pick one by `take: 0` in the step that gives it, which ends a chain"
        return StreamFault(f"{text} takes one tensor, and {gives}", advice=advice)
    if isinstance(value, Tensor):
        return _type(call, value, giver, sizes) or _rank(call, value, giver, sizes)
    return None


def refused(call: Call, value: Any) -> bool:
    """Whether fake tensors let a stream pass that the module would not take: of another type, or with too few sizes."""
    count = _dimensions(call)
    if count is None or not isinstance(value, Tensor) or call.name.startswith(PADS):
        return wrong_type(call, value)
    fits = value.dim() in (count + 1, count + 2) or (call.name in EITHER and value.dim() == 2)
    return not fits or wrong_type(call, value)


def wrong_type(call: Call, value: Any) -> bool:
    """Whether a module would get whole numbers to multiply, or others to look up, which fake tensors may let pass."""
    if call.name in LOOK_UP:
        return isinstance(value, Tensor) and value.is_floating_point()
    known = any(name in EXPECTS for name in bound(call)) or FRACTIONS.fullmatch(call.name) is not None
    known = known and modules.home(call.name).startswith("torch.")
    return known and isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex())


def wrong_dim(call: Call, value: Any) -> Literal | None:
    """The `dim` of a module when the stream has no such dimension, which fake tensors may let pass."""
    if not isinstance(value, Tensor):
        return None
    for name, given in bound(call).items():
        number = given.value if isinstance(given, Literal) and name in DIMS.get(call.name, ("dim",)) else None
        if isinstance(number, int) and not -value.dim() <= number < value.dim():
            assert isinstance(given, Literal)
            return given
    return None


def _type(call: Call, value: Tensor, giver: str, sizes: Sizes) -> StreamFault | None:
    shape = ", ".join(sizes.number(size) for size in value.shape)
    if call.name in LOOK_UP and value.is_floating_point():
        advice = f"declare integers: `{{shape: [{shape}], dtype: int64}}`"
        kind = str(value.dtype).removeprefix("torch.")
        return StreamFault(f"`{call}` takes integers, but `{giver}` gives [{shape}] {kind}", advice=advice)
    if wrong_type(call, value):
        advice = "declare it `float32`, or put an `Embedding` before it"
        return StreamFault(
            f"`{call}` takes numbers with a fraction, and `{giver}` gives {sizes.show(value)}", advice=advice
        )
    return None


def _dimensions(call: Call) -> int | None:
    """How many sizes a module takes behind batch and channels, where its name tells."""
    found = re.fullmatch(r"\w+?([123])d", call.name)
    return int(found[1]) if found is not None and not call.name.startswith("Dropout") else None


def _rank(call: Call, value: Tensor, giver: str, sizes: Sizes) -> StreamFault | None:
    count = _dimensions(call)
    if count is None:
        return None
    if value.dim() == count + 2 or (call.name in EITHER and value.dim() == 2):
        return None
    right = f"{call.name.removeprefix('Fractional')[:-2]}{value.dim() - 2}d"
    advice = f"write `{right}`" if right in modules else None
    if advice is None and value.dim() == 2:
        advice = f"put `Unflatten(1, [channels, {DIMENSIONS[count]}])` before it to add the missing dimensions"
    takes = f"[batch, channels, {DIMENSIONS[count]}]"
    return StreamFault(f"`{call}` takes {takes}, and `{giver}` gives {sizes.show(value)}", advice=advice)


def repair(written: str, repaired: str | None, value: Tensor, expected: int, actual: int, sizes: Sizes) -> str | None:
    """The help for a size that a module does not expect."""
    if sizes.number(actual) != str(actual):
        return f"`{sizes.number(actual)}` stands for any size: give it a number in `inputs`"
    for start in range(1, value.dim() - 1):
        if prod(value.shape[start:]) == expected:
            flatten = "Flatten" if start == 1 else f"Flatten({start})"
            return f"write `{flatten} >> {written}`"
    return f"write `{repaired}`" if repaired else None


def further(using: dict[str, Any], words: str) -> str | None:
    """The further argument of `forward` that torch's words are about, or else the first."""
    told = next((name for name in using if re.search(rf"(?<!\w){name}(?!\w)", words)), None)
    return told or next(iter(using), None)


def start(how: Call, size: tuple[int, ...]) -> str | None:
    """Why a function of `torch.nn.init` cannot fill a parameter of this size, or None when it can."""
    values = [_plain(given) for given in how.args]
    named = {name: _plain(given) for name, given in how.kwargs}
    try:
        getattr(nn.init, f"{how.name}_")(torch.empty(size), *values, **named)
    except (UnsupportedFakeTensorException, DataDependentOutputException, DynamicOutputShapeException):
        return None
    except (ValueError, TypeError, RuntimeError, IndexError) as problem:
        return reworded(first_line(problem))
    return None


def _plain(given: Argument) -> Any:
    assert isinstance(given, Literal)
    return as_list(given.value) if isinstance(given.value, tuple) else given.value
