"""The recipe of the rows of a data set, for a cache: files, arguments, code, and the versions of libraries."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flowconf.train.data.declarations import DataSet, matching
from flowconf.train.runs.environment import installed

FORMAT = 1
"""The version of what a cache file has."""
IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)|import[ \t]+([\w., \t]+))", re.MULTILINE)

Stamp = tuple[str, int, int, int]
"""A file with its size, and the times (ns) of the last change of its content, and of the file itself."""


def recipe_of(data_set: DataSet, apart: Path) -> dict[str, Any]:
    """What the rows that a data set gives for its arguments are made of, as plain data; files below `apart` are not.

    Files are those that the arguments name, and those below the folders that they name.
    """
    sources = source_files(data_set.factory)
    whole = DataSet(data_set.name, data_set.with_defaults())
    return {
        "format": FORMAT,
        "data set": f"{whole.name} of {whole.factory.__module__}",
        "arguments": json.dumps(whole.args, sort_keys=True, default=repr),
        "files": _digest(*(repr(stamp) for path in whole.files.values() for stamp in stamps_below(path, apart))),
        "source": _digest(*(file.read_bytes() for file in sources)),
        "versions": versions(sources),
    }


def stamps_below(path: str, apart: Path) -> Iterator[Stamp]:
    """The stamps of a file, of all files below a folder, or of those that match a pattern. Raises `OSError`."""
    if not Path(path).is_dir():
        yield from (stamp(str(file)) for file in ([Path(path)] if Path(path).exists() else matching(path)))
        return
    seen = {os.path.realpath(apart)}
    for folder, below, files in os.walk(path, followlinks=True):
        seen.add(os.path.realpath(folder))
        below[:] = sorted(name for name in below if os.path.realpath(f"{folder}/{name}") not in seen)
        yield from (stamp(f"{folder}/{name}") for name in sorted(files))


def stamp(file: str) -> Stamp:
    """The stamp of a file; zeros for one that is not there."""
    try:
        found = Path(file).stat()
    except FileNotFoundError:
        return file, 0, 0, 0
    return file, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def source_files(factory: Callable[..., Any]) -> list[Path]:
    """The source of a data set: all modules of its package, or the single module. For one of flowconf, its readers."""
    module = sys.modules[factory.__module__]
    is_own = module.__name__.startswith("flowconf.")
    home = sys.modules[module.__package__ if is_own and module.__package__ else module.__name__.partition(".")[0]]
    folders: Sequence[str] = list(getattr(home, "__path__", ()))
    if not folders:
        return [Path(file)] if (file := getattr(home, "__file__", None)) else []
    return sorted(file for folder in folders for file in Path(folder).rglob("*.py"))


def versions(sources: Sequence[Path]) -> dict[str, str]:
    """The versions of Python, of flowconf, and of the installed packages that these modules import."""
    imported = {"flowconf"}
    for file in sources:
        for one, several in IMPORT.findall(file.read_text(encoding="utf-8", errors="replace")):
            imported.update(re.findall(r"(?:^|,)[ \t]*(\w+)", one or several))
    found = {name: _version(name) for name in sorted(imported - sys.stdlib_module_names)}
    return {"python": platform.python_version(), **{name: known for name, known in found.items() if known}}


def _version(package: str) -> str | None:
    """The version of a package, or when its first module was changed if it is of a distribution with another name."""
    if (known := installed(package)) is not None:
        return known
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        return None
    return None if found is None or not found.origin else repr(stamp(found.origin)[1:3])


def _digest(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()
