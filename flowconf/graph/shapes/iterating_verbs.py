"""Verbs that run a module several times in the shape check: loops, and maps over slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowconf.graph.shapes.fake_values import UNKNOWN, difference, each, part_at, parts_of, stacked
from flowconf.graph.shapes.findings import Poisoned
from flowconf.graph.shapes.locating import end_of
from flowconf.graph.shapes.scope import Giver
from flowconf.graph.shapes.size_changes import changed_in, giving
from flowconf.graph.shapes.trial import Trial
from flowconf.graph.shapes.visit import Visit
from flowconf.language.paths import join
from flowconf.language.plan import Applied, LoopStep, MapStep, Mount, Step
from flowconf.language.resolve.step_inputs import misnamed

MOST_ROUNDS = 64
"""The maximum number of runs of the innermost body of nested loops in a rehearsal."""


def loop(trial: Trial, visit: Visit) -> Any:
    """The output of the last iteration, which must have the shape of the stream.

    The body runs once, or as often as a rehearsal requires.
    """
    step, stream = visit.step, visit.stream
    assert isinstance(step, LoopStep)
    if step.condition is not None:
        _check_condition(trial, visit, step.condition)
    result = _body(trial, visit)
    slices = _check_slices(trial, visit)
    times = step.times.value if step.times is not None else slices or MOST_ROUNDS
    assert isinstance(times, int)
    visit.scope.counts[step.name] = times if step.condition is None else trial.sizes.of("iterations")
    if result is UNKNOWN or stream is UNKNOWN or (times == 1 and parts_of(stream) is None):
        return result
    try:
        _check_kept(trial, visit, result)
    except Poisoned:
        held = visit.held
        held.once, held.parts, held.scopes = stream, {}, {}
        return stream
    _check_names(trial, visit, result)
    return _further(trial, visit, result, times) if trial.trains else result


def _check_condition(trial: Trial, visit: Visit, condition: Applied) -> None:
    value = trial.attempt(visit.at("condition"))
    if isinstance(value, Tensor) and value.numel() != 1:
        message = f"the condition of `{visit.path}` must return a single number, got {trial.sizes.show(value)}"
        trial.findings.error(visit, "FC0201", message, end_of(condition, visit.step))


def _body(trial: Trial, visit: Visit, repeated: int = 1) -> Any:
    """The output of one iteration of a loop or map, after `take`."""
    before = len(trial.findings)
    result = trial.apply(visit, repeated)
    if len(trial.findings) > before:
        raise Poisoned
    if visit.step.takes_each and result is not UNKNOWN:
        result = trial.taken(visit, result)
    visit.held.once = result
    return result


def _check_kept(trial: Trial, visit: Visit, result: Any) -> None:
    """A body must return the shapes of its inputs."""
    stream, module, show = visit.stream, visit.applied.target, trial.sizes.show
    where = difference(stream, result)
    if where is None:
        return
    got, gives = (stream, result) if where == "" else (part_at(stream, where), part_at(result, where))
    what = f"`{where}` of " if where else ""
    change = f"from {show(got)} to {show(gives)}"
    message = f"the loop `{visit.path}` changes {what}its stream {change} in the first iteration"
    advice, place = "the body must return the shape of its input", None
    output = dict(module.graph.outputs).get(where) if isinstance(module, Mount) else None
    meant = next((name for name, one in (parts_of(stream) or {}).items() if difference(one, gives) is None), None)
    if output is not None and meant is not None:
        place, advice = output.place, f"`{output}` has the shape of `{meant}`"
    place = place or changed_in(giving(visit, where), got, gives)
    trial.findings.error(visit, "FC0205", message, place, (visit.arrives(trial.sizes),), advice)


def _check_names(trial: Trial, visit: Visit, result: Any) -> None:
    """A body with several inputs must return each of them by name, or receive it by `using`."""
    body = visit.applied.target
    if not isinstance(body, Mount) or not isinstance(visit.stream, dict) or not isinstance(result, dict):
        return
    given = {*result, *(name for name, _ in visit.applied.using)}
    lost = [entry.name for entry in body.graph.inputs if entry.name not in given]
    if lost:
        held = ", ".join(f"`{name}`" for name in result)
        message = f"the body of the loop `{visit.path}` must return its input `{lost[0]}`, but returns {held}"
        wrong = misnamed(body.graph, lost[0], body.graph)
        advice = f"write `{lost[0]}`" if wrong is not None else f"rename one of its outputs to `{lost[0]}`"
        trial.findings.error(visit, "FC0205", message, wrong or visit.step.place, (), advice)


def _further(trial: Trial, visit: Visit, result: Any, times: int) -> Any:
    """Run enough iterations for every field to depend on all fields that it is computed from: as many as fields."""
    rounds = min(times, len(result) if isinstance(result, dict) else 1)
    if trial.rounds * rounds > MOST_ROUNDS:
        trial.result.certain = False
        return result
    before, trial.rounds = trial.rounds, trial.rounds * rounds
    for _ in range(rounds - 1):
        result = _body(trial, visit.fed(result, visit.giver))
    trial.rounds = before
    return result


def _check_slices(trial: Trial, visit: Visit) -> int | None:
    """Check that the values of `over` have the same number of slices, and return it, if any."""
    step = visit.step
    found = [(value, visit.scope.value(value)) for value in step.slices_of()]
    counts = {value: given.shape[step.along or 0] for value, given in found if isinstance(given, Tensor)}
    if len(set(counts.values())) > 1:
        listed = " and ".join(f"{trial.sizes.number(count)} of `{value}`" for value, count in counts.items())
        message = f"the loop `{visit.path}` iterates over different numbers of slices: {listed}"
        trial.findings.error(visit, "FC0205", message, step.place, advice="make their sizes equal")
    return next(iter(counts.values()), None)


def map_over(trial: Trial, visit: Visit) -> Any:
    """The outputs of the body for all slices, combined."""
    step, stream, show = visit.step, visit.stream, trial.sizes.show
    assert isinstance(step, MapStep)
    if stream is UNKNOWN:
        _body(trial, visit)
        return UNKNOWN
    if not isinstance(stream, Tensor):
        message = f"`{visit.path}` requires a tensor to map over, got {show(stream)}"
        trial.findings.error(visit, "FC0201", message, step.place)
    if step.slices is not None:
        return _pieces(trial, visit, stream, step.slices.value)
    dim = step.dim
    if not -stream.dim() <= dim < stream.dim():
        label = visit.arrives(trial.sizes)
        message = f"`{visit.path}` maps over dimension {dim}, but {label.message}"
        place = step.place_of("dim") if step.over is None else step.over.place
        trial.findings.error(visit, "FC0201", message, place, (label,))
    if step.batched and dim % stream.dim() == 0:
        message = "a batched map cannot map over dimension 0, the batch"
        trial.findings.error(visit, "FC0123", message, step.place_of("dim"))
    count = stream.shape[dim]
    result = _batched(trial, visit, stream, dim) if step.batched else _one_by_one(trial, visit, stream, dim)
    if trial.sizes.number(count) == str(count):
        visit.held.count = count
        trial.result.kinds[f"{join(visit.scope.path, step.name)}#"] = str(count)
    return result


def _batched(trial: Trial, visit: Visit, stream: Tensor, dim: int) -> Any:
    """All slices in one call, as rows of the batch."""
    moved = stream.movedim(dim, 1)
    result = _body(trial, visit.fed(moved.flatten(0, 1), visit.giver), repeated=stream.shape[dim])

    def unfolded(value: Tensor) -> Tensor:
        return value.reshape(*moved.shape[:2], *value.shape[1:])

    visit.held.whole = unfolded
    visit.held.single = lambda value: unfolded(value).select(1, 0)
    return UNKNOWN if result is UNKNOWN else each(result, lambda value: unfolded(value).movedim(1, dim))


def _one_by_one(trial: Trial, visit: Visit, stream: Tensor, dim: int) -> Any:
    count = stream.shape[dim]
    result = _body(trial, visit.fed(stream.select(dim, 0), _slice(visit)))
    visit.held.whole = lambda value: stacked(value, 0 if dim == 0 else 1, count)
    return UNKNOWN if result is UNKNOWN else each(result, lambda value: stacked(value, dim, count))


def _pieces(trial: Trial, visit: Visit, stream: Tensor, count: object) -> Any:
    """Split the last dimension into equal slices."""
    assert isinstance(count, int)
    if stream.dim() == 0 or stream.shape[-1] % count:
        message = (
            f"`{visit.path}` cannot split the last dimension of {trial.sizes.show(stream)} into {count} equal slices"
        )
        trial.findings.error(visit, "FC0201", message, visit.step.place_of("slices"), (visit.arrives(trial.sizes),))
    result = _body(trial, visit.fed(stream.chunk(count, -1)[0], _slice(visit)))
    visit.held.count = count
    visit.held.whole = lambda value: stacked(value, 1, count)
    return UNKNOWN if result is UNKNOWN else each(result, lambda part: torch.cat([part] * count, -1))


def _slice(visit: Visit) -> Giver:
    return Giver(f"{visit.giver.name}[i]", visit.giver.place)


VERBS: dict[type[Step], Callable[[Trial, Visit], Any]] = {LoopStep: loop, MapStep: map_over}
