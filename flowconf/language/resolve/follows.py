"""Members that follow others: `follows: {path: student, decay: 0.996}`, resolved to the modules that they follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flowconf.language import references, schema
from flowconf.language.paths import above, by_path
from flowconf.language.references import NotFound
from flowconf.language.resolve.draft import Draft
from flowconf.language.settings import Follow
from flowconf.report import Label, Reporter, suggest
from flowconf.report.origins import Path


def add(model: schema.Settings, at: Path, path: str, draft: Draft, reporter: Reporter) -> None:
    """Add what the modules at `path` follow to the draft; it is resolved later."""
    if model.follows is None:
        return
    key = reporter.key((*at, "follows"))
    if isinstance(model, schema.Reuse):
        message = "`follows` does not apply to `reuse`, whose parameters are those of an earlier step"
        reporter.error("FC0125", message, key, path=path, advice="write it in that step")
        return
    place = reporter.value((*at, "follows", "path"))
    follow = Follow(path, model.follows.path.strip(), model.follows.decay, place)
    first = draft.follows.setdefault(path, follow)
    if first is not follow:
        labels = (Label("first set here", first.place),)
        reporter.error("FC0142", f"`follows` is set twice for `{path}`", key, path=path, labels=labels)


def resolve(draft: Draft, reporter: Reporter) -> None:
    """Find what members follow, now that all members are known; members of outer graphs are left to them."""
    found: dict[str, Follow] = {}
    for follow in draft.follows.values():
        names = follow.home.split(".")
        if draft.is_broken(names[0]) or draft.is_broken(follow.path.split(".")[0]):
            continue
        if names[0] not in draft.members and draft.around is not None:
            found[follow.path] = follow
            continue
        try:
            found[follow.path] = replace(follow, home=_home(draft, follow.home))
        except NotFound as problem:
            message = problem.seen_from(draft.title).message
            reporter.error("FC0141", message, follow.place, path=follow.path, advice=problem.advice_for(follow.home))
    below = by_path(found)
    draft.follows = {path: follow for path, follow in found.items() if not _is_circular(follow, found, below, reporter)}


def _home(draft: Draft, text: str) -> str:
    """The path of the module that a text names. Raises `NotFound`."""
    names = text.split(".")
    if draft.step(names[0]) is None:
        steps = [name for name in draft.names() if draft.input(name) is None]
        raise NotFound(f"there is no step `{names[0]}`", suggest(names[0], steps, "steps"), names[0])
    return references.find_module(draft, names).path


def _is_circular(
    follow: Follow, found: Mapping[str, Follow], below: Mapping[str, Sequence[str]], reporter: Reporter
) -> bool:
    """Report a member that follows itself, a part of itself, or one that follows another one.

    `below` are the paths of `found` at and below each path.
    """
    mine, theirs = f"{follow.path}.", f"{follow.home}."
    message, advice = None, None
    labels: tuple[Label, ...] = ()
    if mine == theirs:
        message = f"`{follow.path}` follows itself"
    elif mine.startswith(theirs) or theirs.startswith(mine):
        inner, outer = (follow.path, follow.home) if mine.startswith(theirs) else (follow.home, follow.path)
        message = f"`{follow.path}` cannot follow `{follow.home}`: `{inner}` is a part of `{outer}`"
    close = next((path for path in above(follow.home) if path in found), None) or next(
        iter(below.get(follow.home, ())), None
    )
    if message is None and close is not None:
        other = found[close]
        message = f"`{follow.path}` cannot follow `{follow.home}`, because `{other.path}` itself follows `{other.home}`"
        labels, advice = (Label(f"`{other.path}` follows `{other.home}`", other.place),), f"follow `{other.home}`"
    if message is not None:
        reporter.error("FC0144", message, follow.place, path=follow.path, labels=labels, advice=advice)
    return message is not None
