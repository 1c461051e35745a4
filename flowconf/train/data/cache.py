"""Rows of data sets that are made once, written to a file, and memory-mapped from then on.

The name of the file depends on everything that the rows are made of. It is a safetensors file, so nothing in it is
code. A file that is damaged, was changed, or is not a regular file is replaced, never followed. `cache_reading.py`
reads such a file, and `cache_writing.py` writes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from flowconf.report import Diagnostic, bytes_in_words, counted, from_json, printable, why_not
from flowconf.text.output import sync_folder
from flowconf.train.data.cache_reading import Unusable, splits_in
from flowconf.train.data.cache_writing import PATH, Writer, refusing
from flowconf.train.data.splits import Splits
from flowconf.train.runs.lock import close, locks_alone

WAIT = 0.1
"""Seconds between two attempts to lock a file that another process writes."""


@dataclass
class Cache:
    """A folder of rows that are made once."""

    folder: Path
    writes: bool = False
    """Whether rows that are not there are written, and not only made."""
    workers: int = 0
    """Processes that make the rows to write."""
    warnings: list[Diagnostic] = field(default_factory=list)
    """About files that were replaced."""
    written: list[str] = field(default_factory=list)
    """A line for each file that was written, with its size and that of the other files of its data set."""

    def splits(self, recipe: Mapping[str, Any], fitted: object, make: Callable[[], Splits]) -> Splits:
        """The splits of a recipe: those of the cache, or those that `make` gives, which are written to it.

        `fitted` is what an earlier run has determined; rows that determine the same are used. Raises `ConfigError` for
        rows that depend on chance, and `MachineError` if they cannot be written.
        """
        text = _text(recipe)
        found = self._read(text)
        if fitted is not None and (not isinstance(found, Splits) or found.fitted != fitted):
            text = _text({**recipe, "fitted": fitted})
            found = self._read(text)
        if isinstance(found, Splits):
            return found
        if not self.writes:
            return make()
        if found is not None:
            message = f"`{self._file(text)}` {found}, so its rows are made again"
            self.warnings.append(Diagnostic("FC0501", message, path=PATH, severity="warning"))
        return self._written(text, make)

    def _file(self, recipe: str) -> Path:
        name = re.sub(r"\W+", "_", from_json(recipe)["data set"].split()[0])
        return self.folder / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:24]}.safetensors"

    def _read(self, recipe: str) -> Splits | str | None:
        """The splits of a recipe; why its file cannot be used; None without a file."""
        try:
            return splits_in(self._file(recipe), recipe)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as problem:
            return f"cannot be read ({why_not(problem)})"
        except Unusable as why:
            return str(why)

    def _written(self, recipe: str, make: Callable[[], Splits]) -> Splits:
        """Make the rows and write them, unless another process has done so meanwhile."""
        file = self._file(recipe)
        with refusing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with _alone(file) as (output, temporary):
            found = self._read(recipe)
            if isinstance(found, Splits):
                return found
            splits = make()
            Writer(output, dict(splits.named()), self.workers, self.folder).write(recipe, splits.fitted)
            with refusing(self.folder):
                temporary.replace(file)
                sync_folder(self.folder)
                self.written.append(_sizes(file))
        return splits_in(file, recipe)


def _sizes(file: Path) -> str:
    """The size of a file, and of the others of its data set in the folder. Raises `OSError`."""
    name = file.name.rpartition("-")[0]
    own = re.compile(rf"\.?{name}-[0-9a-f]{{24}}\.safetensors(\.tmp)?")
    others = [other for other in os.scandir(file.parent) if own.fullmatch(other.name) and other.name != file.name]
    size = sum(other.stat(follow_symlinks=False).st_size for other in others)
    beside = f", and {counted(len(others), 'other file')} of `{name}`: {bytes_in_words(size)}" if others else ""
    return f"{bytes_in_words(file.stat().st_size)} written to {printable(str(file))}{beside}"


def _text(recipe: Mapping[str, Any]) -> str:
    return json.dumps(recipe, sort_keys=True)


@contextmanager
def _alone(file: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A block that alone writes to the temporary file of a file, after any other process that does.

    A file that a killed process has left is written anew; one that leads elsewhere is refused.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    while True:
        with refusing(file.parent):
            number = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
            state = os.fstat(number)
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                os.close(number)
                raise OSError(0, f"`{temporary.name}` is not a regular file of its own")
        output: BinaryIO = os.fdopen(number, "r+b")
        is_alone = locks_alone(output)
        if is_alone and _is_at(output, temporary):
            break
        output.close()
        if not is_alone:
            time.sleep(WAIT)
    try:
        yield output, temporary
    finally:
        if _is_at(output, temporary):
            temporary.unlink()
        with suppress(OSError):  # the disk may be full
            close(output)


def _is_at(output: BinaryIO, path: Path) -> bool:
    """Whether a path is that of an open file."""
    try:
        return os.path.samestat(os.fstat(output.fileno()), path.lstat())
    except FileNotFoundError:
        return False
