"""What failed inside a forward pass: the step, its place in the document, what arrived. Costs nothing until then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from flowconf.diagnostics import Place

if TYPE_CHECKING:
    from flowconf.graph.graph import Graph

MARK = "_flowconf_explained"


def add_notes(problem: BaseException, graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Note path, place and inputs on an exception that passes through `graph`; the outermost graph completes them."""
    path, place = _step_behind(problem, graph)
    inner = getattr(problem, MARK, None)
    if inner is None:
        given = [*args, *kwargs.values()]
        names = [*graph.inputs[: len(args)], *kwargs]
        shown = ", ".join(f"`{name}` {_shown(value)}" for name, value in zip(names, given, strict=False))
        inner = (path, place, shown)
    else:
        inner = (f"{path}.{inner[0]}" if path and inner[0] else path or inner[0], inner[1] or place, inner[2])
    notes = [note for note in getattr(problem, "__notes__", []) if not note.startswith("in step ")]
    where = f" ({inner[1]})" if inner[1] is not None else ""
    notes.append(f"in step `{inner[0] or graph.plan.label}`{where}; its graph got {inner[2] or 'nothing'}")
    try:
        setattr(problem, MARK, inner)
        problem.__notes__ = notes
    except AttributeError:
        return


def _step_behind(problem: BaseException, graph: Graph) -> tuple[str, Place | None]:
    """The step of `graph` that was running: the last frame of the traceback in its generated source."""
    program = graph._program
    found: tuple[str, Place | None] = ("", None)
    trace = problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == program.file and trace.tb_frame.f_locals.get("self") is graph:
            found = program.lines.get(trace.tb_lineno, found)
        trace = trace.tb_next
    return found


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
    return f"a {type(value).__name__}"
