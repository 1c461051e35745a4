"""Sizes in the shape check, and their text.

A symbol such as `B` is represented by a large prime, which no real size equals; its multiples are shown with `B`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any

from torch import Tensor, nn

from flowconf.graph.runtime import fields_of
from flowconf.language.arguments import Argument, Call, Literal
from flowconf.language.open_size import bound, parts
from flowconf.language.plan import Input
from flowconf.language.registry import modules
from flowconf.report import Place, dtype_name

PRIMES = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069)
NEAR = 32
SMALLER_PRIMES = (131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191)
"""For sizes that are multiples of one, so that tensors do not exceed the maximum size."""

EXPECTS = {
    "in_features": -1,
    "input_size": -1,
    "normalized_shape": -1,
    "embed_dim": -1,
    "d_model": -1,
    "in1_features": -1,
    "in_channels": 1,
    "num_features": 1,
    "num_channels": 1,
}
"""Constructor arguments that are a size of the input, and its dimension: the last one, or the channels."""

UNITS = {-1: "features", 1: "channels"}


TORCH_WORDS = (
    (r"torch\.Size\((\[.*?\])\)", r"\1"),
    (r"torch\.(float32|float64|int64|bool)", r"\1"),
    (
        r"Attempting to broadcast.* had (\[.*?\]); but expected.* broadcastable to (\[.*?\])",
        r"\1 cannot be broadcast to \2",
    ),
    (r"a and b must have same reduction dim, but got (\[.*?\]) X (\[.*?\])", r"\1 and \2 cannot be multiplied"),
    (r"^\w+\(\): ", ""),
    (r"^Invalid padding string '\w+', should be one of \{.*\}", "`padding` must be an integer, `'same'` or `'valid'`"),
    (r"padding='same' is not supported for strided convolutions", "`padding='same'` requires a `stride` of 1"),
    (r".*Calculated output size: .*Output size is too small", "the kernel is larger than the input"),
    (r".*calculated shape of the array of sliding blocks.*", "the kernel is larger than the input"),
    (r"Mismatch of parameter.* numbers = (\d+) and channel size = (\d+)", r"it has \1 parameters for \2 channels"),
    (r"elements in indices should be type int64 but got: (\w+)", r"`indices` must be integers, got \1"),
    (r"Expected (\d)D or (\d)D \(batch mode\) tensor.*", r"expected \1 or \2 dimensions"),
    (r"The size of tensor a \((.*?)\) must match the size of tensor b \((.*?)\).*", r"sizes \1 and \2 do not match"),
    (r"Trying to create tensor with negative dimension.*", "a size cannot be negative"),
    (r"kernel size should be greater than zero.*", "the kernel size must be at least 1"),
    (r"length must be non-negative", "negative padding larger than the input"),
    (r"expected sequence of length (\d+) at dim \d+ \(got (\d+)\)", r"its lists have different lengths, \1 and \2"),
    (r"Unknown (\w+) '(\w+)'\. Select from (.*)", r"`\1` must be \3, got '\2'"),
    (r"(\w+) should be (\S+)/(\S+), not (\w+)", r"`\1` must be '\2' or '\3', got '\4'"),
    (r"Padding_idx must be within num_embeddings", "`padding_idx` must be less than `num_embeddings`"),
    (r"(\w+) probability has to be between 0 and 1, but got (\S+)", r"`p` must be between 0 and 1, got \2"),
    (r"(\w+) should be a number in range \[0, 1\].*", r"`\1` must be between 0 and 1"),
    (
        r"(\w+) requires specifying either an output size, or a pooling ratio",
        "it requires `output_size` or `output_ratio`",
    ),
    (r"[Ff]an in and fan out can not be computed.*", "it requires at least 2 dimensions"),
)
"""Messages of torch, and clearer replacements."""


@dataclass
class Sizes:
    """The numbers for the symbols of one check: a prime each, a multiple of one, or the `known` size."""

    known: dict[str, int] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)
    """Symbol -> its prime."""
    multiples: dict[str, int] = field(default_factory=dict)
    """Symbol -> the factor of its prime."""

    def of(self, size: int | str) -> int:
        """The number for a size."""
        if isinstance(size, int):
            return size
        factor, symbol = parts(size)
        if symbol in self.known:
            return factor * self.known[symbol]
        multiple = self.multiples.get(symbol, 1)
        primes = PRIMES if multiple == 1 else SMALLER_PRIMES
        return factor * multiple * self.symbols.setdefault(symbol, primes[len(self.symbols) % len(primes)])

    def at_multiples(self, multiples: Mapping[str, int]) -> Sizes:
        """The same sizes, except for some symbols, which are multiples of a prime."""
        others = {symbol: prime for symbol, prime in self.symbols.items() if symbol not in multiples}
        return Sizes(self.known, others, dict(multiples))

    def others(self, symbols: Sequence[str]) -> Iterator[Sizes]:
        """The same sizes, except for some symbols, whose primes leave each other remainder when divided by 8."""
        for turn in range(1, 4):
            changed = {symbol: self._turned(symbol, turn) for symbol in symbols if symbol in self.symbols}
            yield replace(self, symbols={**self.symbols, **changed})

    def _turned(self, symbol: str, turn: int) -> int:
        primes = PRIMES if self.multiples.get(symbol, 1) == 1 else SMALLER_PRIMES
        of_remainder = {prime % 8: prime for prime in reversed(primes)}
        return of_remainder[(self.symbols[symbol] + 2 * turn) % 8]

    def at(self, numbers: Mapping[str, int]) -> Sizes:
        """The same sizes, except for some symbols with these numbers."""
        return Sizes(self.known, {**self.symbols, **numbers})

    def number(self, size: int) -> str:
        """A size in terms of the symbols: `H`, `2*H`, `H/2`, `H-4`."""
        found: list[str] = []
        share = 1
        for symbol, prime in self.symbols.items():
            while prime > 1 and size and size % prime == 0:
                found.append(symbol)
                share *= self.multiples.get(symbol, 1)
                size //= prime
        if not found and (near := self._near(size)):
            return near
        whole = math.gcd(size, share)
        size, share = size // whole, share // whole
        product = "*".join([*([] if size == 1 and found else [str(size)]), *found])
        return product if share == 1 else f"{product}/{share}"

    def _near(self, size: int) -> str | None:
        """A size with a small offset, if the symbols are multiples."""
        for symbol, multiple in self.multiples.items():
            part = self.symbols.get(symbol, 0) * (multiple // 4 if multiple % 4 == 0 else multiple)
            count = round(size / part) if part else 0
            if count and 0 < abs(rest := size - count * part) <= NEAR:
                return f"{self.number(count * part)}{rest:+d}"
        return None

    def small(self, size: int) -> int:
        """A size with 2 for each symbol."""
        for prime in self.symbols.values():
            if size and size % prime == 0:
                size = size // prime * 2
        return size

    def shape(self, sizes: Iterable[int]) -> str:
        """A shape in terms of the symbols: `[B, 128]`."""
        return f"[{', '.join(map(self.number, sizes))}]"

    def show(self, value: Any) -> str:
        """The shape of a value: `[B, 128]`, or the parts of a tuple or dict."""
        if isinstance(value, Tensor):
            dtype = "" if value.dtype.is_floating_point else f" {dtype_name(value.dtype)}"
            return f"{self.shape(value.shape)}{dtype}"
        if is_dataclass(value) and not isinstance(value, dict | type):
            value = fields_of(value)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name}: {self.show(item)}" for name, item in value.items()) + "}"
        if isinstance(value, tuple | list):
            return "(" + ", ".join(self.show(item) for item in value) + ")"
        if value is None:
            return "None"
        return "a value of unknown shape" if not isinstance(value, int | float) else str(value)

    def reworded(self, message: str) -> str:
        """A message of torch, reworded, with symbols instead of their primes."""
        message = re.sub(r"\d{4,}", lambda match: self.number(int(match[0])), message)
        return reworded(message)


def reworded(message: str) -> str:
    """A message of torch, reworded, in lower case like all others."""
    for form, words in TORCH_WORDS:
        message = re.sub(form, words, message)
    is_name = re.match(r"[A-Z]\w*[A-Z0-9(_]", message)
    return message if is_name else message[:1].lower() + message[1:]


def misfits(entry: Input, value: Any) -> int | None:
    """The position of the first mismatch with a declared shape, -1 for another rank, None if all sizes match.

    A symbol has the same size throughout the shape.
    """
    assert entry.shape is not None
    if not isinstance(value, Tensor) or value.dim() != len(entry.shape):
        return -1
    symbols: dict[str, int] = {}
    for position, (size, actual) in enumerate(zip(entry.shape, value.shape, strict=True)):
        if not bound(size, actual, symbols):
            return position
    return None


@dataclass(frozen=True)
class Expectation:
    """The size that a module expects, the actual size, and the corrected call."""

    expected: int
    actual: int
    unit: str
    place: Place
    written: Literal | None
    """The argument; None if the size is not an argument of the call."""
    repaired: str | None


def named_arguments(call: Call) -> list[tuple[str, Argument]]:
    """The arguments of a call with their names, as far as they have one."""
    names = *modules.class_source(call.name).init.positional, *[""] * len(call.args)
    return [*zip(names, call.args, strict=False), *call.kwargs]


def expectation(built: nn.Module, call: Call, stream: Any) -> Expectation | None:
    """The argument of `call` that does not match a size of the input, or None."""
    if not isinstance(stream, Tensor):
        return None
    for name, argument in named_arguments(call):
        axis = EXPECTS.get(name)
        written = argument if isinstance(argument, Literal) else None
        expected = getattr(built, name, None if written is None else written.value)
        if isinstance(expected, tuple) and len(expected) == 1:
            expected = expected[0]
        if axis is None or not isinstance(expected, int) or stream.dim() < (2 if axis == 1 else 1):
            continue
        actual = int(stream.shape[axis])
        if actual != expected and (axis != 1 or _has_rank(built, stream)):
            place = call.place if written is None else written.place
            return Expectation(expected, actual, UNITS[axis], place, written, _repaired(call, argument, actual))
    return None


def _has_rank(built: nn.Module, stream: Tensor) -> bool:
    """Whether the input has the rank that a module such as `Conv2d` expects; if not, the channels are not at fault."""
    spatial = re.search(r"([123])d$", type(built).__name__)
    return spatial is None or stream.dim() - int(spatial[1]) in (1, 2)


def _repaired(call: Call, wrong: Argument, size: int) -> str:
    right = Literal(size, str(size))
    args = tuple(right if argument is wrong else argument for argument in call.args)
    kwargs = tuple((name, right if argument is wrong else argument) for name, argument in call.kwargs)
    return str(replace(call, args=args, kwargs=kwargs))
