"""Diagnostics as plain sentences, JSON lines and GitHub annotations."""

from __future__ import annotations

from collections.abc import Sequence

from flowconf.report.diagnostic import Diagnostic
from flowconf.report.places import Place, shown_path
from flowconf.report.streams import json_line
from flowconf.report.wording import printable


def as_dict(diagnostic: Diagnostic) -> dict[str, object]:
    """The diagnostic as plain data, as `--format json` prints it."""

    def position(place: Place) -> dict[str, object]:
        known = place.file is not None and place.line > 0
        return {
            "file": shown_path(place.file) if place.file is not None else None,
            "line": place.line if known else None,
            "column": place.column if known else None,
        }

    fix = diagnostic.fix
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": _with_word(diagnostic),
        **position(diagnostic.place),
        "path": diagnostic.path,
        "labels": [{"message": label.message, **position(label.place)} for label in diagnostic.labels],
        "help": diagnostic.help,
        "fix": fix and {**position(fix.place), "length": fix.place.length, "text": fix.text},
    }


def _with_word(diagnostic: Diagnostic) -> str:
    """The message, with the word of the command line that it is about."""
    word = diagnostic.place.word
    return f"{diagnostic.message} (on the command line: {printable(word)})" if word else diagnostic.message


def render_json(diagnostics: Sequence[Diagnostic]) -> str:
    """One JSON object per line."""
    return "".join(json_line(as_dict(d)) + "\n" for d in diagnostics)


def render_github(diagnostics: Sequence[Diagnostic]) -> str:
    """GitHub annotations, shown next to the changed lines."""

    def escaped(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    lines = []
    for d in diagnostics:
        where = ""
        if d.place.file is not None:
            file = escaped(printable(shown_path(d.place.file))).replace(":", "%3A").replace(",", "%2C")
            where = f" file={file},line={d.place.line or 1},col={d.place.column or 1}"
        text = _with_word(d) + (f"; {d.help}" if d.help else "")
        level = "error" if d.severity == "error" else "warning"
        lines.append(f"::{level}{where}::{escaped(f'{d.code}: {text}')}\n")
    return "".join(lines)


def render_plain(diagnostics: Sequence[Diagnostic]) -> str:
    """Text without source excerpts: for logs and screen readers."""
    lines = []
    for d in diagnostics:
        lines.append(f"{d.place}: {d.severity} {d.code}: {d.message}")
        lines += [f"  {label.place}: {label.message}" for label in d.labels]
        if d.help:
            lines.append(f"  help: {d.help}")
    return "".join(line + "\n" for line in lines)
