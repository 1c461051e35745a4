"""Dotted paths of a graph: what is above and below them, looked up instead of searched for among all names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


def join(*parts: str) -> str:
    """Join paths with dots; empty parts are skipped."""
    return ".".join(filter(None, parts))


def parents(path: str) -> Iterator[str]:
    """All paths above a path, nearest first; the last one is "", the whole graph."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def above(path: str) -> Iterator[str]:
    """A path and all paths above it, nearest first; the last one is "", the whole graph."""
    yield path
    yield from parents(path)


def nearest(path: str, known: Mapping[str, T]) -> T | None:
    """The entry of a path, or else of the nearest one above it."""
    return next((known[one] for one in above(path) if one in known), None)


def is_under(path: str, paths: Collection[str]) -> bool:
    """Whether a path is one of some paths, or below one; `paths` should be a set or a mapping."""
    return any(one in paths for one in above(path))


def all_above(paths: Iterable[str]) -> set[str]:
    """Some paths and all paths above them: each is where one of them is, or leads to one."""
    found: set[str] = set()
    for path in paths:
        for one in above(path):
            if one in found:  # and all above it
                break
            found.add(one)
    return found


def by_path(names: Iterable[str]) -> dict[str, list[str]]:
    """Path -> the names that are there and below it, for every path that leads to a name."""
    found: dict[str, list[str]] = {}
    for name in names:
        for path in above(name):
            found.setdefault(path, []).append(name)
    return found
