"""Open sizes in the shapes of inputs: a symbol such as `H`, or a multiple of one such as `4*H`."""

from __future__ import annotations

import re
from collections.abc import Iterator

SYMBOL = re.compile(r"(?!(?:None|True|False)$)[A-Z][A-Za-z0-9_]*")


def products(text: str) -> Iterator[tuple[str, str]]:
    """The ways to read a text as a factor and a symbol: `H`, `4 * H`, `H * 4`."""
    words = [word.strip() for word in text.split("*")]
    if len(words) > 2:
        return
    first, last = words if len(words) == 2 else ["1", *words]
    for factor, symbol in ((first, last), (last, first)):
        if SYMBOL.fullmatch(symbol):
            yield factor, symbol


def open_size(factor: int, symbol: str) -> str:
    """The text of a multiple of a symbol."""
    return symbol if factor == 1 else f"{factor}*{symbol}"


def parts(size: str) -> tuple[int, str]:
    """The factor and the symbol of an open size: `4*H` is 4 times `H`."""
    factor, star, symbol = size.rpartition("*")
    return (int(factor), symbol) if star else (1, size)


def bound(size: int | str, actual: int, symbols: dict[str, int]) -> bool:
    """Whether an actual size is as declared; the first size of a symbol in `symbols` is that of all others."""
    if isinstance(size, int):
        return size == actual
    factor, symbol = parts(size)
    return actual % factor == 0 and symbols.setdefault(symbol, actual // factor) * factor == actual
