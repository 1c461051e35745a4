"""Syntax errors of YAML: the line that is wrong, and what to write there.

The parser often stops after the mistake: at the key that follows a line with the wrong indentation, or far below a line
without its colon. The wrong line is found by correcting candidates and parsing again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from flowconf.report import Advice, Diagnostic, Label, Place, Suggestion, shortened
from flowconf.text import yaml_typos
from flowconf.text.source import Source

_PROBLEMS = (
    (r"\\t|tab character", "tab in the indentation", "indent with spaces: YAML does not allow tabs there"),
    ("mapping values are not allowed", "a key or `: ` is not allowed here",
     "quote a value that holds `: `, and check the indentation"),
    ("did not find expected key", "a key is not allowed here", "check the indentation and that quotes are closed"),
    ("expected <block end>|expected block end|<document start>|'<document start>'", "a key is not allowed here", None),
    ("expected ',' or '}'", "missing comma or `}`", None),
    (r"expected ',' or '\]'", "missing comma or `]`", None),
    ("unexpected end of stream", "unclosed quote", "close the quote"),
    ("could not find expected ':'", "expected `key: value`", "write `key: value`"),
    ("expected node content", "missing value", None),
    ("cannot start any token", "a value cannot begin with this character",
     "quote a value that begins with this character"),
)  # fmt: skip
"""Messages of the parser, with the cause and what to do."""

_OF_LINES = "mapping values are not allowed|expected key|block end|<document start>|expected '-' indicator"
"""Reports that an earlier line may have caused."""

_CONTENT = re.compile(r"\s*[^\s#]")
_KEY = re.compile(r"\s*(?:- +)*([^\s:#-][^:#]*?)\s*:(?:\s|$)")
_RUN_ON = re.compile(r"\s*(?:- +)*(\w+):([^\s:].*)")
STEP = 2
"""Spaces by which a member is indented, where the rest of the text does not show otherwise."""
NEAR = 30
"""Lines around a place that are considered."""
MOST_READ = 300_000
"""The most characters that are parsed again."""


def syntax_error(source: Source, error: yaml.YAMLError, is_inside: bool) -> Diagnostic:
    """The mistake (FC0002) at which parsing stopped. `is_inside`: between braces or brackets."""
    problem = str(getattr(error, "problem", None) or error).replace("\n", " ")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = source.place(mark.index if mark is not None else 0)
    line = source.line(mark.index) if mark is not None else ""
    inside = is_inside or re.search(r"[\[{].*\$\{", line)
    if "\t" in problem or "tab character" in problem or line.lstrip(" ").startswith("\t"):
        return _diagnostic(_PROBLEMS[0][1], replace(place, length=1), _PROBLEMS[0][2])
    known = (one for one in _PROBLEMS if re.search(one[0], problem))
    _, words, advice = next(known, ("", problem, None))
    if "${" in line and inside and "expected" in problem:
        advice = 'inside { } or [ ], quote a value that holds `${...}`: `"${width}"`'
    else:
        begin = getattr(getattr(error, "context_mark", None), "line", place.line - 1)
        found = None if mark is None or is_inside else _line_at_fault(source, problem, place.line, begin)
        if found is not None:
            return found
    if "could not find expected ':'" in problem and (run_on := _RUN_ON.match(line)):
        advice = f"add a space after the colon: `{run_on[1]}: {run_on[2].rstrip()}`"
    begun, labels = _begun(source, error), list[Label]()
    if begun is not None and begun.line < place.line:
        is_end = place.line > len(source.text.rstrip().split("\n"))
        labels = [] if is_end else [Label("still open here", place)]
        place = begun
    column = mark.column if mark is not None and place.line == mark.line + 1 else None
    typo = yaml_typos.find(problem, line, column) if column is not None else None
    if typo is not None:
        start = source.offset(place.line, 1) + typo.start
        return _diagnostic(typo.words, source.place(start, start + typo.length), typo.advice)
    return _diagnostic(words, place, advice, labels=tuple(labels))


def _line_at_fault(source: Source, problem: str, stop: int, begin: int) -> Diagnostic | None:
    """The error in a line up to line `stop` (from 1), where parsing stops; `begin` (from 0) opens its mapping."""
    if len(source.text) > MOST_READ:
        return None
    found = _without_colon(source, stop) if re.search(f"{_OF_LINES}|find expected ':'", problem) else None
    return found or (_misindented(source, stop, begin) if re.search(_OF_LINES, problem) else None)


def _diagnostic(words: str, place: Place, advice: Advice | None, **more: Any) -> Diagnostic:
    return Diagnostic("FC0002", f"not valid YAML: {words}", place, advice=advice, **more)


def _begun(source: Source, error: yaml.YAMLError) -> Place | None:
    """Where the quote, bracket or key begins whose end is missing."""
    context, mark = str(getattr(error, "context", None)), getattr(error, "context_mark", None)
    if mark is None or not re.search("quoted scalar|flow |simple key", context):
        return None
    rest = source.line(mark.index)[mark.column :].split(" #")[0] if "simple key" in context else "x"
    return source.place(mark.index, mark.index + len(rest.rstrip()))


def _without_colon(source: Source, stop: int) -> Diagnostic | None:
    """A line above line `stop` (from 1) without its colon or the space after it: up to `stop` all is one value."""
    lines = source.text.rstrip().split("\n")[:stop]
    above = [n for n in range(max(0, stop - NEAR), stop - 1) if _CONTENT.match(lines[n])]
    first = None
    while above and not _KEY.match(lines[above[-1]]):
        first = above.pop()
    goes_on = stop <= len(lines) and _KEY.match(lines[stop - 1]) is None
    if first is None or goes_on or _is_entry(lines[first]):
        return None
    text = lines[first].split(" #")[0].strip()
    start = source.offset(first + 1, _indent(lines[first]) + 1)
    place = source.place(start, start + len(text))
    if run_on := _RUN_ON.match(text):
        mended = f"{run_on[1]}: {run_on[2]}"
        return _diagnostic(
            f"missing space after the colon in `{shortened(text)}`", place, Suggestion(mended, instead_of=text)
        )
    return _diagnostic(f"missing `: ` in `{shortened(text)}`", place, "write `key: value`")


def _misindented(source: Source, stop: int, begin: int) -> Diagnostic | None:
    """The line up to line `stop` (from 1) whose indentation, once corrected, makes the text parse.

    Of several such lines it is the one that leaves the most regular text, that is then where a member is expected, and
    that is right above `stop`, or near it; of several indentations of it, the nearest one, that of the line above. Line
    `begin` (from 0) is where the mapping around `stop` begins.
    """
    lines = source.text.rstrip().split("\n")[: stop + NEAR]
    stop = min(stop, len(lines))
    found: list[tuple[int, bool, bool, int, int, tuple[int, bool], int]] = []
    tries = iter(range(MOST_READ // (1 + sum(map(len, lines)))))
    for n in sorted({min(begin, stop - 1), *_suspects(lines, stop)}, reverse=True):
        if _is_entry(lines[n]) and not _is_entry(lines[stop - 1]):
            continue
        above = next((line for line in reversed(lines[:n]) if _CONTENT.match(line)), "")
        for indent in _other_indents(lines, n):
            if next(tries, None) is None:
                break
            mended = [*lines[:n], " " * indent + lines[n].lstrip(), *lines[n + 1 :]]
            if _is_readable("\n".join(mended)):
                away = stop - 1 - n
                near = abs(indent - _indent(lines[n])), indent != _indent(above)
                found.append((_irregular(mended), not _fits(lines[:n], indent), away != 1, away, n, near, indent))
    if not found:
        return None
    *_, n, _, indent = min(found)
    own, key = _indent(lines[n]), _KEY.match(lines[n])
    name = shortened(key[1] if key else lines[n].strip())
    start = source.offset(n + 1, own + 1)
    labels = (Label("parsing stops here", _of_line(source, stop)),) if stop != n + 1 else ()
    words = f"`{name}` is indented by {_spaces(own)}, expected {indent}"
    return _diagnostic(words, source.place(start, start + len(name)), f"indent it by {_spaces(indent)}", labels=labels)


def _of_line(source: Source, line: int) -> Place:
    text = source.line(source.offset(line, 1))
    key, start = _KEY.match(text), source.offset(line, _indent(text) + 1)
    return source.place(start, start + len(key[1] if key else text.strip()))


def _spaces(count: int) -> str:
    return "1 space" if count == 1 else f"{count} spaces"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _suspects(lines: Sequence[str], stop: int) -> list[int]:
    """The lines that may keep line `stop` (from 1) from being parsed: those right above it, and its owners."""
    content = [n for n, line in enumerate(lines[:stop]) if _CONTENT.match(line)]
    owners = [n for _, n in _levels(lines[: stop - 1])]
    return [*content[-5:], *owners]


def _other_indents(lines: Sequence[str], n: int) -> list[int]:
    """Indentations that line `n` could have: none, those of the lines around it, and a step deeper than one above."""
    around = [_indent(line) for line in lines[max(0, n - NEAR) : n + 2] if _CONTENT.match(line)]
    wanted = {0, *around, *(level + STEP for level, _ in _levels(lines[:n])[-1:])} - {_indent(lines[n])}
    return sorted(wanted, key=lambda indent: abs(indent - _indent(lines[n])))


def _levels(lines: Sequence[str]) -> list[tuple[int, int]]:
    """The indentations that are open after `lines`, and the last line of each; the outermost first."""
    levels: list[tuple[int, int]] = []
    for n, line in enumerate(lines):
        if _CONTENT.match(line):
            while levels and levels[-1][0] >= _indent(line):
                levels.pop()
            levels.append((_indent(line), n))
    return levels


def _fits(above: Sequence[str], indent: int) -> bool:
    """Whether a member is expected at `indent` after the lines `above`."""
    levels = _levels(above)
    if levels and _is_hollow(above[levels[-1][1]]):
        return indent == levels[-1][0] + STEP
    return any(indent == level for level, _ in levels)


def _is_entry(line: str) -> bool:
    return line.lstrip().startswith("- ")


def _is_hollow(line: str) -> bool:
    return line.split(" #")[0].rstrip().endswith(":")


def _irregular(lines: Sequence[str]) -> int:
    """How many lines are not one step deeper than their owner, or have neither members nor a value."""
    levels, count, is_empty = [-STEP], 0, False
    for line in lines:
        if _CONTENT.match(line):
            indent = _indent(line)
            count += is_empty and indent <= levels[-1] and not _is_entry(line)
            while levels[-1] > indent:
                levels.pop()
            if levels[-1] < indent:
                count += indent != levels[-1] + STEP
                levels.append(indent)
            is_empty = _is_hollow(line)
    return count


def _is_readable(text: str) -> bool:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        while loader.check_event():
            loader.get_event()
    except yaml.YAMLError:
        return False
    finally:
        loader.dispose()
    return True
