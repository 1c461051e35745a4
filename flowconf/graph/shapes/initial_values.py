"""Checks `init` against the parameters of the modules."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from flowconf.graph.shapes.fake_values import WantsNumbers
from flowconf.graph.shapes.sizes import reworded
from flowconf.language.arguments import Call, Literal
from flowconf.language.paths import by_path
from flowconf.language.plan import GraphPlan
from flowconf.language.settings import Start
from flowconf.report import Reporter, first_line, suggest


def check_initial_values(graph: GraphPlan, parameters: Mapping[str, tuple[int, ...]], reporter: Reporter) -> None:
    """Reject initial values for unknown parameters or of the wrong shape; `parameters` are sizes by path."""
    settings = [(path, setting) for path, setting in graph.all_settings() if setting.init]
    names = by_path(parameters if settings else ())
    for path, setting in settings:
        below = {name.removeprefix(f"{path}."): parameters[name] for name in names.get(path, ())}
        for start in setting.init:
            size = below.get(start.parameter)
            if size is None:
                message = f"`{path}` has no parameter `{start.parameter}`"
                advice = suggest(start.parameter, below, "parameters")
                cause = ("init", start.place)
                reporter.error("FC0207", message, start.place, path=path, advice=advice, cause=cause)
            elif (wrong := _misfit(start, size, f"`{path}.{start.parameter}`")) is not None:
                reporter.error("FC0207", wrong, start.how.place, path=path)


def _misfit(start: Start, size: tuple[int, ...], shown: str) -> str | None:
    """Why an initial value is invalid for a parameter of this shape, or None."""
    if isinstance(start.how, Call):
        why = _refusal(start.how, size)
        return None if why is None else f"{shown} of shape {list(size)} cannot be initialized with `{start.how}`: {why}"
    if not isinstance(start.how.value, tuple):
        return None
    given = tuple(torch.tensor(start.how.plain).shape)
    return None if given == size else f"{shown} has shape {list(size)}, but its initial value has shape {list(given)}"


def _refusal(how: Call, size: tuple[int, ...]) -> str | None:
    """Why a function of `torch.nn.init` cannot initialize a parameter of this shape, or None."""
    try:
        initialize(torch.empty(size), how)
    except WantsNumbers:
        return None
    except (ValueError, TypeError, RuntimeError, IndexError) as problem:
        return reworded(first_line(problem))
    return None


def initialize(tensor: Tensor, how: Call) -> None:
    """Fill a tensor by a function of `torch.nn.init`, whose arguments are plain."""
    args = [one.plain for one in how.args if isinstance(one, Literal)]
    kwargs = {name: one.plain for name, one in how.kwargs if isinstance(one, Literal)}
    getattr(nn.init, f"{how.name}_")(tensor, *args, **kwargs)
