"""Writes the source of the site: `python docs/pages.py FOLDER`. `make docs` builds the site from it.

The pages of this folder and the files of the repository's root are copied; the API reference, the index of the errors
and the lists of names are written from the package itself. Everything is plain Markdown, whatever builds the site.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import flowconf
from flowconf.language.catalogue import SHELVES, CatalogueEntry, ranges
from flowconf.report import CODES

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MIRRORED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "tests/README.md": "tests.md",
    "benchmarks/README.md": "benchmarking.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the repository -> the pages that they become."""
SECTIONS = {
    "Loading, building and running": ("flowconf.api",),
    "Training from Python": ("flowconf.train.python", "flowconf.train.runs.finished"),
    "Graphs": ("flowconf.graph.graph", "flowconf.graph.weights.loading"),
    "Graphs written step by step": ("flowconf.graph.builder",),
    "Registering": ("flowconf.language.registry", "flowconf.train.objective.gradients"),
    "Losses and metrics of a project": ("flowconf.train.objective.losses", "flowconf.train.objective.metrics"),
    "Data sets": ("flowconf.train.data.splits", "flowconf.train.data.declarations"),
    "Callbacks": ("flowconf.train.callbacks.watched_run",),
    "Errors": ("flowconf.report",),
}
"""The sections of the API reference, with the modules that their names come from."""
FENCE = re.compile(r"^```(\w+) +([^\n]+)$", re.MULTILINE)
LINK = re.compile(r"(\]\(|src=\")(?!https?:|#)([^)\"#\s]+)")


def pages() -> dict[str, str]:
    """Every page of the site: its name -> its text."""
    docs = {file.relative_to(DOCS).as_posix(): file for file in sorted(DOCS.rglob("*.md"))}
    mirrored = {page: ROOT / file for file, page in MIRRORED.items()}
    copied = {page: _relinked(file, page) for page, file in {**docs, **mirrored}.items()}
    written = {"names.md": names(), "api.md": api(), "errors/index.md": errors()}
    return {name: FENCE.sub(_titled, text) for name, text in {**copied, **written}.items()}


def names() -> str:
    """Every name of every table, with its arguments: what `flowconf list` prints."""
    head = "# Names\n\nEvery name that a config can use. `flowconf list TABLE` adds those of your own project.\n"
    return "\n".join([head, *(_shelf(name) for name in SHELVES)])


def api() -> str:
    """The public names, by the modules that they come from."""
    parts = ["# Python API\n"]
    for title, homes in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_reference(flowconf._HOME_OF[n], n) for n in flowconf.__all__ if flowconf._HOME_OF[n] in homes]
    return "\n".join(parts)


def errors() -> str:
    """All codes, each with the page that shows it."""
    rows = "".join(f"| [{code}]({code}.md) | {meaning} |\n" for code, meaning in CODES.items())
    head = "# Errors\n\nThe code of a diagnostic leads here; `flowconf explain CODE` prints the same page.\n"
    return f"{head}\n| code | meaning |\n|---|---|\n{rows}"


def _reference(home: str, name: str) -> str:
    """What mkdocstrings replaces by the signature and docstring; written out for functions that a function made."""
    item = getattr(importlib.import_module(home), name)
    if "<locals>" in item.__qualname__:
        return f"### flowconf.{name}\n\n```python\n{name}{inspect.signature(item)}\n```\n\n{item.__doc__}\n"
    return f"::: {home}.{name}\n    options: {{heading: flowconf.{name}}}\n"


def _shelf(name: str) -> str:
    entries = SHELVES[name].entries()
    kinds = [f"`{kind}` is {meaning}." for kind, meaning in ranges(entries).items()]
    return "\n".join([f"## {name.capitalize()}\n\nUsed {SHELVES[name].use}.\n", *kinds, "", *_definitions(entries)])


def _definitions(entries: list[CatalogueEntry]) -> Iterator[str]:
    for entry in entries:
        yield f"`{entry.call}`\n:   {entry.summary or 'No description.'} From `{entry.module}`.\n"


def _relinked(file: Path, page: str) -> str:
    """The text of `page`, which is a file of the repository, with its links as the site has them."""

    def moved(link: re.Match[str]) -> str:
        target = (file.parent / link[2]).resolve().relative_to(ROOT).as_posix()
        return link[1] + os.path.relpath(MIRRORED.get(target, target.removeprefix("docs/")), Path(page).parent)

    return LINK.sub(moved, file.read_text(encoding="utf-8"))


def _titled(fence: re.Match[str]) -> str:
    """The head of a fenced block: what follows the language says what the tests do with it, and a name is its title."""
    words = fence[2].split()
    name = next((word for word in words if "." in word), None)
    return f"```{fence[1]}" + (f' title="{name}{" (refused)" if "refused" in words else ""}"' if name else "")


def main(folder: Path) -> None:
    """Write every page, and the pictures beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for picture in (*DOCS.glob("*.svg"), *DOCS.glob("*.png")):
        shutil.copy(picture, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
