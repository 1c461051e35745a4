"""Locates what determines a size of the output of a body: a number in a call, or the last module that changes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from flowconf.graph.shapes import faults
from flowconf.graph.shapes.fake_values import called
from flowconf.graph.shapes.locating import apart, backwards, end_of, number_in
from flowconf.graph.shapes.scope import Scope
from flowconf.graph.shapes.visit import Visit
from flowconf.language.arguments import Argument, Call, Literal
from flowconf.language.paths import join
from flowconf.language.plan import Chain, Mount, Step
from flowconf.language.registry import modules
from flowconf.report import Place

RESIZE = ("padding", "output_padding", "stride", "scale_factor", "dilation", "kernel_size", "size", "output_size")
"""Arguments that change the sizes after batch and channels, in order of preference."""
TRIED = range(17)
"""Values that are tried instead of a wrong one."""


def giving(body: Visit, field: str) -> Visit:
    """The visit of the step that returns an output of a graph; for other modules, `body`."""
    module, scope = body.applied.target, body.inner
    value = dict(module.graph.outputs).get(field) if isinstance(module, Mount) else None
    step = scope.graph.step(value.member) if scope is not None and value is not None else None
    if step is None or scope is None or len(step.parts) != 1:
        return body
    return _ran(step, scope)


def _ran(step: Step, scope: Scope) -> Visit:
    """The visit of a step's body in a scope that has run."""
    return Visit(step, scope, scope.value(step.stream), scope.giver(step.stream))


def changed_in(body: Visit, wanted: Any, gives: Any, but: int | None = None) -> Place:
    """Where a body determines the sizes that differ from those wanted, or else its last module.

    The dimension `but` may differ.
    """
    dims = [dim for dim in apart(wanted, gives) if dim != but]
    written = number_in(body.applied.target, gives.shape[dims[0]]) if len(dims) == 1 else None
    last = next(_changes(body, gives, dims), None) if dims and written is None else None
    if last is None:
        return written or end_of(body.applied, body.step)
    found = _number(last.applied.target, last.stream, wanted, dims)
    return found or end_of(last.applied, last.step)


def _changes(body: Visit, gives: Any, dims: list[int]) -> Iterator[Visit]:
    """The modules of a body that change these dimensions of the stream, the last first."""
    if not _differ(body.stream, gives, dims):
        return
    module, scope = body.applied.target, body.inner
    if body.step.collects:
        yield body  # its modules see slices, of other dimensions
    elif isinstance(module, Chain):
        parts = body.held.parts
        spots = [join(body.spot, str(number)) for number in range(len(module.members))]
        values = [body.stream, *(parts.get(spot) for spot in spots)]
        for number, spot in reversed([*enumerate(spots)]):
            yield from _changes(body.at(spot).fed(values[number], body.giver), values[number + 1], dims)
    elif isinstance(module, Mount) and _is_written_here(module) and scope is not None:
        for step in backwards(scope.graph):
            if len(step.parts) == 1:
                yield from _changes(_ran(step, scope), scope.local[step.name], dims)
    else:
        yield body


def _is_written_here(mount: Mount) -> bool:
    """Whether a graph is written in place and has a single output."""
    return mount.graph.source_name is None and len(mount.graph.outputs) == 1


def _differ(before: Any, after: Any, dims: list[int]) -> bool:
    if not isinstance(before, Tensor) or not isinstance(after, Tensor) or before.dim() != after.dim():
        return True
    return any(before.shape[dim : dim + 1] != after.shape[dim : dim + 1] for dim in dims)


def _number(call: object, stream: Any, wanted: Tensor, dims: list[int]) -> Place | None:
    """The argument of a call that makes the sizes differ from those wanted.

    Of several, the one that requires the smallest change.
    """
    if not isinstance(call, Call) or min(dims) < 2:
        return None
    given = faults.bound(call)
    found = [given[name] for name in RESIZE if name in given and (given[name].place.line or given[name].place.word)]
    if len(found) < 2:
        return found[0].place if found else None
    fits = [
        (abs(value - one.value), number)
        for number, one in enumerate(found)
        for value in TRIED
        if isinstance(one.value, int) and not isinstance(one.value, bool)
        and not _differ(wanted, _with(call, one, value, stream), dims)
    ]  # fmt: skip
    return found[min(fits)[1]].place if fits else None


def _with(call: Call, wrong: Literal, value: int, stream: Any) -> Any:
    """The output of a call with another value for one argument; None on an error."""

    def plain(given: Argument) -> Any:
        assert isinstance(given, Literal)
        return value if given is wrong else given.plain

    try:
        made = modules.load(call.name)(*map(plain, call.args), **{name: plain(one) for name, one in call.kwargs})
        return called(made, stream, {})
    except Exception:  # noqa: BLE001 - a module may raise anything, and the mismatch was reported
        return None
