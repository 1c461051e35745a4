"""Breaks long lines of generated source at brackets, with one entry per line."""

from __future__ import annotations

from itertools import pairwise

WIDTH = 110
OPENERS = {"(": ")", "[": "]", "{": "}"}


def broken(line: str, width: int = WIDTH) -> list[str]:
    """`line` as one or more lines of at most `width` characters, as far as its brackets allow."""
    if len(line) <= width:
        return [line]
    start, end = _widest_group(line)
    if start < 0 or end - start <= 2:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    inside = line[start + 1 : end]
    if len(indent) + len(inside) <= width:
        rows = [indent + inside]
    else:
        clauses = _clauses(inside)
        entries = clauses or _entries(inside)
        comma = "," if len(entries) > 1 and not clauses else ""
        rows = [row for entry in entries for row in broken(f"{indent}{entry}{comma}", width)]
    return [line[: start + 1], *rows, indent[4:] + line[end:]]


def _widest_group(line: str) -> tuple[int, int]:
    """The position of the longest outermost pair of brackets."""
    best, stack = (-1, -1), []
    for position, sign in _outside_texts(line):
        if sign in OPENERS:
            stack.append(position)
        elif sign in OPENERS.values() and stack:
            start = stack.pop()
            if not stack and position - start > best[1] - best[0]:
                best = (start, position)
    return best


def _entries(inside: str) -> list[str]:
    """The parts of the contents of brackets, split at top-level commas."""
    cuts, depth = [], 0
    for position, sign in _outside_texts(inside):
        depth += (sign in OPENERS) - (sign in OPENERS.values())
        if sign == "," and depth == 0:
            cuts.append(position)
    edges = [-1, *cuts, len(inside)]
    parts = [inside[a + 1 : b].strip() for a, b in pairwise(edges)]
    return [part for part in parts if part]


def _clauses(inside: str) -> list[str]:
    """The two parts of a comprehension; empty if `inside` is not one."""
    depth = 0
    for position, sign in _outside_texts(inside):
        depth += (sign in OPENERS) - (sign in OPENERS.values())
        if depth == 0 and inside.startswith(" for ", position):
            return [inside[:position], inside[position + 1 :]]
    return []


def _outside_texts(line: str) -> list[tuple[int, str]]:
    """The characters of a line outside of string literals, with their positions."""
    found, quote, skip = [], "", False
    for position, sign in enumerate(line):
        if skip:
            skip = False
        elif quote:
            skip = sign == "\\"
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            found.append((position, sign))
    return found
