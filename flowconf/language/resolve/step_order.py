"""The order of steps: as declared, and by `after` and `before`."""

from __future__ import annotations

from collections.abc import Mapping

from flowconf.language.schema import Modifiers
from flowconf.report import Reporter, suggest
from flowconf.report.origins import Path


def ordered(flow: Mapping[str, object], path: Path, reporter: Reporter) -> list[str]:
    """The names of `flow` in the order in which they run.

    Steps with the same `after` (or `before`) keep their declared order.
    """
    placed = {name: _placement(name, step, flow, path, reporter) for name, step in flow.items()}
    order = [name for name, placement in placed.items() if placement is None]
    waiting = {name: placement for name, placement in placed.items() if placement is not None}
    while waiting:
        ready = [name for name, (_, target) in waiting.items() if target in order]
        if not ready:
            name, (key, target) = next(iter(waiting.items()))
            place = reporter.value((*path, "flow", name, key))
            message = f"circular order: `{name}` has `{key}: {target}`, whose position depends on `{name}`"
            reporter.error("FC0144", message, place, at=(*path, "flow", name))
            return [*order, *waiting]
        _insert(ready, waiting, order)
        for name in ready:
            del waiting[name]
    return order


def _insert(ready: list[str], waiting: Mapping[str, tuple[str, str]], order: list[str]) -> None:
    followers: dict[str, str] = {}
    for name in ready:
        key, target = waiting[name]
        if key == "after":
            order.insert(order.index(followers.get(target, target)) + 1, name)
            followers[target] = name
        else:
            order.insert(order.index(target), name)


def _placement(
    name: str, step: object, flow: Mapping[str, object], path: Path, reporter: Reporter
) -> tuple[str, str] | None:
    if not isinstance(step, Modifiers) or (step.after is None and step.before is None):
        return None
    at = (*path, "flow", name)
    if step.after is not None and step.before is not None:
        message = f"`{name}` has both `after` and `before`"
        reporter.error("FC0144", message, reporter.key((*at, "before")), at=at, advice="keep one of them")
        return None
    key = "after" if step.after is not None else "before"
    target = step.after or step.before
    assert target is not None
    if target not in flow or target == name:
        others = [other for other in flow if other != name]
        message = f"`{key}` of `{name}` refers to {'itself' if target == name else f'an unknown step `{target}`'}"
        place = reporter.value((*at, key))
        reporter.error("FC0144", message, place, at=at, advice=suggest(target, others, "steps"))
        return None
    return key, target
