"""Unused parameters and inputs of a graph document."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from flowconf.language.plan import Value
from flowconf.language.resolve.draft import Draft, Params
from flowconf.report import NOWHERE, Advice, Place, Reporter, Suggestion
from flowconf.report.origins import Path, dotted


def has_removed(path: Path, reporter: Reporter) -> bool:
    """Whether a step was removed from the document at `path`, which may have used the parameters."""
    flow = reporter.origins.at((*path, "flow"))
    return flow is not None and (bool(flow.gone) or any(member.value is None for _, member in flow.members()))


def left(params: Params, draft: Draft, reporter: Reporter) -> dict[str, Place]:
    """The unused parameters, with their places."""
    at = (*draft.path, "params")
    names = [name for name in params if name not in params.used and not reporter.origins.is_referred((*at, name))]
    return {name: reporter.key((*at, name)) for name in names}


def unread(draft: Draft, outputs: Collection[tuple[str, Value]], asked: Collection[str]) -> dict[str, Place]:
    """The names that no reference uses, with their places, whether or not the next step reads them as its stream."""
    named = {value.member for step in draft.steps for value in step.reads if value.place != NOWHERE}
    named |= {value.member for _, value in outputs if value.place != NOWHERE} | set(asked)
    return {name: place for name, place in draft.members.items() if name not in named}


def _declared_in(path: Path, reporter: Reporter) -> str | None:
    """The file that first set a parameter."""
    node = reporter.origins.at(path)
    return (*node.history, node.place)[0].file if node is not None else None


def check_params(params: Params, draft: Draft, notes: Reporter) -> None:
    """Report unused parameters: as an error if an override or another file adds them, otherwise as a warning."""
    at: Path = (*draft.path, "params")
    own = {notes.value((*draft.path, "flow")).file, *(_declared_in((*at, name), notes) for name in params.used)}
    for name, place in left(params, draft, notes).items():
        close = next(iter(get_close_matches(name, [known for known in params if known in params.used], 1, 0.75)), None)
        if place.word is not None or place.file not in own:
            advice: Advice = Suggestion(close, name) if close else "use the parameter in a call or a size of the graph"
            message = f"unknown key `{dotted((*at, name))}`: the graph does not use a parameter `{name}`"
            notes.error("FC0102", message, place, at=(*at, name), advice=advice)
        elif not has_removed(draft.path, notes):
            advice = f"write `{close}`, or remove it" if close else "use it in a call or a size, or remove it"
            message = f"unused parameter `{name}`"
            notes.warn("FC0149", message, place, at=(*at, name), advice=advice)


def check_inputs(draft: Draft, outputs: Collection[tuple[str, Value]], asked: Collection[str], notes: Reporter) -> None:
    """Report inputs that no step and no output reads; `asked` are names that are read from outside."""
    read = {value.member for step in draft.steps for value in step.reads}
    read |= {value.member for _, value in outputs} | set(asked)
    for given in draft.inputs:
        if given.name not in read and not given.captured and given.shape is not None:
            first = draft.steps[0] if draft.steps else None
            advice = "read it with `from` or `using`, or remove it"
            if given is draft.inputs[0] and first is not None:
                advice = f"`{first.name}` reads `{first.stream}`: remove its `from`, or remove the input"
            message = f"unused input `{given.name}`"
            notes.warn("FC0149", message, given.place, at=(*draft.path, "inputs", given.name), advice=advice)
