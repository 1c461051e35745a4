"""What a shell offers when Tab is pressed: config files, runs and codes. Called each time, so it imports little."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from flowconf.report import CODES

CONFIGS = (".yaml", ".yml", ".toml")
PROJECT, RECORD, ENVIRONMENT = "pyproject.toml", "run.json", "pyvenv.cfg"
"""Files that mark a project, a run folder and a virtual environment."""
PLAIN = re.compile(r"[\w./@%+,=-]+")
"""Paths that no shell reads as anything else. Others are not offered, because shells evaluate what is offered."""
MOST_ENTRIES = 5000
"""How many files and folders are looked at."""


def configs(incomplete: str) -> list[str]:
    """The config files in the folder of an incomplete path and below it."""
    folder = incomplete[: incomplete.rfind("/") + 1]
    entries = islice(_below(folder or os.curdir), MOST_ENTRIES)
    paths = (entry.path for entry in entries if entry.name.endswith(CONFIGS) and entry.name != PROJECT)
    return _offered((path if folder else path.removeprefix("./") for path in paths), incomplete)


def runs(incomplete: str) -> list[str]:
    """The run folders in the folder of an incomplete path, and the folders of runs; by default, those in `runs`."""
    folder = incomplete[: incomplete.rfind("/") + 1] or "runs/"
    paths = (entry.path for entry in islice(_entries(folder), MOST_ENTRIES) if _has_runs(Path(entry.path)))
    return _offered(paths, incomplete)


def sources(incomplete: str) -> list[str]:
    """Config files and runs, for a command that takes either."""
    return [*configs(incomplete), *runs(incomplete)]


def codes(incomplete: str) -> list[tuple[str, str]]:
    """The codes of errors, with their meaning."""
    return [(code, meaning) for code, meaning in CODES.items() if code.startswith(incomplete)]


def _offered(paths: Iterable[str], incomplete: str) -> list[str]:
    return sorted(path for path in paths if path.startswith(incomplete) and PLAIN.fullmatch(path))


def _below(start: str) -> Iterator[os.DirEntry[str]]:
    """The entries below a folder, nearer ones first, without hidden folders, run folders and virtual environments."""
    folders = deque([start])
    while folders:
        for entry in _entries(folders.popleft()):
            yield entry
            if entry.name[0] not in "._" and entry.is_dir(follow_symlinks=False) and not _is_skipped(Path(entry.path)):
                folders.append(entry.path)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def _is_skipped(folder: Path) -> bool:
    return (folder / RECORD).exists() or (folder / ENVIRONMENT).exists()


def _has_runs(folder: Path) -> bool:
    return (folder / RECORD).is_file() or any(folder.glob(f"*/{RECORD}"))
