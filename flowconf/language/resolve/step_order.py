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
    beside: dict[tuple[str, str] | None, list[str]] = {}
    for name, placement in placed.items():
        beside.setdefault(placement, []).append(name)
    order: dict[str, None] = {}
    pending = [(name, False) for name in reversed(beside.get(None, []))]
    while pending:
        name, is_next = pending.pop()
        if is_next:
            order[name] = None
            continue
        before, after = (beside.get((key, name), []) for key in ("before", "after"))
        around = [*((other, False) for other in before), (name, True), *((other, False) for other in after)]
        pending += reversed(around)
    left = {name: placement for name, placement in placed.items() if placement is not None and name not in order}
    for name, (key, target) in [*left.items()][:1]:
        place = reporter.value((*path, "flow", name, key))
        message = f"circular order: `{name}` has `{key}: {target}`, whose position depends on `{name}`"
        reporter.error("FC0144", message, place, at=(*path, "flow", name))
    return [*order, *left]


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
