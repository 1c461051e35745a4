"""The number of iterations of a loop: exactly one way to determine it, and only the keys that apply to it."""

from __future__ import annotations

from typing import NamedTuple

from flowconf.language import schema
from flowconf.report.origins import Path


class Wrong(NamedTuple):
    """An error of a loop or repeat, at one of its keys or at the step itself."""

    code: str
    message: str
    where: Path
    advice: str


def wrong_in(loop: schema.Loop, name: str) -> Wrong | None:
    """The error in the keys of the loop `name`, or None."""
    ways = {"times": loop.times, "over": loop.over, "while": loop.while_, "until": loop.until}
    given = [key for key, value in ways.items() if value is not None]
    if not given:
        advice = "write `times: ...`, or `until: ...` with `max: ...`"
        return Wrong("FC0122", f"the loop `{name}` requires one of `times`, `over`, `while` or `until`", (), advice)
    way = given[-1]
    if len(given) > 1:
        listed = " and ".join(f"`{key}`" for key in given)
        return Wrong("FC0122", f"{listed} of the loop `{name}` are mutually exclusive", (way,), "keep one of them")
    if loop.max is None and way in ("while", "until"):
        message = f"the loop `{name}` requires `max`, because `{way}` may never stop it"
        return Wrong("FC0122", message, (way,), "write `max: ...`")
    for key, means_nothing in (("max", way in ("times", "over")), ("dim", way != "over")):
        if means_nothing and getattr(loop, key) is not None:
            return Wrong("FC0125", f"`{key}` does not apply to a loop with `{way}`", (key,), "remove it")
    return None
