"""`flowconf init`: a new project that trains, to start from."""

from __future__ import annotations

import keyword
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from flowconf.report import ConfigError, Diagnostic, Place, listing, printable

STARTER = Path(__file__).parent.parent / "starter"
PLACEHOLDER = "project_name"
"""The name of the starter's package, in its paths and in its texts."""
KEPT = ("README.md", ".gitignore")
"""Files that a folder may already have, as a new repository does. They are left as they are."""
NAME = re.compile(r"[a-z][a-z0-9_]*")


def init(
    folder: Annotated[
        str, typer.Argument(metavar="NAME", help="The folder of the project, made if needed; `.` is the current one.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="PACKAGE", help="The name of its Python package (default: that of the folder)."),
    ] = None,
) -> None:
    """Create a project that trains: a config, a block, data and tests."""
    root = Path(folder)
    package = _package(folder, name)
    texts = {root / file: text for file, text in sorted(_starter(package))}
    existing = [file for file in texts if os.path.lexists(file)]
    kept = [file for file in existing if file.relative_to(root).as_posix() in KEPT]
    _refuse([file for file in existing if file not in kept], package)
    written: list[Path] = []
    try:
        for file, text in texts.items():
            if file not in kept:
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("x", encoding="utf-8", newline="\n") as out:
                    written.append(file)
                    out.write(text)
    except OSError as problem:
        problem.filename = problem.filename or str(written[-1])
        for file in written:  # part of a project, which the next try would refuse to overwrite
            file.unlink(missing_ok=True)
        raise
    for file in texts:
        print(f"{'kept ' if file in kept else 'wrote'} {printable(str(file))}")
    enter = [] if root.resolve() == Path.cwd() else [f"cd {shlex.quote(folder)}"]
    print("\nNext:")
    for command in (*enter, "flowconf train configs/baseline.yaml", "pytest"):
        print(f"  {printable(command)}")


def _package(folder: str, name: str | None) -> str:
    """The name of the project's package. Raises `ConfigError` for one that cannot be imported, or hides a module."""
    given = (Path(folder).resolve().name if folder else "") if name is None else name
    package = given.replace("-", "_").lower()
    problem = _unusable(package)
    if problem is None:
        return package
    ascii_only = unicodedata.normalize("NFKD", package).encode("ascii", "ignore").decode()
    usable = re.sub(r"[^a-z0-9]+", "_", ascii_only).strip("_").lstrip("0123456789_")
    if _unusable(usable) is not None:
        usable = f"my_{usable or 'project'}"
    place = Place(word=folder if name is None else f"--name {name}")
    raise ConfigError(
        Diagnostic(
            "FC0126", f"`{given}` cannot be the name of a project: {problem}", place, advice=f"add `--name {usable}`"
        )
    )


def _unusable(package: str) -> str | None:
    """The reason why a package of a project cannot have this name, if there is one."""
    if NAME.fullmatch(package) is None:
        return "the name of its package consists of ASCII letters, digits and `_`, and begins with a letter"
    if keyword.iskeyword(package):
        return f"`{package}` is a Python keyword"
    if package in {file.name for file in STARTER.iterdir()} | {"runs"}:
        return f"the project has another folder `{package}`"
    if package in sys.stdlib_module_names or _is_installed(package):
        return f"it would hide the installed module `{package}`"
    return None


def _is_installed(package: str) -> bool:
    """Whether a module of this name can be imported from anywhere but the current folder."""
    found = find_spec(package)
    places = [] if found is None else found.submodule_search_locations or [found.origin or ""]
    return any(Path(place).absolute().parent != Path.cwd() for place in places)


def _starter(package: str) -> Iterator[tuple[str, str]]:
    """The files of the starter, with their path in the project."""
    for file in sorted(STARTER.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            path = file.relative_to(STARTER).as_posix().replace("gitignore", ".gitignore")
            text = file.read_text(encoding="utf-8")
            yield path.replace(PLACEHOLDER, package), text.replace(PLACEHOLDER, package)


def _refuse(existing: list[Path], package: str) -> None:
    if not existing:
        return
    message = f"{listing([str(file) for file in existing])} exist{'s' if len(existing) == 1 else ''}"
    advice = "choose another name"
    if any(file.name == "pyproject.toml" for file in existing):
        advice += f', or list the modules of an existing project in its `pyproject.toml`: `modules = ["{package}"]`'
        advice += " under `[tool.flowconf]`"
    raise ConfigError(
        Diagnostic("FC0602", f"{message}, and nothing was overwritten", Place(str(existing[0])), advice=advice)
    )
