"""Mistakes as data: what is wrong, where, who the other party is, and what to write instead.

A `Diagnostic` is made where a mistake is found and rendered once, at the edge, by one of the four
renderers at the end of this file. This module imports nothing else of flowconf.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

CODES: dict[str, str] = {
    # text
    "FC0001": "the file cannot be read",
    "FC0002": "the text is not valid YAML or TOML",
    "FC0003": "a key stands twice in one mapping",
    "FC0004": "a YAML tag is refused",
    "FC0005": "an alias expands too far or contains itself",
    "FC0006": "the text is nested too deeply or holds too many values",
    "FC0007": "a call was cut at a comma inside braces or brackets",
    "FC0008": "a value is text in YAML 1.2 but looks like something else",
    "FC0009": "an interpolation cannot be resolved",
    # composition
    "FC0101": "a config group or one of its options does not exist",
    "FC0102": "an override names a key that does not exist",
    "FC0103": "an override cannot be parsed",
    "FC0104": "the defaults list is not usable",
    "FC0105": "a graph file or group cannot be found",
    "FC0106": "files or graphs include each other in a circle",
    "FC0107": "a config group replaces what the main file says",
    # keys and types
    "FC0121": "an unknown key",
    "FC0122": "a required key is missing",
    "FC0123": "a value has the wrong type or is out of range",
    "FC0124": "a step needs exactly one verb",
    "FC0125": "a key that means nothing for this verb",
    "FC0126": "a name that cannot be used",
    # calls and names
    "FC0131": "a call cannot be parsed",
    "FC0132": "an unknown module",
    "FC0133": "an argument does not fit the module's signature",
    "FC0134": "an unknown parameter in a call",
    # references and structure
    "FC0141": "a reference to a name that does not exist",
    "FC0142": "a name is used twice",
    "FC0143": "a reference that no module argument takes",
    "FC0144": "the flow has no place for this member",
    "FC0145": "this needs more branches",
    "FC0146": "a module without a source of its own",
    "FC0147": "an input of a graph that nothing fills",
    "FC0148": "a forward pass cannot go on",
    "FC0149": "a parameter or input that nothing uses",
    # shapes
    "FC0201": "sizes do not fit",
    "FC0202": "a module cannot be built from its arguments",
    "FC0203": "branches of different shapes cannot be merged",
    "FC0204": "an inferred size has nothing to be inferred from",
    "FC0205": "a loop's body changes the shape it is given",
    "FC0206": "an input does not have the shape it declares",
    "FC0207": "an initial value does not fit its parameter",
    "FC0208": "a member that no exported program can hold",
    # weights
    "FC0301": "a checkpoint cannot be found or read",
    "FC0302": "nothing in a checkpoint matches",
    "FC0303": "tensors are missing from a checkpoint",
    "FC0304": "tensors in a checkpoint are not used",
    "FC0305": "a tensor has another shape in the checkpoint",
    "FC0306": "a checkpoint is not the file it should be",
    # training
    "FC0401": "an unknown loss, metric, optimizer or schedule",
    "FC0402": "a loss or metric refers to something that does not exist",
    "FC0403": "nothing is left to train",
    "FC0404": "stages wait for each other in a circle",
    "FC0405": "an optimizer group or path names nothing",
    "FC0406": "a loss or metric cannot be computed of these values",
    "FC0407": "a member that nothing needs",
    "FC0408": "parameters that no term of the loss trains",
    "FC0409": "a frozen part whose weights come from nowhere",
    "FC0410": "a setting that changes nothing",
    # data
    "FC0501": "an unknown data set or argument",
    "FC0502": "the data set and the graph do not fit",
    # environment and runs
    "FC0601": "something the machine lacks",
    "FC0701": "a path that does not exist in the graph",
    "FC0702": "a run failed",
}
"""Every code, with the one line that says what it stands for."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: a position in a file, or a word of the command line.

    `line` and `column` start at 1, and 0 means unknown. `length` is in characters.
    """

    file: str | None = None
    line: int = 0
    column: int = 0
    length: int = 1
    word: str | None = None

    def __str__(self) -> str:
        if self.file is None:
            return f"command line, `{printable(self.word)}`" if self.word else "<python>"
        shown = printable(shown_path(self.file))
        return f"{shown}:{self.line}:{self.column}" if self.line else shown


NOWHERE = Place()

AND_HERE = "and here"
"""The label of a further place of one mistake."""

FEW = 12
"""So many names are listed of a set that is too large to be listed whole."""

MOST = 100
"""So many mistakes are told at once: more would not be read."""


@dataclass(frozen=True, slots=True)
class Label:
    """Another place that takes part in a mistake, and what it says there."""

    message: str
    place: Place

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message))


@dataclass(frozen=True, slots=True)
class Fix:
    """The one text that mends a mistake, to be written over `place`."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake. `path` is the label path or config key it concerns."""

    code: str
    message: str
    place: Place = NOWHERE
    path: str = ""
    labels: tuple[Label, ...] = ()
    help: str | None = None
    fix: Fix | None = None
    severity: str = "error"
    lacks: str = ""
    """The name that stands for nothing, where that is the mistake."""

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code
        object.__setattr__(self, "message", printable(self.message))
        object.__setattr__(self, "help", self.help and printable(self.help))


class FlowconfError(ValueError):
    """Every refusal that a user can cause; `diagnostics` holds what is wrong.

    `unchecked` are paths of members of which nothing can be said because of it.
    """

    exit_code = 1
    unchecked: tuple[str, ...] = ()

    def __init__(self, *diagnostics: Diagnostic) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = diagnostics
        super().__init__(render_text(diagnostics))

    def __reduce__(self) -> tuple[type[FlowconfError], tuple[Diagnostic, ...], dict[str, object]]:
        return type(self), self.diagnostics, {"unchecked": self.unchecked}


class ConfigError(FlowconfError):
    """The config is wrong."""

    exit_code = 2


class PathError(FlowconfError):
    """A path that names nothing in the graph tree."""

    exit_code = 2


class StepError(FlowconfError):
    """A forward pass that cannot go on."""


class RunError(FlowconfError):
    """A run that cannot start or go on."""


class MachineError(FlowconfError):
    """Something that the machine lacks: a package, a program, a device."""

    exit_code = 3


@dataclass
class Collector:
    """Gathers the diagnostics of one stage, so that all are told at once."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    """Paths of members that could not be checked because of what is wrong."""
    repeated: int = 0
    """How many mistakes went into others."""

    def error(self, code: str, message: str, place: Place = NOWHERE, **more: object) -> None:
        """Note one mistake; `more` are the remaining fields of `Diagnostic`."""
        self.diagnostics.append(Diagnostic(code, message, place, **more))  # type: ignore[arg-type]

    def warn(self, code: str, message: str, place: Place = NOWHERE, **more: object) -> None:
        """Note something that is probably not what the user meant."""
        self.error(code, message, place, severity="warning", **more)

    def repeats(self, code: str, message: str, place: Place) -> bool:
        """Whether the same was told of another place; `place` is then added to it."""
        for index, known in enumerate(self.diagnostics):
            if (known.code, known.message) == (code, message) and known.place != place:
                if all(label.place != place for label in known.labels):
                    self.diagnostics[index] = replace(known, labels=(*known.labels, Label(AND_HERE, place)))
                self.repeated += 1
                return True
        return False

    def lacks(self, name: str, code: str, message: str, place: Place, **more: object) -> None:
        """Note a name that stands for nothing: one mistake, however often it is written."""
        if not self.repeats(code, message, place):
            self.error(code, message, place, lacks=name, **more)

    @property
    def noted(self) -> int:
        """How many mistakes were noted, also those that are told only once."""
        return len(self.errors) + self.repeated

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "error")

    def stop_on_errors(self) -> None:
        """Raise `ConfigError` when anything so far is an error."""
        if self.errors:
            error = ConfigError(*self.told_once())
            error.unchecked = tuple(dict.fromkeys(self.unchecked))
            raise error

    def told_once(self) -> list[Diagnostic]:
        """One diagnostic for each code and place, no warning where an error stands, and at most `MOST`."""
        wrong = {d.place for d in self.errors if _is_exact(d.place)}
        kept: dict[object, Diagnostic] = {}
        for d in self.diagnostics:
            if d.severity == "error" or d.place not in wrong:
                kept.setdefault((d.code, d.place) if _is_exact(d.place) else (d.code, d.message), d)
        return (
            sorted(kept.values(), key=lambda d: d.severity != "error")[:MOST] if len(kept) > MOST else [*kept.values()]
        )


def _is_exact(place: Place) -> bool:
    return place.line > 0 or place.word is not None


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name closest to `name`, or None when none is close."""
    return _nearest(name, tuple(allowed))


@lru_cache(maxsize=512)
def _nearest(name: str, options: tuple[str, ...]) -> str | None:
    folded = {option.lower(): option for option in reversed(options)}
    found = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def suggest(name: str, allowed: Iterable[str], what: str = "names", most: int = 40) -> str | None:
    """The help for an unknown name: the nearest allowed one, else the list of them."""
    options = list(dict.fromkeys(allowed))
    close = nearest(name, options)
    if close is not None:
        return f"write `{close}`"
    if not options:
        return None
    shown = options if len(options) <= most else options[: min(most, FEW)]
    more = f" and {len(options) - len(shown)} more" if len(shown) < len(options) else ""
    return f"the {what} here are {', '.join(f'`{option}`' for option in shown)}{more}"


def printable(text: str) -> str:
    """A text in one line that does nothing to a terminal: line ends, control and direction characters are escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shown_path(file: str) -> str:
    """A path as a person at this terminal would write it."""
    if not Path(file).is_absolute():
        return file
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative


def of_system(problem: OSError) -> Diagnostic:
    """What the operating system refuses, such as a file that must not be read, at the file."""
    if problem.filename is None:
        return Diagnostic("FC0601", why_not(problem))
    file = os.fsdecode(problem.filename) if isinstance(problem.filename, str | bytes) else str(problem.filename)
    return Diagnostic("FC0601", f"`{shown_path(file)}`: {why_not(problem)}", Place(file))


def why_not(problem: OSError) -> str:
    """Why the operating system refuses something, in its words: `permission denied`."""
    return (problem.strerror or str(problem)).lower()


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
    """The message, with the word it is about where there is no file to name."""
    word = diagnostic.place.word
    return f"{diagnostic.message} (on the command line: {word})" if word else diagnostic.message


def render_json(diagnostics: Sequence[Diagnostic]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(as_dict(d), ensure_ascii=False) + "\n" for d in diagnostics)


def render_github(diagnostics: Sequence[Diagnostic]) -> str:
    """Annotations that GitHub shows beside the changed lines."""

    def escaped(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    lines = []
    for d in diagnostics:
        where = ""
        if d.place.file is not None:
            file = escaped(shown_path(d.place.file)).replace(":", "%3A").replace(",", "%2C")
            where = f" file={file},line={d.place.line or 1},col={d.place.column or 1}"
        text = _with_word(d) + (f"; {d.help}" if d.help else "")
        level = "error" if d.severity == "error" else "warning"
        lines.append(f"::{level}{where}::{escaped(f'{d.code}: {text}')}\n")
    return "".join(lines)


def render_plain(diagnostics: Sequence[Diagnostic]) -> str:
    """Sentences without drawing: for logs, and to be read aloud."""
    lines = []
    for d in diagnostics:
        lines.append(f"{d.place}: {d.severity} {d.code}: {d.message}")
        lines += [f"  {label.place}: {label.message}" for label in d.labels]
        if d.help:
            lines.append(f"  help: {d.help}")
    return "".join(line + "\n" for line in lines)


def render_text(diagnostics: Sequence[Diagnostic], colour: bool = False) -> str:
    """Windows on the source with the places marked, as compilers draw them."""
    return "\n\n".join(_window(d, _Paint(colour)) for d in diagnostics)


def wants_colour(stream: object = None) -> bool:
    """Whether `stream` (default: standard error) is a terminal that wants colour."""
    stream = sys.stderr if stream is None else stream
    is_terminal = getattr(stream, "isatty", lambda: False)
    return not os.environ.get("NO_COLOR") and bool(is_terminal())


@dataclass(frozen=True)
class _Paint:
    on: bool

    def __call__(self, text: str, style: str) -> str:
        styles = {"error": "1;31", "warning": "1;33", "bold": "1", "frame": "34", "help": "36"}
        return f"\x1b[{styles[style]}m{text}\x1b[0m" if self.on else text


def _window(d: Diagnostic, paint: _Paint) -> str:
    out = [f"{paint(f'{d.severity}[{d.code}]', d.severity)}: {paint(d.message, 'bold')}"]
    marks = [(d.place, "", "^")] + [(label.place, label.message, "-") for label in d.labels]
    drawn = [mark for mark in marks if _is_readable(mark[0])]
    width = len(str(max((place.line for place, _, _ in drawn), default=0)))
    if marks[0] not in drawn and d.place != NOWHERE:
        out.append(f"{' ' * width}{paint('-->', 'frame')} {d.place}")
    for file in dict.fromkeys(place.file for place, _, _ in drawn if place.file is not None):
        here = [mark for mark in drawn if mark[0].file == file]
        arrow = "-->" if here[0] is marks[0] else ":::"
        out.append(f"{' ' * width}{paint(arrow, 'frame')} {here[0][0]}")
        out += _excerpt(file, here, width, paint)
    for mark in marks[1:]:
        if mark not in drawn:
            where = f" ({mark[0]})" if mark[0] != NOWHERE else ""
            out.append(f"{' ' * width} {paint('=', 'frame')} note: {mark[1]}{where}")
    if d.help:
        out.append(f"{' ' * width} {paint('=', 'frame')} {paint('help', 'help')}: {d.help}")
    return "\n".join(out)


def _is_readable(place: Place) -> bool:
    """Whether the line of `place` can be shown."""
    return place.file is not None and 0 < place.line <= len(_source_lines(place.file))


def _excerpt(file: str, marks: list[tuple[Place, str, str]], width: int, paint: _Paint) -> list[str]:
    text = _source_lines(file)
    bar = paint("|", "frame")
    out = [f"{' ' * width} {bar}"]
    previous = None
    for place, message, sign in sorted(marks, key=lambda mark: (mark[0].line, mark[2] != "^")):
        if previous is not None and place.line > previous + 1:
            out.append(f"{' ' * width} {paint(':', 'frame')}")
        source = text[place.line - 1]
        column = min(place.column, len(source) + 1)
        if place.line != previous:
            out.append(f"{paint(str(place.line).rjust(width), 'frame')} {bar} {source}".rstrip())
        room = max(len(source) - column + 1, 1)
        underline = sign * max(1, min(place.length, room))
        style = "error" if sign == "^" else "help"
        out.append(f"{' ' * width} {bar} {' ' * (column - 1)}{paint(f'{underline} {message}'.rstrip(), style)}")
        previous = place.line
    return out


def _source_lines(file: str) -> tuple[str, ...]:
    """The lines of a file as it is now; a file that has changed since is read again."""
    try:
        known = Path(file).stat()
    except (OSError, ValueError):
        return ()
    return _read_lines(file, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=64)
def _read_lines(file: str, changed: int, size: int) -> tuple[str, ...]:
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    lines = (line.replace("\t", " ").rstrip("\r")[:400] for line in text.split("\n"))
    return tuple("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)
