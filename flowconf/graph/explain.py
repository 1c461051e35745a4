"""What failed inside a forward pass: the step, its place in the document, what arrived. Costs nothing until then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from flowconf.diagnostics import Place
from flowconf.language.plan import join

if TYPE_CHECKING:
    from flowconf.graph.graph import Graph

NOTE = "in step "
MARK = "_flowconf_step"
"""The attribute in which an exception carries the path of its step, and the step's place."""


def add_notes(problem: BaseException, graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Note on an exception that leaves `graph` in which step it was raised, and what the graph around it was given."""
    path = ""
    place: Place | None = None
    given: dict[str, Any] = dict(zip(graph.inputs, args, strict=False)) | kwargs
    for frame, line in _frames(problem):
        owner = frame.f_locals.get("self")
        program = getattr(owner, "_program", None)
        if program is None or frame.f_code.co_filename != program.file:
            continue
        step, where = program.lines.get(line, ("", None))
        path, place = join(path, step), where or place
        names = [name for name in owner.inputs if name in frame.f_locals]  # type: ignore[union-attr]
        given = {name: frame.f_locals[name] for name in names} or given
    if hasattr(problem, MARK):
        return
    shown = ", ".join(f"`{name}` {_shown(value)}" for name, value in given.items())
    where_text = f" ({place})" if place is not None else ""
    with suppress(Exception):  # whatever an exception has against notes, it is what must be seen
        setattr(problem, MARK, (path, place))
        problem.add_note(f"{NOTE}`{path or graph.plan.label}`{where_text}; its graph got {shown or 'nothing'}")


def _frames(problem: BaseException) -> Iterator[tuple[FrameType, int]]:
    """The frames that an exception came through, the outermost first, with the line in each."""
    trace = problem.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
    return f"a {type(value).__name__}"
