"""Verbs with several modules in the shape check: checks that their outputs can be added, merged or selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from flowconf.graph.shapes import faults
from flowconf.graph.shapes.fake_values import UNKNOWN, difference
from flowconf.graph.shapes.findings import Poisoned
from flowconf.graph.shapes.known_calls import computed
from flowconf.graph.shapes.locating import apart, end_of, number_in, skip_is_odd
from flowconf.graph.shapes.scope import Giver
from flowconf.graph.shapes.size_changes import changed_in
from flowconf.graph.shapes.trial import Trial
from flowconf.graph.shapes.visit import Visit
from flowconf.language.arguments import Call
from flowconf.language.paths import join
from flowconf.language.plan import AlsoStep, Applied, GateStep, SplitStep, Step, SwitchStep
from flowconf.report import Label, Place

MERGES: dict[str, Callable[[Sequence[Any], int | None], Any]] = {
    "add": lambda values, dim: sum(values[1:], values[0]),
    "mean": lambda values, dim: sum(values[1:], values[0]) / len(values),
    "mul": lambda values, dim: reduce(torch.mul, values),
    "max": lambda values, dim: reduce(torch.maximum, values),
    "cat": lambda values, dim: torch.cat(list(values), dim or 0),
    "stack": lambda values, dim: torch.stack(list(values), dim or 0),
}

Outputs = Mapping[str, Any]
"""Branch -> its output."""


def also(trial: Trial, visit: Visit) -> Any:
    """The output of the body, after `take`, plus the stream or the output of `skip`."""
    step, stream, show = visit.step, visit.stream, trial.sizes.show
    assert isinstance(step, AlsoStep)
    change = trial.attempt(visit)
    if step.take is not None and change is not UNKNOWN:
        change = trial.taken(visit, change)
    kept = stream if step.skip is None else trial.attempt(visit.at("skip"))
    if kept is UNKNOWN or change is UNKNOWN:
        return UNKNOWN
    try:
        if isinstance(kept, Tensor) and isinstance(change, Tensor):
            return computed(MERGES["add"], [kept, change], None)
        raise TypeError  # tuples would be concatenated
    except (RuntimeError, TypeError):
        what = "its stream" if step.skip is None else "the output of `skip`"
        message = f"`{visit.path}` cannot add {show(change)} to {what}, {show(kept)}"
        advice = "make both shapes equal, or add a module as `skip`"
        if not isinstance(kept, Tensor) or not isinstance(change, Tensor):
            advice = "only tensors can be added: select one of several values with `take`"
        place = changed_in(visit, kept, change)
        if step.skip is not None and skip_is_odd(stream, change, kept):
            place = changed_in(visit.at("skip"), change, kept)
        trial.findings.error(visit, "FC0203", message, place, (visit.arrives(trial.sizes),), advice)


def split(trial: Trial, visit: Visit) -> Any:
    """The merged outputs of all branches."""
    step, show = visit.step, trial.sizes.show
    assert isinstance(step, SplitStep)
    branches = _branches(trial, visit)
    values = list(branches.values())
    if any(value is UNKNOWN for value in values):
        raise Poisoned
    if isinstance(step.merge, Applied):
        return trial.apply(visit.at("merge").fed(values, Giver(step.name, step.place)))
    try:
        return computed(MERGES[str(step.merge)], values, step.dim)
    except (RuntimeError, TypeError, IndexError):
        path = visit.path
        shown = ", ".join(f"`{path}.{name}` has shape {show(value)}" for name, value in branches.items())
        labels = tuple(
            Label(f"`{path}.{name}` has shape {show(branches[name])}", end_of(part, step)) for name, part in step.parts
        )
        if any(isinstance(value, Tensor) and not -value.dim() <= step.dim < value.dim() for value in values):
            message = f"`{path}` merges along dimension {step.dim}, but {shown}"
            trial.findings.error(visit, "FC0203", message, step.place_of("dim"), labels)
        odd = _odd(visit, branches)
        place = step.place_of("merge") if odd is None else _in_branch(visit.at(odd), branches)
        message = f"the branches of `{path}` cannot be merged by `{step.merge}`: {shown}"
        trial.findings.error(visit, "FC0203", message, place, labels)


def gate(trial: Trial, visit: Visit) -> Any:
    """The sum of the branches, weighted by the router."""
    router = visit.step.reader
    choice, branches = _routed(trial, visit)
    first = next(iter(branches.values()))
    weights = choice.shape[-1] if isinstance(choice, Tensor) and choice.dim() else 1
    if weights != len(branches) or not isinstance(first, Tensor):
        shown = trial.sizes.show(choice)
        message = (
            f"the router of `{visit.path}` must return one weight for each of {len(branches)} experts, got {shown}"
        )
        place = number_in(router.target, weights) or end_of(router, visit.step)
        trial.findings.error(visit, "FC0201", message, place)
    rank = trial.result.ranks[join(visit.scope.path, visit.step.name)] = max(first.dim() - choice.dim(), 0)
    if not trial.trains or not isinstance(choice, Tensor):
        return first
    return computed(_weighted, [choice, *branches.values()], rank)


def _weighted(values: Sequence[Tensor], rank: int) -> Any:
    """The sum of the values after the first one, weighted by the last dimension of that."""
    choice, *branches = values
    axes = (..., *[None] * (rank + 1))
    return sum(choice[..., number][axes] * value for number, value in enumerate(branches))


def switch(trial: Trial, visit: Visit) -> Any:
    """The output of the branch that the router selects."""
    router, stream = visit.step.reader, visit.stream
    choice, branches = _routed(trial, visit)
    _check_count(trial, visit, router, len(branches))
    rows = next((held.shape[0] for held in tree_leaves(stream) if isinstance(held, Tensor) and held.dim()), 1)
    if isinstance(choice, Tensor) and choice.numel() not in (1, rows):
        shown = trial.sizes.show(choice)
        message = f"the router of `{visit.path}` must return one index, or one index per row, got {shown}"
        advice = "use `ArgmaxSelector` to select a branch for each row"
        trial.findings.error(visit, "FC0201", message, end_of(router, visit.step), advice=advice)
    values = list(branches.values())
    return _any_of(values) if trial.trains else values[0]


def _branches(trial: Trial, visit: Visit) -> dict[str, Any]:
    return {name: trial.attempt(visit.at(name)) for name, _ in visit.step.parts}


def _routed(trial: Trial, visit: Visit) -> tuple[Any, Outputs]:
    """The outputs of the router and of the branches, which must have the same shape."""
    step, show = visit.step, trial.sizes.show
    choice = trial.attempt(visit.at("router"))
    branches = _branches(trial, visit)
    if choice is UNKNOWN or any(value is UNKNOWN for value in branches.values()):
        raise Poisoned
    odd, path = _odd(visit, branches), visit.path
    if odd is not None:
        other = next(name for name, value in branches.items() if difference(branches[odd], value) is not None)
        has = f"`{path}.{other}` has shape {show(branches[other])}"
        wrong = f"`{path}.{odd}` has shape {show(branches[odd])}"
        message = f"the branches of `{path}` must have the same shape, but {wrong} and {has}"
        label = Label(has, end_of(dict(step.parts)[other], step))
        trial.findings.error(visit, "FC0203", message, _in_branch(visit.at(odd), branches), (label,))
    return choice, branches


def _any_of(values: list[Any]) -> Any:
    """A value with the autograd history of several values of one shape."""
    if all(isinstance(value, Tensor) and value.is_floating_point() for value in values):
        return computed(MERGES["add"], values, None)
    return values[0]


def _check_count(trial: Trial, visit: Visit, router: Applied, count: int) -> None:
    """Check the number of branches or the index that a selector declares."""
    call, path = router.target, visit.path
    given = faults.bound(call) if isinstance(call, Call) else {}
    branches, index = given.get("branches"), given.get("index")
    if branches is not None and branches.value != count:
        message = f"the router of `{path}` selects from {branches.value} branches, expected {count}"
        trial.findings.error(visit, "FC0201", message, branches.place, advice=f"write `{count}`")
    if index is not None and isinstance(index.value, int) and not 0 <= index.value < count:
        message = f"the router of `{path}` selects branch {index.value}, but there are only {count}"
        trial.findings.error(visit, "FC0201", message, index.place, advice=f"the last is `{count - 1}`")


def _odd(visit: Visit, branches: Outputs) -> str | None:
    """The branch whose shape differs from the others, None if all shapes are equal.

    Of two, the one that changes sizes of the stream that the other keeps, or else the last.
    """
    names = [name for name, _ in visit.step.parts]
    first = branches[names[0]]
    if all(isinstance(value, Tensor) and difference(first, value) is None for value in branches.values()):
        return None
    alike = {name: sum(difference(branches[name], branches[other]) is None for other in names) for name in names}
    fewest = min(alike.values())
    if fewest == len(names):
        return None
    odd = [name for name in names if alike[name] == fewest]
    dims = set().union(*(apart(branches[odd[-1]], branches[name]) for name in names))
    changed = {name: len(dims.intersection(apart(visit.stream, branches[name]))) for name in odd}
    return max(reversed(odd), key=changed.__getitem__)


def _in_branch(odd: Visit, branches: Outputs) -> Place:
    """The place that determines the shape of the branch that differs from the others."""
    step, gives = odd.step, branches[odd.spot]
    but = step.dim if isinstance(step, SplitStep) and step.merge == "cat" else None
    other = next((value for value in branches.values() if difference(gives, value) is not None), None)
    return changed_in(odd, other, gives, but)


VERBS: dict[type[Step], Callable[[Trial, Visit], Any]] = {
    AlsoStep: also,
    SplitStep: split,
    GateStep: gate,
    SwitchStep: switch,
}
