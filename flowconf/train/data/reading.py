"""Errors in the files of a data set, and the packages that it reads them with."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowconf.report import Advice, ConfigError, Diagnostic, MachineError, Place, why_not

RELATIVE = "data paths are relative to the current folder"
AS_UTF8 = "save the file as UTF-8"


def refused(message: str, file: str | Path, advice: Advice | None = None, line: int = 0) -> ConfigError:
    """An error at a file, or at one of its lines, from 1 on."""
    place = Place(str(file), line, 1) if line else Place(str(file))
    return ConfigError(Diagnostic("FC0501", message, place, "data", advice=advice))


def refuse_missing(file: str) -> None:
    """Raise `ConfigError` for a file that does not exist."""
    if not Path(file).is_file():
        raise refused(f"there is no file `{file}`", file, RELATIVE)


@contextmanager
def reading(file: str, as_text: str = AS_UTF8) -> Iterator[None]:
    """A block that reads a file. Raises `ConfigError` if it cannot, with `as_text` as advice if it is not UTF-8."""
    try:
        yield
    except UnicodeDecodeError as problem:
        raise refused(f"`{file}` is not valid UTF-8 at byte {problem.start + 1:,}", file, as_text) from None
    except OSError as problem:
        raise refused(f"cannot read `{file}`: {why_not(problem)}", file) from None


def required(module: str, message: str, extra: str, otherwise: str = "") -> Any:
    """The module of an optional package. Raises `MachineError` with `message` if the `extra` is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        advice = f"run `pip install 'flowconf[{extra}]'`{otherwise}"
        raise MachineError(Diagnostic("FC0601", message, path="data.name", advice=advice)) from None
