"""How names and lists of names are written in messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from functools import lru_cache

FEW = 12
"""The number of names that are listed of a set that is too large to list completely."""
CLOSE, CLOSE_IF_SHORT = 0.7, 0.6
"""The similarity from which one name may be meant by another, and for names of up to four letters."""
ALIKE = 0.1
"""The difference of similarities up to which several names may be meant."""
_UNUSUAL = re.compile(r"[^\n\t -~]")


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name closest to `name`, or None if none is close."""
    return next(iter(nearest_of(name, allowed)), None)


def nearest_of(name: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """The allowed names that are about as close to `name` as the closest one, at most three, the closest first.

    If a single one begins with `name`, as `accuracy` with `acc`, it is that one.
    """
    return _nearest(name, tuple(allowed))


@lru_cache(maxsize=512)
def _nearest(name: str, options: tuple[str, ...]) -> tuple[str, ...]:
    folded = {option.lower(): option for option in reversed(options)}
    start = name.lower().replace("_", "")
    begun = [option for option in folded if option.replace("_", "").startswith(start)]
    if len(start) > 2 and len(begun) == 1:
        return (folded[begun[0]],)
    cutoff = CLOSE if len(name) > 4 else CLOSE_IF_SHORT
    close = get_close_matches(name.lower(), folded, n=3, cutoff=cutoff)
    ratios = [SequenceMatcher(None, found, name.lower()).ratio() for found in close]
    alike = [found for found, ratio in zip(close, ratios, strict=True) if ratio > ratios[0] - ALIKE]
    return tuple(folded[found] for found in alike)


def listing(names: Sequence[str], most: int = 40) -> str:
    """The names in back-ticks; of more than `most`, the first few and the number of others."""
    shown = names if len(names) <= most else names[: min(most, FEW)]
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"{', '.join(f'`{name}`' for name in shown)}{more}"


def joined(names: Iterable[object]) -> str:
    """At least one name, in back-ticks, as a sentence lists them: `a`, `b` and `c`."""
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} and {last}" if most else last


def counted(number: int, what: str) -> str:
    """A number of things in words: `1 tensor`, `2 tensors`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def dtype_name(dtype: object) -> str:
    """The name of a dtype as configs have it: `float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def shortened(text: str, most: int = 60) -> str:
    """The text, if it has at most so many characters, or its beginning."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def printable(text: str) -> str:
    """The text on one line, safe to print: line ends, control and direction characters are escaped."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_lines(text: str) -> str:
    """The text safe to print, as `printable`, but with its line ends and tabs."""
    return _UNUSUAL.sub(lambda match: _shown(match[0]), text)


def _shown(letter: str) -> str:
    return letter if letter.isprintable() else repr(letter)[1:-1]


def bytes_in_words(number: float) -> str:
    """A number of bytes in the unit that leaves one to three digits before the point."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"
