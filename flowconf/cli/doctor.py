"""`flowconf doctor`: what a bug report needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowconf.cli.arguments import Form, FormOption
from flowconf.report import MachineError, json_line, printable


def doctor(form: FormOption = Form.TEXT) -> None:
    """Print versions, devices, project and plug-ins for a bug report. Exits with 3 if something is missing."""
    from flowconf.train.doctor import examine

    found = examine(Path.cwd())
    print(json_line(found.as_data()) if form is Form.JSON else "\n".join(_lines(found.findings)))
    if found.problems:
        sys.stdout.flush()
        raise MachineError(*found.problems)


def _lines(found: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in found.items():
        name = printable(str(key))
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {_text(value)}"


def _text(value: Any) -> str:
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(", ".join(map(str, value)) if isinstance(value, list) else str(value))
