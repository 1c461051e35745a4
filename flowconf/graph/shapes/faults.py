"""Which argument is at fault when a module cannot be constructed or called, and the advice."""

from __future__ import annotations

import re
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from flowconf.graph.shapes.rules import Fault
from flowconf.graph.shapes.sizes import EXPECTS, Sizes
from flowconf.language.arguments import Call, Literal
from flowconf.language.registry import modules
from flowconf.report import dtype_name

DIMENSIONS = {1: "length", 2: "height, width", 3: "depth, height, width"}
LOOK_UP = ("Embedding", "EmbeddingBag")
"""Modules that require integers."""
EITHER = ("BatchNorm1d", "InstanceNorm1d", "AdaptiveAvgPool1d", "AdaptiveMaxPool1d", "AvgPool1d", "MaxPool1d")
"""Modules for one dimension that also accept [batch, channels]."""

COUNTS = (
    "kernel_size", "stride", "dilation", "groups", "num_groups", "num_heads", "nhead", "num_layers",
    "hidden_size", "upscale_factor", "downscale_factor", "experts", "branches",
)  # fmt: skip
"""Arguments that are counts, but not sizes of a parameter."""
PADS = ("ZeroPad", "ConstantPad")
"""Modules for a number of dimensions that also accept more."""
FRACTIONS = re.compile(
    r"(Alpha|Feature)*Dropout\w*|(Log)?Soft(max|min|plus|shrink)2?d?|(Leaky|PRe|S|C|E|G)E?LU|SiLU|Mish|LogSigmoid"
    r"|Hardswish|Hardsigmoid|(Adaptive)?(Max|Avg)Pool\dd"
)
"""Modules without sizes that require a floating-point type."""
DIMS = {"Flatten": ("start_dim", "end_dim"), "Transpose": ("first", "second")}
"""Arguments other than `dim` that are dimensions, by module."""

LAYERS = ("num_layers", "num_encoder_layers", "num_decoder_layers")
MOST_LAYERS = 1_000
"""The maximum number of layers in one module: torch needs minutes for more."""
INNER = {"num_heads": "nhead", "embed_dim": "d_model"}
"""Argument names in the parts of torch's layers -> the names in the layers themselves."""
TELLS = "(?:got|index|negative dimension|string|not)"
"""Words of torch's messages before an invalid value."""


def bound(call: Call) -> dict[str, Literal]:
    """The plain arguments of a call by name, without variadic ones."""
    pairs = modules.class_source(call.name).init.bound(call.args, call.kwargs)
    return {p.name: given for p, given in pairs if p.kind != "*" and isinstance(given, Literal)}


def number_of(call: Call, name: str, item: int) -> Literal | None:
    """One number of an argument with several, with its place."""
    given = [one for p, one in modules.class_source(call.name).init.bound(call.args, call.kwargs) if p.name == name]
    first = given[0] if len(given) == 1 else None
    found = first.items if isinstance(first, Literal) and first.items else given
    one = found[item] if item < len(found) else None
    return one if isinstance(one, Literal) else first if isinstance(first, Literal) else None


def argument(call: Call, words: str) -> Literal | None:
    """The argument that a message of torch refers to: by name, or else by value."""
    for torch_name, ours in INNER.items():
        words = re.sub(rf"\b{torch_name}\b", ours, words) if ours in bound(call) else words
    named: list[tuple[int, Literal]] = []
    spaced = words.lower().replace("_", " ")
    valued: list[Literal] = []
    for name, given in bound(call).items():
        if isinstance(given.value, tuple) and str(given.plain) in words:
            return given
        found = [match.start() for match in re.finditer(rf"(?<![\w.]){name}(?!\w)", words)]
        if found or (len(name) > 3 and re.search(rf"\b{name.replace('_', ' ')}\b", spaced)):
            named.append((found[-1] if found else 0, given))
        elif re.search(rf"{TELLS} '?{re.escape(str(given.value))}'?(?![\w.])", words):
            valued.append(given)
    if named:
        first = "must be within" in words  # the first name is at fault, the others are its bounds
        return (min if first else max)(named, key=lambda at: at[0])[1]
    return valued[-1] if valued else None


def with_values(call: Call, words: str) -> str:
    """The message of a constructor about divisibility, with the names and values of the arguments in this call."""
    found = re.fullmatch(r"(\w+)(?: \(\d+\))? must be divisible by (\w+)(?: \(\d+\))?", words)
    given = bound(call)
    shown = []
    for torch_name in found.groups() if found is not None else ():
        name = torch_name if torch_name in given else INNER.get(torch_name, torch_name)
        shown.append(f"`{name}` {given[name].value}" if name in given else f"`{name}`")
    return f"{shown[0]} is not divisible by {shown[1]}" if shown else words


def no_size(call: Call, built: nn.Module | None, words: str) -> tuple[str, Literal] | None:
    """The name and value of an argument that results in a size below 1; `built` is the module, if there is one."""
    known = modules.home(call.name).startswith(("torch.", "flowconf."))
    for name, given in bound(call).items() if known else ():
        if name in COUNTS and _below_one(given.value, zero=True, negative=True):
            return name, given
    if built is None and "negative dimension" not in words:
        return None
    if built is not None and all(parameter.numel() for parameter in built.parameters()):
        return None
    wrong = ((name, given) for name, given in bound(call).items() if _below_one(given.value, zero=built is not None))
    return next(wrong, None)


def endless(call: Call) -> tuple[str, Literal] | None:
    """The name and value of an argument that exceeds the maximum number of layers."""
    counts = ((name, given) for name, given in bound(call).items() if name in LAYERS)
    return next(((n, c) for n, c in counts if isinstance(c.value, int) and c.value > MOST_LAYERS), None)


def _below_one(value: object, zero: bool, negative: bool = False) -> bool:
    if isinstance(value, tuple):
        return any(_below_one(item, zero, negative) for item in value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and (value < 1 if zero and negative else value == 0 if zero else value < 0)  # type: ignore[operator]


def stream(call: Call, value: Any, giver: str, sizes: Sizes) -> Fault | None:
    """Why a stream of this kind, type or rank is not accepted by a module, or None."""
    text, got = f"`{call}`", f"got {sizes.show(value)} from `{giver}`"
    if isinstance(value, list):
        advice = "write `merge: cat`, or a module that takes a list"
        return Fault(f"{text} expects a tensor, {got}, the list of its branches", advice=advice)
    if isinstance(value, dict):
        names = " or ".join(f"`{giver}.{name}`" for name in list(value)[:3])
        return Fault(f"{text} expects a tensor, {got}", advice=f"select one with `from`: {names}")
    if isinstance(value, tuple):
        takes = " or ".join(f"`take: {name}`" for name in getattr(value, "_fields", (0,)))
        advice = f"select one with {takes} in the step that returns it, as the last module of a chain"
        return Fault(f"{text} expects a tensor, {got}", advice=advice)
    if isinstance(value, Tensor):
        return _type(call, value, giver, sizes) or _rank(call, value, giver, sizes)
    return None


def refused(call: Call, value: Any) -> bool:
    """Whether a module rejects the type or rank of a stream that fake tensors accept."""
    count = _dimensions(call)
    if count is None or not isinstance(value, Tensor) or call.name.startswith(PADS):
        return wrong_type(call, value)
    fits = value.dim() in (count + 1, count + 2) or (call.name in EITHER and value.dim() == 2)
    return not fits or wrong_type(call, value)


def wrong_type(call: Call, value: Any) -> bool:
    """Whether a stream has an integer type instead of a floating-point type, or vice versa."""
    if call.name in LOOK_UP:
        return isinstance(value, Tensor) and value.is_floating_point()
    known = any(name in EXPECTS for name in bound(call)) or FRACTIONS.fullmatch(call.name) is not None
    known = known and modules.home(call.name).startswith("torch.")
    return known and isinstance(value, Tensor) and (_is_double(call, value) or not _is_fraction(value))


def _is_double(call: Call, value: Tensor) -> bool:
    """Whether a stream is of float64, and the weights of a module are not; fake tensors accept it."""
    sized = any(name in EXPECTS for name in bound(call))
    return sized and value.dtype == torch.float64 != torch.get_default_dtype()


def _is_fraction(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def wrong_dim(call: Call, value: Any) -> Literal | None:
    """The `dim` of a module if it is out of range for the stream, which fake tensors may accept."""
    if not isinstance(value, Tensor):
        return None
    for name, given in bound(call).items():
        number = given.value if name in DIMS.get(call.name, ("dim",)) else None
        if isinstance(number, int) and not -value.dim() <= number < value.dim():
            return given
    return None


def _type(call: Call, value: Tensor, giver: str, sizes: Sizes) -> Fault | None:
    shape = sizes.shape(value.shape)
    if call.name in LOOK_UP and value.is_floating_point():
        advice = f"declare integers: `{{shape: {shape}, dtype: int64}}`"
        kind = dtype_name(value.dtype)
        return Fault(f"`{call}` expects integers, got {shape} {kind} from `{giver}`", advice=advice)
    if wrong_type(call, value) and _is_fraction(value):
        advice = "declare it as `float32`, and convert it in the data set, as by `.float()`"
        message = f"`{call}` has weights of float32, got {sizes.show(value)} float64 from `{giver}`"
        return Fault(message, advice=advice)
    if wrong_type(call, value):
        advice = "declare it as `float32`, or add an `Embedding` before it"
        message = f"`{call}` expects a floating-point type, got {sizes.show(value)} from `{giver}`"
        return Fault(message, advice=advice)
    return None


def _dimensions(call: Call) -> int | None:
    """The number of dimensions after batch and channels, if it is part of the name of the module."""
    found = re.fullmatch(r"\w+?([123])d", call.name)
    return int(found[1]) if found is not None and not call.name.startswith("Dropout") else None


def _rank(call: Call, value: Tensor, giver: str, sizes: Sizes) -> Fault | None:
    count = _dimensions(call)
    if count is None:
        return None
    if value.dim() == count + 2 or (call.name in EITHER and value.dim() == 2):
        return None
    right = f"{call.name.removeprefix('Fractional')[:-2]}{value.dim() - 2}d"
    advice = f"write `{right}`" if right in modules else None
    if advice is None and value.dim() == 2:
        advice = f"add `Unflatten(1, [channels, {DIMENSIONS[count]}])` before it"
    expected = f"[batch, channels, {DIMENSIONS[count]}]"
    return Fault(f"`{call}` expects {expected}, got {sizes.show(value)} from `{giver}`", advice=advice)


ONE_NUMBER = "each row is one number: add `Reshape(1)` before it, for rows of size 1"


def repair(written: str, repaired: str | None, value: Tensor, expected: int, actual: int, sizes: Sizes) -> str | None:
    """The advice for a size that a module does not expect."""
    if sizes.number(actual) != str(actual):
        if value.dim() == 1:
            return ONE_NUMBER
        return f"`{sizes.number(actual)}` is an unknown size: write a number for it in `inputs`"
    for start in range(1, value.dim() - 1):
        if prod(value.shape[start:]) == expected:
            flatten = "Flatten" if start == 1 else f"Flatten({start})"
            return f"write `{flatten} >> {written}`"
    return f"write `{repaired}`" if repaired else None


def further(using: dict[str, Any], words: str) -> str | None:
    """The further argument of `forward` that a message of torch refers to, or else the first."""
    named = next((name for name in using if re.search(rf"(?<!\w){name}(?!\w)", words)), None)
    return named or next(iter(using), None)
