"""How often a loop runs: it says so in one way, and nothing that means nothing for that way."""

from __future__ import annotations

from typing import NamedTuple

from flowconf.language import schema


class Wrong(NamedTuple):
    """A mistake at a `key` of the loop, or at the loop itself."""

    code: str
    message: str
    key: str | None
    advice: str


def wrong_in(loop: schema.Loop, name: str) -> Wrong | None:
    """What is wrong with the keys of the loop called `name`."""
    ways = {"times": loop.times, "over": loop.over, "while": loop.while_, "until": loop.until}
    given = [key for key, value in ways.items() if value is not None]
    if not given:
        advice = "write `times: ...`, or `until: ...` with `max: ...`"
        return Wrong("FC0122", f"the loop `{name}` does not say how often", None, advice)
    way = given[-1]
    if len(given) > 1:
        listed = " and ".join(f"`{key}`" for key in given)
        return Wrong("FC0122", f"the loop `{name}` has {listed}", way, "keep one of them")
    if loop.max is None and way in ("while", "until"):
        return Wrong(
            "FC0122", f"the loop `{name}` needs `max`, since `{way}` may never stop it", way, "write `max: ...`"
        )
    for key, means_nothing in (("max", way in ("times", "over")), ("dim", way != "over")):
        if means_nothing and getattr(loop, key) is not None:
            return Wrong("FC0125", f"`{key}` means nothing for a loop with `{way}`", key, "remove it")
    return None
