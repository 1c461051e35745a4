"""Checks `init` against the parameters of the modules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn

from flowconf.graph.shapes.fake_values import WantsNumbers
from flowconf.graph.shapes.sizes import reworded
from flowconf.language.arguments import Literal
from flowconf.language.paths import by_path
from flowconf.language.plan import GraphPlan
from flowconf.language.settings import Start
from flowconf.report import Reporter, first_line, suggest


def check_initial_values(graph: GraphPlan, parameters: Mapping[str, tuple[int, ...]], reporter: Reporter) -> None:
    """Reject initial values for unknown parameters or of the wrong shape; `parameters` are sizes by path."""
    settings = [(path, setting) for path, setting in graph.all_settings() if setting.init]
    names = by_path(parameters if settings else ())
    misfit = cache(_misfit)  # many parameters have the same initial value
    for path, setting in settings:
        below = {name.removeprefix(f"{path}."): parameters[name] for name in names.get(path, ())}
        for start in setting.init:
            size = below.get(start.parameter)
            if size is None:
                message = f"`{path}` has no parameter `{start.parameter}`"
                advice = suggest(start.parameter, below, "parameters")
                cause = ("init", start.place)
                reporter.error("FC0207", message, start.place, path=path, advice=advice, cause=cause)
            elif (wrong := misfit(start, size)) is not None:
                reporter.error("FC0207", f"`{path}.{start.parameter}` {wrong}", start.how.place, path=path)


def _misfit(start: Start, size: tuple[int, ...]) -> str | None:
    """Why an initial value is invalid for a parameter of this shape, as the end of a sentence about it, or None."""
    try:
        fill(torch.empty(size), start)
    except WantsNumbers:
        return None
    except (ValueError, TypeError, RuntimeError, IndexError, OverflowError) as problem:
        why = reworded(first_line(problem))
        if isinstance(start.how, Literal):
            return f"has shape {list(size)}, but {why}"
        return f"of shape {list(size)} cannot be initialised with `{start.how}`: {why}"
    return None


def fill(tensor: Tensor, start: Start) -> None:
    """Set a tensor to an initial value: a number, a list, a scale of what it has, or a function of `torch.nn.init`."""
    if start.scale is not None:
        tensor.mul_(start.scale)
    elif isinstance(start.how, Literal):
        value = torch.tensor(start.how.plain, dtype=tensor.dtype)
        if value.dim() and value.shape != tensor.shape:
            raise ValueError(f"its initial value has shape {list(value.shape)}")
        tensor.copy_(value)
    else:
        args = [one.plain for one in start.how.args if isinstance(one, Literal)]
        kwargs = {name: one.plain for name, one in start.how.kwargs if isinstance(one, Literal)}
        getattr(nn.init, f"{start.how.name}_")(tensor, *args, **kwargs)
