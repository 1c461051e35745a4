"""The `rename` of a load: prefixes of tensor names that are replaced, in which `*` is any one name."""

from __future__ import annotations

from collections.abc import Iterable

from flowconf.language.paths import join

Renames = Iterable[tuple[str, str]]
"""Old prefix -> new prefix; the first that fits a name applies.

A `*` of the new one is replaced by what that of the old one matched.
"""

ANY = "*"


def renamed(name: str, renames: Renames) -> tuple[str | None, str]:
    """The old prefix that a name begins with, or None, and the name with the new one instead.

    >>> renamed("encoder.layer.3.output.dense.bias", [("encoder.layer.*.output.dense", "block.*.0")])
    ('encoder.layer.*.output.dense', 'block.3.0.bias')
    """
    for old, new in renames:
        rest = _replaced(name.split("."), old.split(".") if old else [], new)
        if rest is not None:
            return old, rest
    return None, name


def _replaced(names: list[str], old: list[str], new: str) -> str | None:
    """The name with a new prefix, or None if it does not begin with the old one."""
    if len(names) < len(old) or any(one not in (ANY, name) for one, name in zip(old, names, strict=False)):
        return None
    met = iter([name for one, name in zip(old, names, strict=False) if one == ANY])
    return join(*(next(met) if one == ANY else one for one in new.split(".")), *names[len(old) :])


def with_any(old: str, new: str) -> tuple[str, str]:
    """Two prefixes with `*` in place of the numbers that they begin alike with: those of layers."""
    sides = [prefix.split(".") for prefix in (old, new)]
    numbers = [[place for place, name in enumerate(names) if name.isdigit()] for names in sides]
    for first, second in zip(*numbers, strict=False):
        if sides[0][first] != sides[1][second]:
            break
        sides[0][first] = sides[1][second] = ANY
    return ".".join(sides[0]), ".".join(sides[1])
