"""The values that a sweep tries for one key: a list of them, or an interval, in Hydra's grammar of sweeps."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowconf.report import ConfigError, Diagnostic, Label, Place, Reporter, Suggestion
from flowconf.report.origins import Node, Path, dotted
from flowconf.text import overrides
from flowconf.text.overrides import word_of
from flowconf.text.write import inline

FORMS = (
    "write a list of values, `interval(1e-4, 1e-1)`, `tag(log, interval(1e-4, 1e-1))` for a logarithmic scale, "
    "or `range(16, 129, 16)`"
)
UNKNOWN = ("FC0101", "FC0102", "FC0121", "FC0133")
"""The codes of keys that do not exist."""
_LIKE_LOG = re.compile(r"(?:log|loguniform|log_uniform|loginterval)\((.*)\)")
_LIKE_INTERVAL = re.compile(r"(?:uniform|float|interval|between)\((.*)\)")


@dataclass(frozen=True)
class Range:
    """The values of one key: `choices`, as they are written in a word, or numbers from `low` to `high`.

    The numbers are whole if both limits are; with a `step`, they are `low`, `low + step`, and so on.
    """

    key: str
    place: Place
    choices: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    """The places of the choices."""
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def word(self, value: object) -> str:
        """The override that sets the key to a choice or a number."""
        return f"{self.key}={value if isinstance(value, str) else repr(value)}"

    def value(self, words: Sequence[str]) -> str | float | None:
        """The value that the key has in `words`, as `word` has written it; None without such a word."""
        text = next((word[len(self.key) + 1 :] for word in words if word.startswith(f"{self.key}=")), None)
        if text is None or self.choices:
            return text if text in self.choices else None
        try:
            value = int(text) if self.is_whole else float(text)
        except ValueError:
            return None
        return value if self.low <= value <= self.high else None

    def ends(self) -> list[tuple[object, Place]]:
        """The choices, or the limits, and where each was written."""
        if self.choices:
            return list(zip(self.choices, self.places, strict=True))
        return [(self.low, self.place), (self.high, self.place)]


def divided(words: Sequence[str], reporter: Reporter) -> tuple[list[str], list[Range]]:
    """The words with one value, and the ranges of the others; those that only a grid can try are reported.

    Raises `ConfigError` for words that cannot be read.
    """
    plain, ranges = list[str](), list[Range]()
    for one in overrides.parse(words):
        if one.parsed.is_sweep_override():
            found = _range_of(one.parsed, str(one.parsed.get_key_element()), one.place, reporter)
            ranges += [] if found is None else [found]
        else:
            plain.append(one.typed)
    return plain, ranges


def ranges_in(section: Node, path: Path, reporter: Reporter) -> list[Range]:
    """The ranges of a mapping of keys to lists and texts; what is wrong is reported."""
    found = [
        _written(str(key), node, (*path, key), reporter) for key, node in section.members() if node.value is not None
    ]
    return [one for one in found if one is not None]


def _written(key: str, node: Node, path: Path, reporter: Reporter) -> Range | None:
    if isinstance(node.value, list):
        if not node.value:
            reporter.error("FC0123", f"`{key}` has no values to try", node.place, path=dotted(path), advice=FORMS)
            return None
        try:
            choices = tuple(_text(item.plain()) for item in node.value)
        except TypeError:
            message, advice = f"a value of `{key}` is a mapping", "write its keys below `over`, one by one"
            reporter.error("FC0123", message, node.place, path=dotted(path), advice=advice)
            return None
        return Range(key, node.place, choices, tuple(item.place for item in node.value))
    text = node.value if isinstance(node.value, str) else inline(node.plain())
    try:
        (word,) = overrides.parse([f"{key}={text}"])
    except (ConfigError, ValueError):
        message = f"`{text}` cannot be read as values of `{key}`"
        reporter.error("FC0123", message, node.place, path=dotted(path), advice=_advice(text))
        return None
    if not word.parsed.is_sweep_override():
        message = f"`{text}` is one value of `{key}`"
        reporter.error("FC0123", message, node.place, path=dotted(path), advice=_advice(text))
        return None
    return _range_of(word.parsed, key, node.place, reporter)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        raise TypeError
    return word_of("", value).removeprefix("=")


def _advice(text: str) -> str:
    for pattern, form in ((_LIKE_LOG, "tag(log, interval({}))"), (_LIKE_INTERVAL, "interval({})")):
        if (found := pattern.fullmatch(text.strip())) is not None:
            return f"write `{form.format(found[1])}`"
    return FORMS


def _range_of(parsed: Any, key: str, place: Place, reporter: Reporter) -> Range | None:
    """The range of a parsed sweep override."""
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep

    swept = parsed._value
    if isinstance(swept, RangeSweep) and not swept.shuffle:
        assert swept.start is not None
        assert swept.stop is not None
        steps = (swept.stop - swept.start) / swept.step if swept.step > 0 else 0
        count = math.ceil(steps) if math.isfinite(steps) else 0
        if count > 0:
            return Range(key, place, low=swept.start, high=swept.start + (count - 1) * swept.step, step=swept.step)
    elif isinstance(swept, IntervalSweep):
        assert swept.start is not None
        assert swept.end is not None
        log = "log" in swept.tags
        if swept.start < swept.end and (swept.start > 0 or not log):
            return Range(key, place, low=swept.start, high=swept.end, log=log)
        message = f"the interval from `{swept.start:g}` to `{swept.end:g}` of `{key}` is empty"
        if swept.start < swept.end:
            message = f"the logarithmic interval of `{key}` begins at `{swept.start:g}`, which is not above 0"
        reporter.error("FC0123", message, place, path=key, advice="write the smaller limit first" if not log else FORMS)
        return None
    elif isinstance(swept, ChoiceSweep) and not swept.shuffle:
        choices = tuple(parsed.sweep_string_iterator())
        return Range(key, place, choices, (place,) * len(choices))
    reporter.error("FC0123", f"`{key}` has no values that a search can try", place, path=key, advice=FORMS)
    return None


def moved(error: ConfigError, word: str, place: Place, name: Place) -> list[Diagnostic]:
    """The diagnostics of a config with `word`, at the place of the value that it was made from.

    What is wrong with the key itself is at `name`, its place.
    """
    found = []
    for one in error.diagnostics:
        at = name if one.code in UNKNOWN else place
        advice = one.advice
        if isinstance(advice, Suggestion) and advice.instead_of == word and name.word is None:
            advice = Suggestion(advice.write.partition("=")[0], word.partition("=")[0])
        labels = tuple(Label(label.message, at if label.place.word == word else label.place) for label in one.labels)
        found.append(replace(one, place=at if one.place.word == word else one.place, labels=labels, advice=advice))
    return found
